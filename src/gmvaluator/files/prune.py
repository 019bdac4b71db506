"""What a cache folder holds, and how to make it smaller."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gmvaluator.arguments import real_number
from gmvaluator.errors import InputError, RunError
from gmvaluator.files.atomic import LEFTOVER_SECONDS, remove_leftovers
from gmvaluator.files.store import (
    SHARD_ROWS,
    Faults,
    Shard,
    Store,
    checksum,
    open_shards,
    report_damage,
    write_shard,
)
from gmvaluator.progress import Progress, Silent

DAY = 86_400
KEPT = {"indexes": "index", "calibrations": "calibration"}
"""Kind of what is kept in the folders of a cache whose files have a note."""


@dataclass(frozen=True)
class Holding:
    """One thing in a cache: embeddings of an encoder, an index, a calibration, or a folder's files.

    `items` counts vectors or files; `used` is the time of last use, in seconds since 1970.
    """

    kind: str
    name: str
    items: int
    bytes: int
    used: float


@dataclass(frozen=True)
class Pruned:
    """Result of `prune`: what was dropped, small shards merged, bytes freed."""

    vectors: int
    indexes: int
    calibrations: int
    merged: int
    freed: int

    def as_json(self) -> dict[str, int]:
        return asdict(self)


def survey(store: Store) -> list[Holding]:
    """Everything a cache folder holds, embeddings first; damaged shards are dropped on the way.

    Raises:
        RunError: the cache cannot be read.
    """
    holdings = []
    with _working("read", store):
        for table in _tables(store):
            shards = open_shards(table, store.faults)
            if shards:
                vectors = sum(len(shard.keys) for shard in shards)
                states = _states([shard.path for shard in shards])
                holdings.append(_holding("embeddings", shards[0].encoder, vectors, states))
        for folder, kind in KEPT.items():
            for note in sorted((store.folder / folder).glob("[!.]*.json")):
                states = _states([note, note.with_suffix("")])
                holdings.append(_holding(kind, _kept_name(note), 1, states))
        for kind in ("weights", "demo"):
            states = _states(store.folder.joinpath(kind).rglob("*"))
            if states:
                holdings.append(_holding(kind, "", len(states), states))
    return holdings


def prune(
    store: Store, *, older_than: float | None = None, progress: Progress | None = None
) -> Pruned:
    """Drop damaged, left-over and duplicate files, and merge small shards.

    Downloaded weights stay. A run that uses the cache at the same time loses nothing, but computes
    again what it was about to read.

    Args:
        older_than: also drop embeddings, indexes and calibrations that were not used for so many
            days; 0 drops all of them.

    Raises:
        InputError: a negative number of days.
        RunError: the cache cannot be written.
    """
    wanted = "a number of days ≥ 0"
    if older_than is not None and not real_number("older_than", older_than, wanted) >= 0:
        raise InputError(f"{older_than} days were given; pass {wanted}")
    limit = None if older_than is None else time.time() - older_than * DAY
    vectors = merged = 0
    with _working("prune", store):
        before = total_bytes(store)
        tables = _tables(store)
        with (progress or Silent()).stage("prune", len(tables)) as advance:
            for table in tables:
                n_dropped, n_merged = _prune_table(table, limit, store.faults)
                vectors, merged = vectors + n_dropped, merged + n_merged
                advance(1)
        indexes, calibrations = (_prune_kept(store.folder / folder, limit) for folder in KEPT)
        freed = max(0, before - total_bytes(store))
        return Pruned(vectors, indexes, calibrations, merged, freed)


@contextmanager
def _working(action: str, store: Store) -> Iterator[None]:
    """Turn an OSError of the block into a RunError that names the cache."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot {action} the cache {store.folder}: {error.strerror or error}; change the "
            "permissions of the folder, or choose another one (--cache DIR or $GMVALUATOR_CACHE)"
        ) from error


def total_bytes(store: Store) -> int:
    """Bytes of all files of a cache folder."""
    return sum(state.st_size for state in _states(store.folder.rglob("*")))


def _prune_table(folder: Path, limit: float | None, faults: Faults) -> tuple[int, int]:
    """(vectors dropped, shards merged)"""
    n_dropped = 0
    whole: list[Shard] = []
    for shard in open_shards(folder, faults):
        try:
            if limit is not None and shard.path.stat().st_mtime <= limit:
                shard.path.unlink()
                n_dropped += len(shard.keys)
            # not `verify`, which counts as a use
            elif checksum(shard.path) == shard.path.stem:
                whole.append(shard)
            else:
                report_damage(shard.path)
        except FileNotFoundError:
            continue  # another process prunes the cache too
    # an empty folder stays: another process may be about to write its first shard there
    return n_dropped, _merge(folder, [shard for shard in whole if len(shard.keys) < SHARD_ROWS])


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


def _prune_kept(folder: Path, limit: float | None) -> int:
    """Drop files that were not used since `limit`, and those without a note; how many."""
    remove_leftovers(folder)
    n_dropped = 0
    for note in list(folder.glob("[!.]*.json")):
        with suppress(FileNotFoundError):
            if limit is not None and note.stat().st_mtime <= limit:
                note.with_suffix("").unlink(missing_ok=True)
                note.unlink()
                n_dropped += 1
    unfinished = time.time() - LEFTOVER_SECONDS
    for file in [file for file in folder.glob("[!.]*") if not file.suffix]:
        with suppress(FileNotFoundError):
            # the note is written last: a young file may get its note in a moment
            if not file.with_suffix(".json").is_file() and file.stat().st_mtime < unfinished:
                file.unlink()
                n_dropped += 1
    return n_dropped


def _tables(store: Store) -> list[Path]:
    folder = store.folder / "embeddings"
    return sorted(path for path in folder.glob("*") if path.is_dir())


def _kept_name(note: Path) -> str:
    try:
        content: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        if "calibration" in content:
            return f"{content['calibration']} of {content['n']} images"
        return f"{content['index']} of {content['n']} vectors"
    except (OSError, ValueError, KeyError, TypeError):
        return "damaged"


def _states(paths: Iterable[Path]) -> list[os.stat_result]:
    """The state of each path that is a file and still there."""
    states = []
    for path in paths:
        with suppress(OSError):
            if path.is_file():
                states.append(path.stat())
    return states


def _holding(kind: str, name: str, items: int, states: list[os.stat_result]) -> Holding:
    size = sum(state.st_size for state in states)
    return Holding(kind, name, items, size, max((state.st_mtime for state in states), default=0.0))
