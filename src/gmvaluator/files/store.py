"""Embeddings and trained indexes on disk, so that nothing is computed twice.

    <cache>/embeddings/<encoder>/<checksum>.safetensors    at most `SHARD_ROWS` vectors with keys
    <cache>/indexes/<key>                                  a trained index, and <key>.json

A vector is found by the content of its image (`ImageSet.content_key`) and by its encoder
(fingerprint and arithmetic), so moving, renaming or adding images embeds only what is new. A
shard is written whole and never changed; its name is the checksum of what it holds, so writers
that share a cache cannot disturb one another, and a damaged shard is noticed, reported and left
out. docs/performance.md says why shards are safetensors files and not Lance or Zarr.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import CacheWarning, RunError
from gmvaluator.files.atomic import publish_file, remove_leftovers
from gmvaluator.files.cache import cache_base

SHARD_ROWS = 1_024
KEY_BYTES = 16
SUFFIX = ".safetensors"
FORMAT = "1"


def as_store(cache: bool | str | Path | Store) -> Store | None:
    """True → the user's cache folder, False → none, a path → that folder, a store → itself."""
    if isinstance(cache, Store):
        return cache
    if isinstance(cache, bool):
        return Store() if cache else None
    return Store(cache)


class Store:
    """A cache folder.

    Args:
        folder: where it is; None for $GMVALUATOR_CACHE, else the user's cache directory.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder is not None else cache_base()
        self._tables: dict[str, Table] = {}

    def table(self, name: str, fingerprint: str) -> Table:
        """The vectors of one encoder.

        Args:
            name: of the encoder, for people.
            fingerprint: what decides its vectors: weights, input size, preprocessing, arithmetic.
        """
        key = hashlib.sha256(f"{FORMAT}|{fingerprint}".encode()).hexdigest()[:32]
        if key not in self._tables:
            readable = re.sub(r"[^A-Za-z0-9.]+", "-", name)[:60]
            self._tables[key] = Table(self.folder / "embeddings" / f"{readable}-{key}", name)
        return self._tables[key]

    def index(self, description: dict[str, Any]) -> IndexFile:
        """The file of an index that `description` (plain types) decides; see `IndexFile`."""
        text = json.dumps({"format": FORMAT, **description}, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        return IndexFile(self.folder / "indexes" / key, description)


class Table:
    """Vectors of one encoder by the content key of their image.

    `in` and `row` see what is on disk and what was added. Reading checks each shard once, before
    the first vector is taken from it. Safe to ask from several threads; one thread adds.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self._lock = threading.RLock()
        self._places: dict[bytes, tuple[Shard, int]] | None = None
        self._fresh: dict[bytes, NDArray[np.float32]] = {}

    def beside(self, form: str) -> Table:
        """A table of the same encoder's vectors of the images in another form, such as mirrored."""
        return Table(self.folder.with_name(f"{self.folder.name}-{form}"), f"{self.name} {form}")

    def __contains__(self, key: str) -> bool:
        raw = bytes.fromhex(key)
        with self._lock:
            if raw in self._fresh:
                return True
            place = self._listed().get(raw)
            return place is not None and (place[0].whole or self._check(place[0], raw))

    def __len__(self) -> int:
        with self._lock:
            return len(self._listed()) + len(self._fresh)

    def row(self, key: str) -> NDArray[np.float32]:
        """(dim,) float32; KeyError for a key that is not `in` the table."""
        raw = bytes.fromhex(key)
        with self._lock:
            if raw in self._fresh:
                return self._fresh[raw]
            shard, row = self._listed()[raw]
            return shard.row(row)

    def add(self, keys: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Keep (B, dim) vectors; they are on disk once a shard is full or `flush` is called.

        Raises:
            RunError: a shard cannot be written (disk full, say).
        """
        with self._lock:
            for key, vector in zip(keys, vectors, strict=True):
                self._fresh[bytes.fromhex(key)] = vector.copy()
            while len(self._fresh) >= SHARD_ROWS:
                self._write_shard()

    def flush(self) -> None:
        """Write what was added and is not on disk yet.

        Raises:
            RunError: it cannot be written.
        """
        with self._lock:
            while self._fresh:
                self._write_shard()

    def _write_shard(self) -> None:
        keys = list(self._fresh)[:SHARD_ROWS]
        shard = write_shard(self.folder, self.name, {key: self._fresh[key] for key in keys})
        listed = self._listed()
        for row, key in enumerate(keys):
            listed.setdefault(key, (shard, row))
            del self._fresh[key]

    def _listed(self) -> dict[bytes, tuple[Shard, int]]:
        if self._places is None:
            self._places = {}
            for shard in open_shards(self.folder):
                for row, key in enumerate(shard.keys):
                    self._places.setdefault(key, (shard, row))
        return self._places

    def _check(self, shard: Shard, key: bytes) -> bool:
        """Verify a shard; when it is damaged forget all it holds. Whether `key` is still here."""
        if shard.verify():
            return True
        report_damage(shard.path)
        places = self._listed()
        for lost in shard.keys:
            if places.get(lost, (None, 0))[0] is shard:
                del places[lost]
        for other in open_shards(self.folder):
            for row, kept in enumerate(other.keys):
                places.setdefault(kept, (other, row))
        place = places.get(key)
        return place is not None and (place[0].whole or self._check(place[0], key))


class Shard:
    """One file of a table, opened; `whole` once its checksum was found right."""

    def __init__(self, path: Path, *, whole: bool = False) -> None:
        from safetensors import safe_open

        self.path = path
        self.whole = whole
        file: Any = safe_open(path, "np")
        self.encoder = str((file.metadata() or {}).get("encoder", ""))
        keys = file.get_tensor("keys")
        self._vectors = file.get_slice("vectors")
        n, self.dim = self._vectors.get_shape()
        if keys.shape != (n, KEY_BYTES):
            raise ValueError(f"{keys.shape} keys for {n} vectors")
        self.keys = [key.tobytes() for key in keys]

    def row(self, row: int) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = self._vectors[row : row + 1][0]
        return vector

    def verify(self) -> bool:
        """Whether the file is what its name says; asked once, remembered."""
        try:
            self.whole = checksum(self.path) == self.path.stem
        except OSError:
            self.whole = False
        # when it was last of use, for `prune`; a cache that may only be read still serves
        if self.whole and os.access(self.path, os.W_OK):
            os.utime(self.path)
        return self.whole


@dataclass(frozen=True)
class IndexFile:
    """Where a trained index is or shall be kept."""

    path: Path
    description: dict[str, Any]

    def check(self) -> Path | None:
        """The file, if it is there and whole; a damaged one is reported and deleted."""
        note = self.path.with_suffix(".json")
        if not (self.path.is_file() and note.is_file()):
            return None
        try:
            if json.loads(note.read_text(encoding="utf-8"))["checksum"] == checksum(self.path):
                if os.access(note, os.W_OK):
                    os.utime(note)
                return self.path
        except (OSError, ValueError, KeyError, TypeError):
            pass  # told below, as any other damage
        report_damage(self.path)
        note.unlink(missing_ok=True)
        return None

    def write(self, save: Callable[[Path], None]) -> None:
        """Let `save` write the file to a scratch path, then publish it with its checksum.

        Raises:
            RunError: it cannot be written.
        """
        remove_leftovers(self.path.parent)
        with publish_file(self.path) as part:
            save(part)
            note = {"checksum": checksum(part), "made": time.time(), **self.description}
        with publish_file(self.path.with_suffix(".json")) as part:
            part.write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")


def write_shard(folder: Path, encoder: str, vectors: dict[bytes, NDArray[np.float32]]) -> Shard:
    """Publish vectors by key as a shard named by its checksum.

    Raises:
        RunError: it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save

    tensors: dict[str, NDArray[Any]] = {
        "keys": np.frombuffer(b"".join(vectors), np.uint8).reshape(-1, KEY_BYTES),
        "vectors": np.stack(list(vectors.values())),
    }
    content = save(tensors, {"encoder": encoder, "format": FORMAT})
    path = folder / f"{hashlib.blake2b(content, digest_size=16).hexdigest()}{SUFFIX}"
    with publish_file(path) as part:
        part.write_bytes(content)
    try:
        return Shard(path, whole=True)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} was just written but cannot be read: {error}") from error


def open_shards(folder: Path) -> list[Shard]:
    """The shards of a table, oldest name first; what cannot be opened is reported and deleted."""
    from safetensors import SafetensorError

    if not folder.is_dir():
        return []
    remove_leftovers(folder)
    shards = []
    # not the hidden ones: another process is writing them now
    for path in sorted(folder.glob(f"[!.]*{SUFFIX}")):
        try:
            shards.append(Shard(path))
        except FileNotFoundError:
            continue  # another process pruned it between listing and opening
        except (OSError, SafetensorError, ValueError, KeyError):
            report_damage(path)
    return shards


def report_damage(path: Path) -> None:
    """Delete a damaged file of the cache, which can be had again, and say so."""
    path.unlink(missing_ok=True)
    warnings.warn(
        f"{path} is damaged (its checksum is wrong); it was removed and what it held is computed "
        "again. Check the disk if this happens often",
        CacheWarning,
        stacklevel=2,
    )


def checksum(path: Path) -> str:
    """32 hex digits, blake2b-128 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
