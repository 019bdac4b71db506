"""What a cache folder holds, and making it smaller."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gmvaluator.errors import InputError
from gmvaluator.files.atomic import remove_leftovers
from gmvaluator.files.store import (
    SHARD_ROWS,
    Shard,
    Store,
    checksum,
    open_shards,
    report_damage,
    write_shard,
)
from gmvaluator.progress import Progress, Silent

DAY = 86_400


@dataclass(frozen=True)
class Holding:
    """One thing in a cache: the embeddings of an encoder, an index, or the files of a folder.

    `items` are vectors or files; `used` is the time of last use, in seconds since 1970.
    """

    kind: str
    name: str
    items: int
    bytes: int
    used: float


@dataclass(frozen=True)
class Pruned:
    """What `prune` did: vectors and indexes dropped, bytes freed, small shards merged."""

    vectors: int
    indexes: int
    merged: int
    freed: int

    def as_json(self) -> dict[str, int]:
        return asdict(self)


def survey(store: Store) -> list[Holding]:
    """Everything a cache folder holds, embeddings first; damaged shards are dropped on the way."""
    holdings = []
    for table in _tables(store):
        shards = open_shards(table)
        if shards:
            paths = [shard.path for shard in shards]
            vectors = sum(len(shard.keys) for shard in shards)
            holdings.append(
                Holding("embeddings", shards[0].encoder, vectors, _size(paths), _used(paths))
            )
    for note in sorted((store.folder / "indexes").glob("[!.]*.json")):
        files = [file for file in (note, note.with_suffix("")) if file.is_file()]
        holdings.append(Holding("index", _index_name(note), 1, _size(files), _used([note])))
    for kind in ("weights", "demo"):
        files = [file for file in (store.folder / kind).rglob("*") if file.is_file()]
        if files:
            holdings.append(Holding(kind, "", len(files), _size(files), _used(files)))
    return holdings


def prune(
    store: Store, *, older_than: float | None = None, progress: Progress | None = None
) -> Pruned:
    """Drop what is damaged, left over or held twice, and merge small shards.

    Downloaded weights stay. Do not prune while a run uses the cache: it would compute again what
    it was about to read.

    Args:
        older_than: also drop embeddings and indexes that were not used for so many days; 0 drops
            all of them.

    Raises:
        InputError: a negative number of days.
        RunError: a merged shard cannot be written.
    """
    if older_than is not None and not older_than >= 0:
        raise InputError(f"{older_than} days were given; pass a number of days ≥ 0")
    before = total_bytes(store)
    limit = None if older_than is None else time.time() - older_than * DAY
    vectors = merged = indexes = 0
    tables = _tables(store)
    with (progress or Silent()).stage("prune", len(tables)) as advance:
        for table in tables:
            dropped, joined = _prune_table(table, limit)
            vectors, merged = vectors + dropped, merged + joined
            advance(1)
    folder = store.folder / "indexes"
    if folder.is_dir():
        remove_leftovers(folder)
    for note in folder.glob("[!.]*.json"):
        if limit is not None and note.stat().st_mtime <= limit:
            note.with_suffix("").unlink(missing_ok=True)
            note.unlink()
            indexes += 1
    for index in [file for file in folder.glob("[!.]*") if not file.suffix]:
        # an index without its note was never finished
        if not index.with_suffix(".json").is_file():
            index.unlink()
            indexes += 1
    return Pruned(vectors, indexes, merged, max(0, before - total_bytes(store)))


def total_bytes(store: Store) -> int:
    """Bytes of all files of a cache folder."""
    return _size([file for file in store.folder.rglob("*") if file.is_file()])


def _prune_table(folder: Path, limit: float | None) -> tuple[int, int]:
    """(vectors dropped, shards merged)"""
    dropped = 0
    kept: list[Shard] = []
    for shard in open_shards(folder):
        used = shard.path.stat().st_mtime
        if limit is not None and used <= limit:
            shard.path.unlink(missing_ok=True)
            dropped += len(shard.keys)
        # not `verify`, which counts as a use
        elif checksum(shard.path) == shard.path.stem:
            kept.append(shard)
        else:
            report_damage(shard.path)
    merged = _merge(folder, [shard for shard in kept if len(shard.keys) < SHARD_ROWS])
    if not any(folder.iterdir()):
        folder.rmdir()
    return dropped, merged


def _merge(folder: Path, shards: list[Shard]) -> int:
    """Rewrite small shards as few full ones; the old ones go when the new ones are there."""
    if len(shards) < 2:
        return 0
    places: dict[bytes, tuple[Shard, int]] = {}
    for shard in shards:
        for row, key in enumerate(shard.keys):
            places.setdefault(key, (shard, row))
    keys = list(places)
    written = set()
    for start in range(0, len(keys), SHARD_ROWS):
        full = {key: places[key][0].row(places[key][1]) for key in keys[start : start + SHARD_ROWS]}
        written.add(write_shard(folder, shards[0].encoder, full).path)
    for shard in shards:
        if shard.path not in written:
            shard.path.unlink(missing_ok=True)
    return len(shards)


def _tables(store: Store) -> list[Path]:
    folder = store.folder / "embeddings"
    return sorted(path for path in folder.glob("*") if path.is_dir())


def _index_name(note: Path) -> str:
    try:
        found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        return f"{found['index']} of {found['n']} vectors"
    except (OSError, ValueError, KeyError, TypeError):
        return "damaged"


def _size(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _used(files: list[Path]) -> float:
    return max(file.stat().st_mtime for file in files)
