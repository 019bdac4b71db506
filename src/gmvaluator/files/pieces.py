"""A study's working folder: every finished piece is kept, so that a killed study goes on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gmvaluator.errors import RunError
from gmvaluator.files.atomic import publish_file, remove_leftovers


class Workspace:
    """Files of a study, and its pieces by what decided them.

    Generators, samples and classifiers live in sub-folders that studies name; small results are
    JSON files under `pieces/`, found again by a hash of their key.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.folder, recursive=True)
        except OSError as error:
            raise RunError(
                f"{self.folder} cannot be written ({error.strerror or error}); choose another "
                "working folder"
            ) from error

    def path(self, *parts: str) -> Path:
        """A path inside, whose folder exists."""
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
            compute: the work; returns JSON. Its seconds are kept beside it.
        """
        text = json.dumps(key, sort_keys=True, ensure_ascii=False)
        name = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
        file = self.path("pieces", kind, f"{name}.json")
        kept = _read(file)
        if kept is not None and kept.get("key") == json.loads(text):
            result: dict[str, Any] = kept["result"]
            return result
        start = time.perf_counter()
        computed = dict(compute())
        seconds = round(time.perf_counter() - start, 3)
        content = {"key": json.loads(text), "seconds": seconds, "result": computed}
        with publish_file(file) as part:
            part.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
        # read back: what a resumed study sees is what this one goes on with
        again: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["result"]
        return again

    def pieces(self) -> int:
        """How many finished pieces of all kinds are kept."""
        return sum(1 for _ in self.folder.glob("pieces/*/*.json"))

    def seconds(self, kind: str) -> float:
        """What the kept pieces of a kind took together."""
        folder = self.folder / "pieces" / kind
        pieces = [_read(file) for file in sorted(folder.glob("*.json"))]
        return float(sum(piece["seconds"] for piece in pieces if piece))


def _read(file: Path) -> dict[str, Any] | None:
    """A kept piece; None where there is none or it is damaged, and is then made again."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and "result" in content else None
