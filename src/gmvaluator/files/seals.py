"""Hashes of the files of a result folder, and a seal over the hashes.

Hashes show accidents and careless edits. A person who can rewrite every file can rewrite the seal
as well; only a copy of the seal that is kept elsewhere shows such a change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

FILES, SEAL = "files", "seal"
EARLIER_SEALS = "earlier_seals"
"""Key under which a run that was extended keeps the seals it had before."""
RUN_SEAL = "run_seal"
"""Key under which a payout, audit or curation keeps the seal of its run."""


def hash_file(file: Path, algorithm: str | Callable[[], Any] = "sha256") -> str:
    """Hex digits of the hash of a file's content: 64 by default, of SHA-256.

    Raises:
        OSError: the file cannot be read.
    """
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, algorithm).hexdigest()


def sealed(
    info: Mapping[str, Any], folder: Path, names: Iterable[str] | None = None
) -> dict[str, Any]:
    """`info` with the hashes of files of `folder`, and a seal over both.

    Args:
        info: content of the folder's marker file, as JSON takes it.
        folder: of the files.
        names: of the files. Default: all that are in the folder, in sub-folders too.
    """
    if names is None:
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        names = [file.relative_to(folder).as_posix() for file in files]
    hashes = {name: hash_file(folder / name) for name in names}
    # as JSON will give it back: keys that are numbers become strings, and sort as strings
    content: dict[str, Any] = json.loads(json.dumps(unsealed(info) | {FILES: hashes}))
    return content | {SEAL: seal_of(content)}


def unsealed(info: Mapping[str, Any]) -> dict[str, Any]:
    """`info` without hashes and seal."""
    return {name: value for name, value in info.items() if name not in (FILES, SEAL)}


def seal_of(info: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of everything but the seal."""
    content = {name: value for name, value in info.items() if name != SEAL}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def recorded_files(info: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 by name of the files beside a marker; empty if the marker recorded no files."""
    files = info.get(FILES)
    return files if isinstance(files, dict) else {}


def broken(info: Mapping[str, Any], folder: Path) -> list[str]:
    """A sentence for each file or record that differs from what `sealed` recorded.

    Empty for an intact folder, and for one of an early version that recorded no hashes.
    """
    problems = []
    if SEAL in info and info[SEAL] != seal_of(info):
        problems.append("the record itself was changed (its seal does not fit)")
    if not isinstance(info.get(FILES, {}), dict):
        return [*problems, "its list of files is damaged"]
    for name, recorded in recorded_files(info).items():
        file = folder / name
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif hash_file(file) != recorded:
            problems.append(f"{name} was changed")
    return problems
