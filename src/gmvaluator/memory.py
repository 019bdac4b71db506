"""Memory: one budget for all long arrays of a valuation, and results that are computed once."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError, RunError
from gmvaluator.threads import Lock

Owner = TypeVar("Owner")
Result = TypeVar("Result")

DEFAULT_MEMORY = 4 << 30
SMALLEST = 64 << 20

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", re.IGNORECASE)


def parse_memory(size: int | str | None) -> int:
    """Bytes of a size such as `3GB`, `512 MiB` or a number of bytes; None: 4 GiB.

    Units are powers of 1,024.

    Raises:
        InputError: not a size, or less than 64 MiB.
    """
    if size is None:
        return DEFAULT_MEMORY
    match = _SIZE.fullmatch(str(size))
    if match is None:
        raise InputError(f"memory {size!r} is no size; write a number with a unit, such as 4GB")
    n_bytes = int(float(match[1]) * _UNITS[match[2].upper()])
    if n_bytes < SMALLEST:
        raise InputError(f"memory {size!r} is too little to work with; pass at least 64MB")
    return n_bytes


def allocate(shape: tuple[int, int], limit: int) -> NDArray[np.float32]:
    """An empty float32 array: in memory up to `limit` bytes, else in an unnamed scratch file.

    Raises:
        RunError: the folder of scratch files has no room for it.
    """
    n_bytes = 4 * shape[0] * shape[1]
    if n_bytes <= limit:
        return np.empty(shape, dtype=np.float32)
    folder = _scratch_folder()
    # the mapping keeps the file; the file goes with the array, also when the process is killed
    with (
        reserving(
            n_bytes,
            folder,
            "set the environment variable TMPDIR to a folder with more space, or allow more memory "
            "(--memory, memory=…)",
        ),
        tempfile.TemporaryFile(dir=folder) as file,
    ):
        reserve(file, n_bytes)
        return np.memmap(file, dtype=np.float32, mode="r+", shape=shape)


def _scratch_folder() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise RunError(
            f"scratch files have no folder to be in ({error.strerror}); set the environment "
            "variable TMPDIR to a folder that can be written to"
        ) from error


def reserve(file: IO[bytes], n_bytes: int) -> None:
    """Take the disk space of a file of `n_bytes`; the content that the file has stays.

    A file that is only lengthened has no space yet. Where the disk is full, writing to it through a
    memory map kills the process (SIGBUS).

    Raises:
        OSError: the disk has no space for it.
    """
    if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
        try:
            os.posix_fallocate(file.fileno(), 0, n_bytes)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise  # else the file system cannot reserve: write
    file.seek(0, os.SEEK_END)
    while missing := max(0, n_bytes - file.tell()):
        file.write(bytes(min(missing, 1 << 20)))
    file.flush()


@contextmanager
def reserving(n_bytes: int, folder: Path, advice: str) -> Iterator[None]:
    """Turn an OSError of the block into a RunError that names the space wanted and the space free.

    Args:
        n_bytes: wanted.
        folder: that the file is in.
        advice: what to do.

    Raises:
        RunError: in place of OSError.
    """
    try:
        yield
    except OSError as error:
        free = shutil.disk_usage(folder).free if folder.is_dir() else 0
        raise RunError(
            f"cannot take {n_bytes / 1e6:,.1f} MB of disk space in {folder}, where "
            f"{free / 1e6:,.1f} MB are free ({error.strerror or error}); {advice}"
        ) from error


class Budget:
    """Bytes that all long arrays of a valuator take together.

    Arrays of vectors take at most half of the budget, however many there are: an array that
    exceeds the half goes to a scratch file. The other half is for indexes and for systems of
    equations, which ask `free` before they start.

    Args:
        total: bytes.
    """

    def __init__(self, total: int = DEFAULT_MEMORY) -> None:
        self.total = total
        self._in_memory = 0
        self._lock = Lock()

    @property
    def free(self) -> int:
        """Bytes that no array of this budget takes."""
        return self.total - self._in_memory

    def allocate(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        """An empty float32 array, in memory while the budget lasts, else in a scratch file.

        The budget has the bytes back when the array and all views of the array are gone.

        Raises:
            RunError: the folder of scratch files has no room for it.
        """
        n_bytes = 4 * shape[0] * shape[1]
        with self._lock:
            fits = 2 * (self._in_memory + n_bytes) <= self.total
            if fits:
                self._in_memory += n_bytes
        array = allocate(shape, n_bytes if fits else 0)
        if fits:
            weakref.finalize(array, self._give_back, n_bytes).atexit = False
        return array

    def _give_back(self, n_bytes: int) -> None:
        with self._lock:
            self._in_memory -= n_bytes


def once(compute: Callable[[Owner], Result]) -> Callable[[Owner], Result]:
    """Compute an attribute at its first use and keep it in the object: `@property`, `@once`.

    There is no lock: a forked child would wait for ever for one that another thread of its parent
    held, as those of `functools.cached_property` in Python 3.11. Two threads may both compute; the
    first result is kept.
    """
    name = compute.__name__

    @wraps(compute)
    def kept(owner: Owner) -> Result:
        results = vars(owner)
        if name not in results:
            results.setdefault(name, compute(owner))
        return cast("Result", results[name])

    return kept


class Memo:
    """Results that depend on a training set alone: computed at the first request, then reused.

    Two threads that ask for one key compute the result once.
    """

    def __init__(self) -> None:
        self._results: dict[Hashable, Any] = {}
        self._lock = Lock()

    def get(self, key: Hashable, compute: Callable[[], Result]) -> Result:
        """The result of `compute`, kept under `key`."""
        with self._lock:
            if key not in self._results:
                self._results[key] = compute()
            return cast("Result", self._results[key])

    def put(self, key: Hashable, result: Any) -> None:
        """Keep a result that was computed elsewhere."""
        with self._lock:
            self._results[key] = result

    def results(self) -> dict[Hashable, Any]:
        """What is kept so far."""
        with self._lock:
            return dict(self._results)
