"""Random projection of long gradients by a sparse matrix of signs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

from gmvaluator.errors import InputError

Floats = NDArray[np.floating[Any]]

PARTS = 4  # non-zeros a column


class SparseProjection:
    """A random projection S that preserves dot products up to noise.

    E⟨Sx, Sy⟩ = ⟨x, y⟩, with variance about ‖x‖²‖y‖² / size. S is the block form of the sparse
    Johnson-Lindenstrauss transform of Kane & Nelson 2014 (arXiv 1012.1577). The K sums are divided
    into `parts` equal blocks. Each number is added, with a random sign, to one sum of each block.
    The result is divided by √parts. A dense matrix of signs has the same variance and costs
    size / parts times as much.

    Args:
        length: P, length of the input.
        size: K, length of the output, a multiple of `parts`.
        seed: seed of places and signs.
        parts: number of non-zeros per column.

    Raises:
        InputError: `size` is no multiple of `parts`.
    """

    def __init__(self, length: int, size: int, seed: Sequence[int], parts: int = PARTS) -> None:
        if size < parts or size % parts:
            raise InputError(f"size={size} of {parts} parts; pass a multiple of {parts}")
        chance = np.random.default_rng([*seed, length, size])
        block = size // parts
        places = chance.integers(block, size=(length, parts), dtype=np.int32)
        places += np.arange(parts, dtype=np.int32) * np.int32(block)
        signs = chance.integers(2, size=(length, parts), dtype=np.int8).astype(np.float32)
        signs = (2 * signs - 1) / np.sqrt(np.float32(parts))
        starts = np.arange(0, (length + 1) * parts, parts, dtype=np.int64)
        # columns: a gradient is read once, and the few sums stay near the processor
        self._matrix = csc_array((signs.ravel(), places.ravel(), starts), shape=(size, length))

    def __call__(self, rows: Floats) -> NDArray[np.float32]:
        """(B, P) → (B, K)."""
        across = np.ascontiguousarray(rows.T, dtype=np.float32)
        return np.ascontiguousarray((self._matrix @ across).T, dtype=np.float32)
