"""Kernel ridge weights of all training images at once, approximately: inner products of features.

Nyström (Williams & Seeger, 2001): with r landmark images L, features z(x) = K_LL^(−½) k_L(x) have
k(x, y) ≈ z(x)·z(y), and the weights of kernel ridge regression become

    w_i(x̂) ≈ z(x_i)ᵀ (ZᵀZ + λI)⁻¹ z(x̂) = u(x_i)·u(x̂),

inner products of whitened features u = (ZᵀZ + λI)^(−½) z. One (r, r) factorisation serves the
training set, and the greatest are found by maximum-inner-product search, here as a search for the
nearest after one more number (Bachrach et al., 2014, section 3): √(M² − ‖u(x_i)‖²) for a training
image, M the greatest norm, and 0 for a generated one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmvaluator.geometry import Vectors, blocks
from gmvaluator.memory import Budget
from gmvaluator.scoring.weightings.kernel_ridge import JITTER, RIDGE, Kernel, squared_distances
from gmvaluator.shown import short_repr

LANDMARKS = 1_024
FLOOR = 1e-6  # of the greatest eigenvalue; below, K_LL's are rounding


@short_repr
@dataclass(frozen=True, eq=False)
class Landmarks:
    """Landmarks of a training set, and its features.

    Attributes:
        vectors: (r, dim) placed vectors of the landmarks.
        whitening: (r, r), u(x) = whitening · k_L(x).
        train: (n, r + 1) float32, u of the training images and the number that makes search for
            the nearest one for the greatest inner product.
    """

    vectors: Vectors
    whitening: NDArray[np.float32]
    train: Vectors

    @staticmethod
    def fit(
        kernel: Kernel, train: Vectors, order: NDArray[np.int64], *, budget: Budget
    ) -> Landmarks:
        """The first training images of `order` become landmarks; see `Trained.order`.

        Args:
            train: (n, dim) placed vectors.
            budget: of memory; features that exceed it go to a scratch file.
        """
        from scipy.linalg import eigh

        vectors = np.unique(train[order[:LANDMARKS]], axis=0)
        r, n = len(vectors), len(train)
        features = budget.allocate((n, r + 1))
        values, axes = eigh(kernel.wide(vectors, vectors).astype(np.float64))
        inverse_root = axes / np.sqrt(np.maximum(values, FLOOR * values[-1]))
        moments = np.zeros((r, r))
        for rows in blocks(n, 8 * r):
            block = kernel.wide(train[rows], vectors) @ inverse_root
            features[rows, :r] = block
            moments += block.T @ block
        values, axes = eigh(moments)
        root = axes / np.sqrt(values + RIDGE * (1 + JITTER))
        longest = 0.0
        for rows in blocks(n, 8 * r):
            features[rows, :r] = features[rows, :r] @ root
            longest = max(longest, float(np.square(features[rows, :r]).sum(axis=1).max()))
        for rows in blocks(n, 8 * r):
            squares = np.square(features[rows, :r]).sum(axis=1)
            features[rows, r] = np.sqrt(np.maximum(longest - squares, 0))
        return Landmarks(vectors, (inverse_root @ root).T.astype(np.float32), features)

    def queries(self, kernel: Kernel, generated: Vectors) -> Vectors:
        """(m, r + 1) of generated images, each times a constant of its own."""
        squared = squared_distances(generated, self.vectors)
        features = kernel.to_generated(squared).astype(np.float32) @ self.whitening.T
        return np.concatenate([features, np.zeros((len(features), 1), np.float32)], axis=1)
