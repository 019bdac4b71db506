"""What every index has in common, exact search, and search through any faiss index."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError, either
from gmvaluator.geometry import Vectors, blocks, nearest
from gmvaluator.threads import Lock

MAPPED_BYTES = 64 << 20
"""Bytes of memory-mapped vectors that exact search looks at together."""


class Rows(Protocol):
    """(n, dim) float32 vectors that can be read in parts: an array, a memmap, anything lazy."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @overload
    def __getitem__(self, rows: slice) -> Vectors: ...
    @overload
    def __getitem__(self, rows: NDArray[np.int64]) -> Vectors: ...


class Index(Protocol):
    """Anything that finds the n nearest of the vectors it was built on."""

    def search(self, queries: Vectors, n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Squared distances and row numbers, each (m, n), nearest first."""
        ...


class ExactIndex:
    """Blocked brute force over the placed vectors themselves."""

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = vectors

    def search(self, queries: Vectors, n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if not isinstance(self.vectors, np.memmap) or n > len(self.vectors):
            return nearest(queries, self.vectors, n)
        squared = np.empty((len(queries), 0), np.float32)
        rows = np.empty((len(queries), 0), np.int64)
        # by parts: the pages of a file that a process has read count as its memory
        for part in blocks(len(self.vectors), 4 * self.vectors.shape[1], MAPPED_BYTES):
            block = self.vectors[part]
            near, found = nearest(queries, block, min(n, len(block)))
            squared = np.concatenate([squared, near], axis=1)
            rows = np.concatenate([rows, found + part.start], axis=1)
            order = np.lexsort((rows, squared), axis=1)[:, :n]
            squared = np.take_along_axis(squared, order, axis=1)
            rows = np.take_along_axis(rows, order, axis=1)
            release(self.vectors)
        return squared, rows


class FaissIndex:
    """A trained faiss index that returns squared Euclidean distances."""

    def __init__(self, index: Any) -> None:
        self.index = index
        self._searching = Lock()

    def search(self, queries: Vectors, n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        # a search that widens changes the index until it ends
        with self._searching, self._own_effort():
            squared, rows = self._search(queries, n)
            # only the queries that came back short: what one image finds never depends on others
            while (short := (rows < 0).any(axis=1)).any() and self._widen(n):
                squared[short], rows[short] = self._search(queries[short], n)
        if short.any():
            raise InputError(
                f"the index found fewer than {n} candidates for some images; ask for fewer "
                "candidates or pass " + either("index='exact'", "--index exact")
            )
        return squared, rows

    def _search(self, queries: Vectors, n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        squared, rows = self.index.search(queries, n)
        return squared, rows

    @contextmanager
    def _own_effort(self) -> Iterator[None]:
        """Put back how far the index searches by itself, whatever `_widen` changed."""
        inner = inner_index(self.index)
        nprobe = getattr(inner, "nprobe", None)
        ef_search = inner.hnsw.efSearch if hasattr(inner, "hnsw") else None
        try:
            yield
        finally:
            if nprobe is not None:
                inner.nprobe = nprobe
            if ef_search is not None:
                inner.hnsw.efSearch = ef_search

    def _widen(self, n: int) -> bool:
        """Let a search that came back short look at more; False when it saw everything."""
        import faiss

        inner = inner_index(self.index)
        if isinstance(inner, faiss.IndexIVF) and inner.nprobe < inner.nlist:
            inner.nprobe = min(2 * inner.nprobe, inner.nlist)
            return True
        if isinstance(inner, faiss.IndexHNSW) and inner.hnsw.efSearch < max(n, self.index.ntotal):
            inner.hnsw.efSearch = max(n, 2 * inner.hnsw.efSearch)
            return True
        return False


def release(vectors: Vectors | Rows) -> None:
    """Let go of a read-only memmap's pages, which else count as this process's until it ends."""
    if isinstance(vectors, np.memmap) and vectors.mode == "r" and hasattr(mmap, "MADV_DONTNEED"):
        mapping: mmap.mmap = vectors._mmap  # type: ignore[attr-defined]
        mapping.madvise(mmap.MADV_DONTNEED)


def downcast(index: Any) -> Any:
    import faiss

    return faiss.downcast_index(index)


def inner_index(index: Any) -> Any:
    """The index behind rotations, projections and reordering."""
    import faiss

    inner = downcast(index)
    while isinstance(inner, faiss.IndexPreTransform | faiss.IndexRefine):
        wraps = inner.index if isinstance(inner, faiss.IndexPreTransform) else inner.base_index
        inner = downcast(wraps)
    return inner


def seed_training(index: Any, seed: int) -> None:
    """Seed every k-means in the index."""
    inner = inner_index(index)
    quantizers: list[Any] = [getattr(inner, "pq", None), inner]
    for clustering in [quantizer.cp for quantizer in quantizers if hasattr(quantizer, "cp")]:
        clustering.seed = seed + 1
        # a small training set is the caller's to have; faiss would print a warning on it
        clustering.min_points_per_centroid = 1
