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
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.shown import short_repr

Metric = Literal["euclidean", "sqeuclidean", "cosine", "centred-cosine"]
Vectors = NDArray[np.float32]

BLOCK_BYTES = 16 << 20
NEIGHBOURS = 16
FEW_OPERATIONS = 1 << 25
"""Multiply-adds, a few milliseconds of one thread."""
PRODUCT_ROWS = 8


@short_repr
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


class Levels:
    """(n, dim) vectors of whole 255ths, such as pixels in [0, 1], in a quarter of the memory.

    Indexing gives float32 vectors. The rows may be memory-mapped.
    """

    def __init__(self, levels: NDArray[np.uint8]) -> None:
        self._levels = levels
        self.shape = levels.shape

    @staticmethod
    def of(vectors: Vectors) -> NDArray[np.uint8] | None:
        """The levels of vectors; None where these are no whole 255ths."""
        levels = np.rint(np.clip(vectors, 0, 1) * 255).astype(np.uint8)
        return levels if np.array_equal(Levels(levels)[:], vectors) else None

    def __len__(self) -> int:
        return len(self._levels)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Vectors:
        return self._levels[rows].astype(np.float32) / np.float32(255)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


def blocks(n: int, row_bytes: int, block_bytes: int = BLOCK_BYTES) -> Iterator[slice]:
    """Slices that cover range(n), each of at most `block_bytes` of rows."""
    step = max(1, block_bytes // max(1, row_bytes))
    for start in range(0, n, step):
        yield slice(start, min(n, start + step))


def pair_squared(
    left: Vectors,
    left_rows: NDArray[np.int64],
    right: Vectors | Levels,
    right_rows: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Squared distances of the pairs (left[left_rows[p]], right[right_rows[p]]) → (p,) float32.

    By differences, so exactly 0 for equal vectors, and read in place: no pair's vectors are
    copied together first.

    Args:
        left, right: (l, dim) and (r, dim) float32, contiguous; may be memory-mapped. Of `Levels`
            the rows that occur are read.
        left_rows, right_rows: (p,) rows within them.
    """
    import faiss

    n = len(left_rows)
    squared = np.empty(n, dtype=np.float32)
    if n == 0:
        return squared
    for rows, vectors in ((left_rows, left), (right_rows, right)):
        # the kernel reads wherever it is told to
        if len(rows) != n or rows.min() < 0 or rows.max() >= len(vectors):
            raise IndexError(f"{len(rows)} rows of {len(vectors)} vectors for {n} pairs")
    if isinstance(right, Levels):
        used, right_rows = np.unique(right_rows, return_inverse=True)
        right = right[used]
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"vectors of {left.shape[1]} and {right.shape[1]} numbers")
    # a list: the arrays must outlive the call that is given their addresses
    arrays: list[NDArray[Any]] = [
        np.ascontiguousarray(left, dtype=np.float32),
        np.ascontiguousarray(left_rows, dtype=np.int64),
        np.ascontiguousarray(right, dtype=np.float32),
        np.ascontiguousarray(right_rows, dtype=np.int64),
        squared,
    ]
    kernel: Any = faiss  # its type stubs know the classes only
    with _threads_for(n * left.shape[1]):
        kernel.pairwise_indexed_L2sqr(left.shape[1], n, *map(kernel.swig_ptr, arrays))
    return squared


@contextmanager
def _threads_for(operations: int) -> Iterator[None]:
    """Keep faiss to the calling thread for few multiply-adds.

    Its threads wait for each other at the end. On a busy machine the wait takes many times as long
    as the work. The numbers are the same.
    """
    with nullcontext() if operations > FEW_OPERATIONS else one_thread():
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep faiss to one thread for a while."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def squared_by_product(
    left: NDArray[np.floating], right: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared distances of all pairs by one matrix product in float64, (l, r).

    And the sums of both squared norms: rounding of those is what is left of a distance that is 0.
    """
    left, right = (points.astype(np.float64, copy=False) for points in (left, right))
    sums = np.einsum("ij,ij->i", left, left)[:, None] + np.einsum("ij,ij->i", right, right)
    return sums - 2 * row_products(left, right.T), sums


def row_products(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """`left @ right`, (l, d) by (d, r), where no row of the result depends on how many there are.

    Libraries multiply few rows and many rows in different orders, which differ in the last digits.
    So rows are multiplied `PRODUCT_ROWS` at a time, the last ones with rows of zeros behind them.
    An image then has the same quality alone and among others.
    """
    product = np.empty((len(left), right.shape[1]))
    for start in range(0, len(left), PRODUCT_ROWS):
        rows = left[start : start + PRODUCT_ROWS]
        if len(rows) < PRODUCT_ROWS:
            rows = np.concatenate([rows, np.zeros((PRODUCT_ROWS - len(rows), left.shape[1]))])
        product[start : start + PRODUCT_ROWS] = (rows @ right)[: len(left) - start]
    return product


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
    with _threads_for(queries.size * len(points)):
        _, rows = faiss.knn(np.ascontiguousarray(queries), np.ascontiguousarray(points), n)
    rows = rows.astype(np.int64)
    repeated = np.repeat(np.arange(len(queries)), n)
    squared = pair_squared(queries, repeated, points, rows.ravel()).reshape(rows.shape)
    order = np.lexsort((rows, squared), axis=1)
    return np.take_along_axis(squared, order, axis=1), np.take_along_axis(rows, order, axis=1)


def nearest_other(distances: NDArray[np.floating]) -> NDArray[np.floating]:
    """(…, n) → (…): the smallest distance above 0 along the last axis; infinite where all are 0.

    A copy, at distance 0, is not another image.
    """
    others: NDArray[np.floating] = np.where(distances > 0, distances, np.inf).min(axis=-1)
    return others


def intrinsic_dimension(distances: NDArray[np.floating]) -> float | None:
    """The dimension in which neighbours at these distances lie, or None where they do not tell.

    (K − 2) / Σ_j ln(d_K / d_j), by maximum likelihood for K neighbours whose number grows as a
    power of the distance (Levina & Bickel, NIPS 2004, Eq. 8, without bias).

    Args:
        distances: (K,) of one point to its K nearest others, ascending, above 0.
    """
    if len(distances) < 3 or not distances[-1] > distances[0]:
        return None
    return float((len(distances) - 2) / np.log(distances[-1] / distances[:-1]).sum())


def neighbour_scale(sample: Vectors, vectors: Vectors) -> float | None:
    """Median squared distance from sampled images to the nearest image that differs from each.

    The nearest one is looked for among the `NEIGHBOURS` nearest. An image with that many copies has
    none. None where all images are so.

    Args:
        sample: (s, dim) placed vectors of the sampled images.
        vectors: (n, dim) placed vectors of all images.
    """
    squared, _ = nearest(sample, vectors, min(NEIGHBOURS, len(vectors)))
    others = nearest_other(squared)
    finite = others[np.isfinite(others)]
    return float(np.median(finite)) if len(finite) else None


def evenly_spread(n: int, most: int) -> NDArray[np.int64]:
    """Distinct rows of n, ascending, the first and the last among them: all, or `most` of them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))
