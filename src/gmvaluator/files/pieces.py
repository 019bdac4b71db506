"""A study's working folder keeps every finished piece, so that a killed study can go on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gmvaluator.errors import RunError
from gmvaluator.files.atomic import publish_file, remove_leftovers
from gmvaluator.files.records import UNREADABLE


class Workspace:
    """The working folder of a study.

    Generators, samples and classifiers live in sub-folders that the study names. Small results
    ("pieces") are JSON files under `pieces/`, each named by a hash of its key.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.folder, recursive=True)
        except OSError as error:
            raise RunError(
                f"{self.folder} cannot be written ({error.strerror or error}); choose another "
                "working folder"
            ) from error

    def path(self, *parts: str) -> Path:
        """A path in the working folder; makes the folders above it."""
        whole = self.folder.joinpath(*parts)
        whole.parent.mkdir(parents=True, exist_ok=True)
        return whole

    def piece(
        self, kind: str, key: Mapping[str, Any], compute: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """The result of `compute`, taken from an earlier run where one finished it.

        Args:
            kind: sub-folder under `pieces/`, the study's name.
            key: everything that decides the result, as JSON.
            compute: the work; returns JSON. The seconds it takes are stored with the result.
        """
        text = json.dumps(key, sort_keys=True, ensure_ascii=False)
        name = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
        file = self.path("pieces", kind, f"{name}.json")
        content = _read(file)
        if content is not None and content.get("key") == json.loads(text):
            result: dict[str, Any] = content["result"]
            return result
        start = time.perf_counter()
        computed = dict(compute())
        seconds = round(time.perf_counter() - start, 3)
        content = {"key": json.loads(text), "seconds": seconds, "result": computed}
        with publish_file(file) as part:
            part.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
        # read back, so that a resumed study goes on with the same numbers as this one
        again: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["result"]
        return again

    def pieces(self) -> int:
        """Number of finished pieces of all kinds."""
        return sum(1 for _ in self.folder.glob("pieces/*/*.json"))

    def seconds(self, kind: str) -> float:
        """Seconds that the finished pieces of a kind took together."""
        folder = self.folder / "pieces" / kind
        pieces = [_read(file) for file in sorted(folder.glob("*.json"))]
        return float(sum(piece["seconds"] for piece in pieces if piece))


def _read(file: Path) -> dict[str, Any] | None:
    """The content of a finished piece; None where the file is missing or damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except UNREADABLE:
        return None
    return content if isinstance(content, dict) and "result" in content else None
