"""Kernel ridge weights: how much a training image adds to the other training images.

A generative model that was trained on x_1 … x_n answers near x̂ much as a kernel smoother would.
With K = (k(x_i, x_l)) and k(x̂) = (k(x_i, x̂)) the smoother's weights are

    w(x̂) = (K + λN)⁻¹ k(x̂),

and w_i² is how far its answer moves, in mean square, when the answer at x_i is disturbed: the
influence of one sample on kernel ridge regression. Unlike a distance, w_i is small where other
training images say the same. A weight below 0 counts as 0.

k is Gaussian, exp(−‖x − y‖² / 4s), where s is the median squared distance of a training image to
its nearest neighbour: no label and no generated image decides it. N is the noise's covariance: a
much narrower Gaussian, exp(−‖x − y‖² / 0.02s), and ¼ more on its diagonal. So copies of an image
share most of their noise, and are hardly more than one observation: with N = I, c copies would
count as c independent ones and gain by it. Here the weight of an image is shared out among its
copies, and the sum of their squares falls about as 1/c.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from gmvaluator.geometry import Vectors, blocks, neighbour_scale, pair_squared

SAMPLE = 512  # training images whose nearest neighbours set the scale
WIDE = 2.0  # k's variance, in scales
NARROW = 0.01  # N's
RIDGE = 1.0  # λ
JITTER = 0.25  # of λ, for each image: near copies would else take opposite weights
BATCH_BYTES = 2 << 20  # vectors worked on together: few calls, and little enough for the cache


@dataclass(frozen=True)
class Kernel:
    """The Gaussian kernel of a training set.

    Attributes:
        scale: s, in units of squared distance between placed vectors.
    """

    scale: float

    @staticmethod
    def fit(vectors: Vectors, order: NDArray[np.int64]) -> Kernel:
        """Learn the scale from (n, dim) placed training vectors.

        The nearest neighbour of an image is the nearest that differs from it. `order` fixes the
        sample, whatever the order of the set.
        """
        scale = neighbour_scale(vectors[order[:SAMPLE]], vectors)
        return Kernel(1.0 if scale is None else scale)

    def to_generated(self, squared: NDArray[np.floating]) -> NDArray[np.float64]:
        """k(x̂) from squared distances (..., n), each row times a constant that keeps it from 0."""
        exact = squared.astype(np.float64)
        exact -= exact.min(axis=-1, keepdims=True)
        return np.asarray(np.exp(-exact / (2 * WIDE * self.scale)))

    def wide(self, left: Vectors, right: Vectors) -> NDArray[np.float32]:
        """k of every pair, (l, r)."""
        squared = squared_distances(left, right)
        squared /= np.float32(-2 * WIDE * self.scale)
        return np.exp(squared, out=squared)

    def among_training(self, vectors: Vectors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """K + λN of each of b sets of n vectors, and the squared lengths of these.

        Args:
            vectors: (b, n, dim).

        Returns:
            (b, n, n), of which the lower triangles are to be read, and (b, n).
        """
        b, n, dim = vectors.shape
        whole: NDArray[np.float32] = vectors @ vectors.transpose(0, 2, 1)
        lengths = np.einsum("bii->bi", whole).copy()
        _to_squared(whole, lengths[:, :, None], lengths[:, None, :])
        # beyond this N is below 1e-13; within it, the product's rounding would show
        near = whole < np.float32(30 * 2 * NARROW * self.scale)
        near &= np.tri(n, k=-1, dtype=bool)
        pairs = np.flatnonzero(near)
        first, second = pairs // n, pairs // (n * n) * n + pairs % n
        flat = vectors.reshape(b * n, dim)
        exact = pair_squared(flat, first, flat, second)
        cells = whole.reshape(-1)
        cells[pairs] = exact
        whole /= np.float32(-2 * WIDE * self.scale)
        np.exp(whole, out=whole)
        cells[pairs] += RIDGE * np.exp(exact / np.float32(-2 * NARROW * self.scale))
        np.einsum("bii->bi", whole)[...] = 1 + RIDGE * (1 + JITTER)
        return whole, lengths


def ridge_within(
    kernel: Kernel,
    rows: NDArray[np.int64],
    train: Vectors,
    generated: Vectors,
    *,
    threads: int | None = None,
) -> NDArray[np.float64]:
    """Squared positive weights within each generated image's own candidates → (m, c) float64.

    Args:
        kernel: of the training set.
        rows: (m, c) candidates.
        train, generated: placed vectors, (n, dim) and (m, dim).
        threads: generated images at work at once (default: all processors).
    """
    m, c = rows.shape
    weights = np.empty(rows.shape)

    def solve(part: slice) -> None:
        # seen from the generated image: short vectors, whose products lose fewer digits
        near = train[rows[part]]
        near -= generated[part, None]
        systems, squared = kernel.among_training(near)
        solutions = _solved(systems.astype(np.float64), kernel.to_generated(squared))
        weights[part] = np.square(np.maximum(solutions, 0))

    # one thread a batch: on matrices this small, threads within a product mostly wait
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads, initializer=_alone) as pool:
        list(pool.map(solve, blocks(m, 4 * c * train.shape[1] + 13 * c * c, BATCH_BYTES)))
    return weights


def _alone() -> None:
    """Keep faiss to the calling thread, in this thread."""
    import faiss

    faiss.omp_set_num_threads(1)


def _solved(systems: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solutions of b positive definite systems given by lower triangles → (b, n); uses both up."""
    from scipy.linalg import lapack

    for number, (system, side) in enumerate(zip(systems, right, strict=True)):
        # LAPACK reads by columns: to it the lower triangle is the upper one
        _, right[number], failed = lapack.dposv(system.T, side, lower=0, overwrite_a=1)
        if failed:
            raise np.linalg.LinAlgError(f"kernel system is not positive definite ({failed})")
    return right


def ridge_of_all(
    kernel: Kernel, train: Vectors, generated: Vectors, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k greatest squared positive weights of each generated image, all n taking part.

    One (n, n) system is factorised for all. Returns rows and weights, each (m, k), greatest first.
    """
    from scipy.linalg import cho_factor, cho_solve

    n, m = len(train), len(generated)
    systems, _ = kernel.among_training(train[None])
    factor = cho_factor(systems[0], lower=True, overwrite_a=True, check_finite=False)
    rows, weights = np.empty((m, k), dtype=np.int64), np.empty((m, k))
    for part in blocks(m, 8 * n):
        squared = squared_distances(generated[part], train)
        right = kernel.to_generated(squared).astype(np.float32).T
        solutions = cho_solve(factor, right, check_finite=False).T
        rows[part], weights[part] = greatest(np.square(np.maximum(solutions, 0)), k)
    return rows, weights


def greatest(
    weights: NDArray[np.floating], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Columns and values of the k greatest of each row of (m, c), greatest first → (m, k) each."""
    columns = np.argpartition(-weights, k - 1, axis=1)[:, :k]
    columns.sort(axis=1)
    order = np.argsort(-np.take_along_axis(weights, columns, axis=1), axis=1, kind="stable")
    columns = np.take_along_axis(columns, order, axis=1)
    return columns, np.take_along_axis(weights, columns, axis=1).astype(np.float64)


def squared_distances(left: Vectors, right: Vectors) -> NDArray[np.float32]:
    """Squared distances, (l, r), by one matrix product; rounding below 0 is cut off."""
    products: NDArray[np.float32] = left @ right.T
    left_lengths = np.einsum("ij,ij->i", left, left)
    right_lengths = np.einsum("ij,ij->i", right, right)
    return _to_squared(products, left_lengths[:, None], right_lengths[None])


def _to_squared(
    products: NDArray[np.float32], left: NDArray[np.float32], right: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Inner products made squared distances in place, by the squared lengths of both sides."""
    products *= -2
    products += left
    products += right
    return np.maximum(products, 0, out=products)
