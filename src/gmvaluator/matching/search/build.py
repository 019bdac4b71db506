"""Build, choose, save and open indexes: from (n, dim) placed vectors and a name to an `Index`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError, RunError
from gmvaluator.geometry import Vectors, blocks
from gmvaluator.matching.search.indexes import (
    ExactIndex,
    FaissIndex,
    Index,
    Rows,
    downcast,
    release,
    seed_training,
)
from gmvaluator.matching.search.product_quantization import TRAINABLE, PqIndex, build_pq
from gmvaluator.memory import DEFAULT_MEMORY

INDEX_NAMES = ("auto", "exact", "pq", "ivfpq")

EXACT_OPERATIONS = 1e12
"""n·m·dim up to which `auto` searches exactly: about a minute on two cores."""
PQ_VECTORS = 1_000_000
"""Training images up to which `auto` scans all product-quantized codes; above, inverted lists."""
PQ_BYTES = 200
"""Bytes a vector of a `pq` index of 256 dimensions or more."""


def choose_index(n: int, m: int, dim: int, *, memory: int = DEFAULT_MEMORY) -> str:
    """The `auto` rule: exact while time and memory allow, then PQ, then IVF-PQ.

    Exact search does n·m·dim multiply-adds, at most `EXACT_OPERATIONS`, and goes through 4·n·dim
    bytes of vectors, which have to fit in memory to be read m times. `pq` scans every code: about
    three milliseconds a query at `PQ_VECTORS` images on two cores. `ivfpq` scans an eighth and by
    that loses two or three of a hundred neighbours; no smaller index is left to choose, so it is
    taken whatever `memory` says. Building either takes `PQ_BYTES` a vector.

    Measured by `benchmarks/index_choice.py` (exact against PQ) and `benchmarks/growth.py`.

    Args:
        n: training images.
        m: generated images.
        dim: of the placed vectors.
        memory: budget in bytes.
    """
    if n * m * dim <= EXACT_OPERATIONS and 4 * n * dim <= memory:
        return "exact"
    return "pq" if n <= PQ_VECTORS and n * PQ_BYTES <= memory else "ivfpq"


def check_index_name(name: str) -> None:
    """Raise InputError unless `name` is known or a faiss factory string."""
    if name in INDEX_NAMES:
        return
    import faiss

    try:
        faiss.index_factory(64, name)
    except (RuntimeError, TypeError):
        raise InputError(
            f"unknown index {name!r}; choose one of {', '.join(INDEX_NAMES)} or a faiss factory "
            "string such as 'IVF256,PQ32'"
        ) from None


def build_index(
    vectors: Vectors | Rows, name: str, *, order: NDArray[np.int64] | None = None, seed: int = 0
) -> Index:
    """Build an index over (n, dim) placed vectors, which are read in blocks and never copied whole.

    Args:
        vectors: placed by `Space.place`; for `pq` and `ivfpq` a memmap or any `Rows` will do.
            A factory string is trained on all of them at once.
        name: `exact`, `pq`, `ivfpq` or a faiss factory string (trained with faiss's defaults).
        order: rows in an order that does not depend on how the set happens to be listed, (n,) or
            as many as training shall read at most; training reads them so, and permuting the set
            then trains the same index.
        seed: of the rotation and the k-means initialisation.

    Raises:
        InputError: unknown name, or a factory string that does not fit n or dim.
    """
    n, dim = vectors.shape
    if name == "exact" or (name in ("pq", "ivfpq") and n < TRAINABLE):
        return ExactIndex(vectors[:])
    import faiss

    try:
        if name in ("pq", "ivfpq"):
            return build_pq(vectors, order, listed=name == "ivfpq", seed=seed)
        index = faiss.index_factory(dim, name)
        seed_training(index, seed)
        index.train(vectors[:] if order is None else vectors[order])
        for rows in blocks(n, 4 * dim):
            index.add(np.ascontiguousarray(vectors[rows]))
            release(vectors)
    except RuntimeError as error:
        raise InputError(
            f"faiss cannot build index {name!r} on {n} vectors of {dim} numbers "
            f"({_cause(error)}); choose exact, pq or another factory string"
        ) from None
    if index.metric_type != faiss.METRIC_L2:
        raise InputError(f"index {name!r} does not measure L2 distance; choose one that does")
    return FaissIndex(index)


def save_index(index: Index, path: Path) -> None:
    """Write a built index to one file, which `open_index` opens again.

    An exact index is its vectors: an `.npy` of them is its file, and there is nothing to save.

    Raises:
        InputError: the index is exact.
        RunError: the file cannot be written.
    """
    import faiss

    if not isinstance(index, FaissIndex):
        raise InputError("an exact index has no file of its own; keep its vectors instead")
    try:
        faiss.write_index(index.index, str(path))
    except RuntimeError as error:
        raise RunError(
            f"index file {path} cannot be written ({_cause(error)}); free disk space or choose "
            "another folder"
        ) from None


def open_index(path: Path, vectors: Vectors | Rows) -> Index:
    """Open what `save_index` wrote, memory-mapped: codes are read as searches reach them.

    faiss maps the scalar codes of `pq` and `ivfpq`, two thirds of the file; it reads their 4-bit
    codes whole (64 bytes a vector, 72 with lists). Keep the file while the index is in use.

    Args:
        path: file of the index.
        vectors: (n, dim) the index was built on; only their shape is read.

    Raises:
        RunError: no such file, not an index, cut short, or built on vectors of another shape.
    """
    import faiss

    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    # a length field that is not one can ask for more memory than there is
    except (RuntimeError, MemoryError) as error:
        raise RunError(
            f"index file {path} cannot be opened ({_cause(error)}); a complete faiss index is "
            "wanted, delete the file and build the index again"
        ) from None
    if (index.ntotal, index.d) != vectors.shape or index.metric_type != faiss.METRIC_L2:
        raise RunError(
            f"index file {path} holds {index.ntotal} vectors of {index.d} numbers, not the "
            f"{vectors.shape[0]} of {vectors.shape[1]} here; delete the file and build the index "
            "again"
        )
    return _searchable(index)


def _cause(error: BaseException) -> str:
    """faiss's own words, without its source file and condition."""
    text = str(error).strip() or type(error).__name__
    return text.rsplit("Error: ", 1)[-1].splitlines()[0]


def _searchable(index: Any) -> FaissIndex:
    """A faiss index in the class that searches its form."""
    import faiss

    whole = downcast(index)
    is_pq = isinstance(whole, faiss.IndexPreTransform) and isinstance(
        downcast(whole.index), faiss.IndexRefine
    )
    return (PqIndex if is_pq else FaissIndex)(index)
