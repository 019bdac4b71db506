"""How much memory long work may use, and arrays on disk where it would not do."""

from __future__ import annotations

import re
import tempfile

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError

DEFAULT_MEMORY = 4 << 30
SMALLEST = 64 << 20

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", re.IGNORECASE)


def parse_memory(given: int | str | None) -> int:
    """Bytes of a budget such as `3GB`, `512 MiB` or a number of bytes; None: 4 GiB.

    Units are powers of 1,024.

    Raises:
        InputError: not a size, or less than 64 MiB.
    """
    if given is None:
        return DEFAULT_MEMORY
    match = _SIZE.fullmatch(str(given))
    if match is None:
        raise InputError(f"memory {given!r} is no size; write a number with a unit, such as 4GB")
    size = int(float(match[1]) * _UNITS[match[2].upper()])
    if size < SMALLEST:
        raise InputError(f"memory {given!r} is too little to work with; pass at least 64MB")
    return size


def allocate(shape: tuple[int, int], budget: int) -> NDArray[np.float32]:
    """An empty float32 array: in memory within `budget` bytes, else in an unnamed scratch file."""
    if 4 * shape[0] * shape[1] <= budget:
        return np.empty(shape, dtype=np.float32)
    # the mapping keeps the file; it goes with the array, also when the process is killed
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
