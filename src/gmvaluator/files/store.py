"""Embeddings and trained indexes on disk, so that nothing is computed twice.

    <cache>/embeddings/<encoder>/<checksum>.safetensors    at most `SHARD_ROWS` vectors with keys
    <cache>/indexes/<key>                                  a trained index, and <key>.json
    <cache>/calibrations/<key>                             distances between training images, alike

A vector is looked up by the content of its image (`ImageSet.content_key`) and by its encoder
(fingerprint, arithmetic and the rules by which images are read), so that moving, renaming or adding
images embeds only new ones. A shard is written whole and never changed. Its name is the checksum of
its content, so that writers that share a cache cannot disturb one another, and a damaged shard is
noticed, reported and left out. docs/performance.md says why shards are safetensors files and not
Lance or Zarr.

No run needs the cache. Where the cache cannot be read, vectors are computed again; where it cannot
be written, vectors stay in memory for this run. A `CacheWarning` reports either once. Only a
wrong checksum counts as damage: a file that cannot be read now may be whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import CacheWarning, InputError, RunError
from gmvaluator.files.atomic import locked, publish_file, remove_leftovers
from gmvaluator.files.records import write_record
from gmvaluator.files.seals import hash_file
from gmvaluator.threads import Lock

SHARD_ROWS = 1_024
KEY_BYTES = 16
SHARDS_AN_IMAGE = 8
"""Shards that are listed in the time that a small network takes for one image."""
SUFFIX = ".safetensors"
FORMAT = "1"


def cache_base() -> Path:
    """$GMVALUATOR_CACHE, else the user's cache directory of this system; an absolute path."""
    import platformdirs

    try:
        base = os.environ.get("GMVALUATOR_CACHE") or platformdirs.user_cache_dir("gmvaluator")
        return Path(base).expanduser().absolute()
    except RuntimeError:  # a user without a home, as in some containers
        return Path("/.cache/gmvaluator").absolute()


def as_store(cache: bool | str | Path | Store) -> Store | None:
    """True → the user's cache folder, False → none, a path → that folder, a store → itself.

    Raises:
        InputError: none of these.
    """
    if isinstance(cache, Store):
        return cache
    if isinstance(cache, bool):
        return Store() if cache else None
    if not isinstance(cache, str | os.PathLike):
        raise InputError(f"cache={cache!r}; pass True, False or a folder")
    return Store(cache)


class Faults:
    """Reading or writing a cache folder failed; each of the two is reported once.

    Attributes:
        frozen: nothing more is to be kept (`Store.freeze`).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.frozen = False
        self.reported: set[Literal["read", "write"]] = set()

    def report(self, action: Literal["read", "write"], error: Exception) -> None:
        """Warn that the cache cannot be read or written, and how to help it."""
        if action in self.reported:
            return
        self.reported.add(action)
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
        result = {
            "read": "this part of it is left out, and computed again where it is needed",
            "write": "results are the same, but are not kept for later runs",
        }
        warnings.warn(
            f"cannot {action} the cache {self.folder} ({reason}); {result[action]}. Free space "
            "there or repair the folder, choose another one (--cache DIR or $GMVALUATOR_CACHE), or "
            "use none (--no-cache)",
            CacheWarning,
            stacklevel=3,
        )


class Store:
    """A cache folder.

    Args:
        folder: where it is. Default: $GMVALUATOR_CACHE, else the user's cache directory.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        # absolute: the program may change its working directory
        self.folder = Path(folder).absolute() if folder is not None else cache_base()
        self.faults = Faults(self.folder)
        self._tables: dict[str, Table] = {}

    def freeze(self) -> None:
        """Keep nothing more from now on, neither on disk nor in memory; what is kept serves on.

        For a service: what strangers send must neither fill a disk nor stay there.
        """
        self.faults.frozen = True

    def table(self, name: str, fingerprint: str) -> Table:
        """The vectors of one encoder.

        Args:
            name: of the encoder, for people.
            fingerprint: what decides its vectors: weights, input size, preprocessing, arithmetic.
        """
        key = hashlib.sha256(f"{FORMAT}|{fingerprint}".encode()).hexdigest()[:32]
        if key not in self._tables:
            readable = re.sub(r"[^A-Za-z0-9.]+", "-", name)[:60]
            folder = self.folder / "embeddings" / f"{readable}-{key}"
            self._tables[key] = Table(folder, name, self.faults)
        return self._tables[key]

    def index(self, description: dict[str, Any]) -> KeptFile:
        """The file of an index that `description` (plain types) decides; see `KeptFile`."""
        return self._kept("indexes", description)

    def calibration(self, description: dict[str, Any]) -> KeptFile:
        """The file of an audit's calibration that `description` decides."""
        return self._kept("calibrations", description)

    def _kept(self, folder: str, description: dict[str, Any]) -> KeptFile:
        text = json.dumps({"format": FORMAT, **description}, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        return KeptFile(self.folder / folder / key, description, self.faults)


class Table:
    """Vectors of one encoder by the content key of their image.

    `in` and `row` see the vectors on disk and those that were added. Each shard is checked once,
    before the first vector is taken from it. Several threads may read; one thread adds.
    """

    def __init__(self, folder: Path, name: str, faults: Faults | None = None) -> None:
        self.folder = folder
        self.name = name
        self._faults = faults or Faults(folder)
        self._lock = Lock()
        self._places: dict[bytes, tuple[Shard, int]] | None = None
        self._unwritten: dict[bytes, NDArray[np.float32]] = {}
        self._left_out: set[Path] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Pickled without the open shards, which the process that unpickles lists itself."""
        return self.__dict__ | {"_places": None}

    def beside(self, form: str) -> Table:
        """A table of the same encoder's vectors of the images in another form, such as mirrored."""
        folder = self.folder.with_name(f"{self.folder.name}-{form}")
        return Table(folder, f"{self.name} {form}", self._faults)

    def __contains__(self, key: str) -> bool:
        raw = bytes.fromhex(key)
        with self._lock:
            while raw not in self._unwritten:
                if raw not in self._listed():
                    return False
                shard, _ = self._listed()[raw]
                if shard.whole or self._check(shard):
                    return True
            return True

    def __len__(self) -> int:
        with self._lock:
            return len(self._listed()) + len(self._unwritten)

    def takes_longer_than(self, n: int) -> bool:
        """Whether listing the vectors on disk takes longer than n images take in a network."""
        if self._places is not None:
            return False
        return sum(1 for _ in self.folder.glob(f"*{SUFFIX}")) > SHARDS_AN_IMAGE * n

    def row(self, key: str) -> NDArray[np.float32]:
        """(dim,) float32; KeyError for a key that is not `in` the table."""
        raw = bytes.fromhex(key)
        with self._lock:
            if raw in self._unwritten:
                return self._unwritten[raw]
            shard, row = self._listed()[raw]
            return shard.row(row)

    def add(self, keys: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Keep (B, dim) vectors; they are on disk once a shard is full or `flush` is called.

        Vectors that cannot be written stay in memory, and a `CacheWarning` says so. A frozen store
        keeps none.
        """
        if self._faults.frozen:
            return
        with self._lock:
            for key, vector in zip(keys, vectors, strict=True):
                self._unwritten[bytes.fromhex(key)] = vector.copy()
            while len(self._unwritten) >= SHARD_ROWS and self._write_shard():
                pass

    def flush(self) -> None:
        """Write the vectors that are not on disk yet; see `add`."""
        with self._lock:
            while self._unwritten and self._write_shard():
                pass

    def _write_shard(self) -> bool:
        """Write up to `SHARD_ROWS` vectors; False where the cache cannot be written."""
        if "write" in self._faults.reported:
            return False
        keys = list(self._unwritten)[:SHARD_ROWS]
        try:
            shard = write_shard(self.folder, self.name, {key: self._unwritten[key] for key in keys})
        except RunError as error:
            self._faults.report("write", error)
            return False
        places = self._listed()
        for row, key in enumerate(keys):
            places.setdefault(key, (shard, row))
            del self._unwritten[key]
        return True

    def _listed(self) -> dict[bytes, tuple[Shard, int]]:
        """Shard and row by key, of the shards on disk."""
        if self._places is None:
            self._places = {}
            self._list()
        return self._places

    def _list(self) -> None:
        places = self._listed()
        for shard in open_shards(self.folder, self._faults):
            if shard.path not in self._left_out:
                for row, key in enumerate(shard.keys):
                    places.setdefault(key, (shard, row))

    def _check(self, shard: Shard) -> bool:
        """Verify a shard; leave out one that is damaged, gone or cannot be read now."""
        try:
            if shard.verify():
                return True
            report_damage(shard.path)
        except FileNotFoundError:
            pass  # another process merged it into a larger shard
        except OSError as error:
            self._faults.report("read", error)
        self._left_out.add(shard.path)
        places = self._listed()
        for key in shard.keys:
            if key in places and places[key][0] is shard:
                del places[key]
        self._list()
        return False


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
        """Whether the file's content is what its name says; marks the file as used.

        Raises:
            OSError: the file cannot be read; it may be whole.
        """
        self.whole = checksum(self.path) == self.path.stem
        if self.whole:
            _mark_used(self.path)
        return self.whole


@dataclass(frozen=True)
class KeptFile:
    """Where a result is or shall be kept: `path`, and a note `path`.json beside it."""

    path: Path
    description: dict[str, Any]
    faults: Faults = field(compare=False)

    def check(self) -> Path | None:
        """The file, if it is there and whole; a damaged one is reported and deleted."""
        note = self.path.with_suffix(".json")
        try:
            if not (self.path.is_file() and note.is_file()):
                return None
            if not (self._fits(note) or self._fits_once_written(note)):
                report_damage(self.path, note)
                return None
            _mark_used(note)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.faults.report("read", error)
            return None
        return self.path

    def write(self, save: Callable[[Path], None]) -> None:
        """Let `save` write the result to a scratch path, then publish it with its checksum.

        Where that fails the result is not kept, and a `CacheWarning` says so.
        """
        if self.faults.frozen or "write" in self.faults.reported:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.path.parent)
            with locked(self._lock):
                with publish_file(self.path) as part:
                    save(part)
                    note = {"checksum": checksum(part), "made": time.time(), **self.description}
                with publish_file(self.path.with_suffix(".json")) as part:
                    write_record(note, part)
        except (OSError, RunError) as error:
            self.faults.report("write", error)

    @property
    def _lock(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    def _fits_once_written(self, note: Path) -> bool:
        """`_fits`, after a process that has written the result and not yet its note."""
        try:
            with locked(self._lock):
                return self._fits(note)
        except OSError:  # no lock, because the folder is read-only
            return self._fits(note)

    def _fits(self, note: Path) -> bool:
        """Whether the note has the checksum of the result."""
        try:
            recorded = json.loads(note.read_text(encoding="utf-8"))["checksum"]
        except (ValueError, KeyError, TypeError):
            return False
        return bool(recorded == checksum(self.path))


def write_shard(folder: Path, encoder: str, vectors: dict[bytes, NDArray[np.float32]]) -> Shard:
    """Publish vectors by key as a shard named by its checksum.

    Raises:
        RunError: the shard cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save

    tensors: dict[str, NDArray[Any]] = {
        "keys": np.frombuffer(b"".join(vectors), np.uint8).reshape(-1, KEY_BYTES),
        "vectors": np.stack(list(vectors.values())),
    }
    content = save(tensors, {"encoder": encoder, "format": FORMAT})
    path = folder / f"{_blake2b_128(content).hexdigest()}{SUFFIX}"
    with publish_file(path) as part:
        part.write_bytes(content)
    try:
        return Shard(path, whole=True)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} was just written but cannot be read: {error}") from error


def open_shards(folder: Path, faults: Faults) -> list[Shard]:
    """The shards of a table, oldest name first.

    A shard that cannot be opened is left out; it is deleted only if its checksum is wrong.
    """
    from safetensors import SafetensorError

    shards = []
    try:
        remove_leftovers(folder)
        # not the hidden ones, which are being written now
        paths = sorted(folder.glob(f"[!.]*{SUFFIX}"))
    except OSError as error:
        faults.report("read", error)
        return []
    for path in paths:
        try:
            try:
                shards.append(Shard(path))
            except (SafetensorError, ValueError, KeyError, OSError) as error:
                # out of file descriptors, safetensors says that the file is not there
                if checksum(path) != path.stem:
                    report_damage(path)
                else:
                    faults.report("read", error)
        except FileNotFoundError:
            continue  # another process pruned it between listing and opening
        except OSError as error:
            faults.report("read", error)
    return shards


def report_damage(path: Path, *others: Path) -> None:
    """Delete a damaged file of the cache, and what belongs to it, and say so."""
    try:
        for file in (path, *others):
            file.unlink(missing_ok=True)
        result = "removed"
    except OSError as error:
        result = f"ignored, since it cannot be removed ({error.strerror})"
    warnings.warn(
        f"{path} is damaged (its checksum is wrong); it was {result} and what it held is computed "
        "again. Check the disk if this happens often",
        CacheWarning,
        stacklevel=2,
    )


def checksum(path: Path) -> str:
    """32 hex digits, blake2b-128 of a file."""
    return hash_file(path, _blake2b_128)


def _blake2b_128(content: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(content, digest_size=16)


def _mark_used(path: Path) -> None:
    """Note the time of last use, for `prune`; a cache that may only be read still serves."""
    with suppress(OSError):
        os.utime(path)
