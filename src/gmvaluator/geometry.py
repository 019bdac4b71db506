"""Metrics and distances.

Every metric of the method is a function of one squared Euclidean distance after a per-vector
transformation (`Space.place`), so searching, re-ranking and scaling share one arithmetic:

=================  ===============================================  ====================
metric             placed vector                                    distance from squared
=================  ===============================================  ====================
euclidean          v                                                √s
sqeuclidean        v                                                s
cosine             v / ‖v‖                                          s / 2  (= 1 − cosine)
centred-cosine     (v − mean) / ‖v − mean‖                          s / 2
=================  ===============================================  ====================
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError

Metric = Literal["euclidean", "sqeuclidean", "cosine", "centred-cosine"]
Vectors = NDArray[np.float32]

BLOCK_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Space:
    """A metric with what it learned from the training set (the mean of centred cosine)."""

    metric: Metric
    mean: Vectors | None = None

    @staticmethod
    def fit(metric: Metric, vectors: Vectors) -> Space:
        """Learn the space of `metric` from (n, dim) training vectors."""
        if metric not in get_args(Metric):
            raise InputError(
                f"unknown metric {metric!r}; choose one of {', '.join(get_args(Metric))}"
            )
        if metric != "centred-cosine":
            return Space(metric)
        # float64: a float32 sum over many thousand vectors loses the digits centring needs
        return Space(metric, vectors.mean(axis=0, dtype=np.float64).astype(np.float32))

    def place(self, vectors: Vectors, *, in_place: bool = False) -> Vectors:
        """(n, dim) encoder output → (n, dim) float32 whose squared distances `distance` reads."""
        placed = np.array(vectors, dtype=np.float32, copy=None if in_place else True, order="C")
        if self.metric in ("euclidean", "sqeuclidean"):
            return placed
        for rows in blocks(len(placed), placed.shape[1] * 4):
            block = placed[rows]
            if self.mean is not None:
                block -= self.mean
            norms = np.sqrt(np.einsum("ij,ij->i", block, block))[:, None]
            # a zero vector has no direction: it stays at the origin, half a unit from everything
            np.divide(block, norms, out=block, where=norms > 0)
        return placed

    def distance(self, squared: NDArray[np.floating]) -> NDArray[np.float32]:
        """Squared distances of placed vectors → distances in the metric's own unit."""
        squared = np.maximum(squared, 0)
        if self.metric == "euclidean":
            squared = np.sqrt(squared)
        elif self.metric != "sqeuclidean":
            squared = squared / 2
        return squared.astype(np.float32)


def blocks(n: int, row_bytes: int, block_bytes: int = BLOCK_BYTES) -> Iterator[slice]:
    """Slices that cover range(n), each of at most `block_bytes` of rows."""
    step = max(1, block_bytes // max(1, row_bytes))
    for start in range(0, n, step):
        yield slice(start, min(n, start + step))


def squared_to_rows(point: Vectors, vectors: Vectors) -> NDArray[np.float32]:
    """(dim,) and (r, dim) → (r,) squared distances by differences: 0 exactly for equal vectors."""
    difference = vectors - point
    squared: NDArray[np.float32] = np.einsum("ij,ij->i", difference, difference)
    return squared


def nearest(
    queries: Vectors, points: Vectors, n: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The n nearest of (p, dim) `points` to each of (m, dim) `queries`, by blocks.

    Returns squared distances and row numbers, each (m, n), nearest first; equal distances by row
    number. The distances are exact differences, not the expanded product that found the rows.
    """
    import faiss

    if n > len(points):
        raise InputError(f"{n} neighbours asked of {len(points)} points; ask for at most that")
    _, rows = faiss.knn(np.ascontiguousarray(queries), np.ascontiguousarray(points), n)
    squared = np.empty(rows.shape, dtype=np.float32)
    for j, found in enumerate(rows):
        exact = squared_to_rows(queries[j], points[found])
        order = np.lexsort((found, exact))
        rows[j], squared[j] = found[order], exact[order]
    return squared, rows.astype(np.int64)
