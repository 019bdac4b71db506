"""Arithmetic of shares: rows of weights divided by their sums, and the stable softmax."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def divide(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each row divided by its sum; rows with sum 0 stay 0."""
    total = weights.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.zeros(weights.shape)
    np.divide(weights, total, out=shares, where=total > 0)
    return shares


def divide_or_equal(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each row divided by its sum; equal shares in rows with sum 0."""
    total = weights.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.full_like(weights, 1 / weights.shape[1])
    np.divide(weights, total, out=shares, where=total > 0)
    return shares


def softmax(gaps: NDArray[np.float64], temperatures: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp(−gap/τ) / Σ exp(−gap/τ) along the last axis.

    Args:
        gaps: (m, k) distances less the smallest of the row: exp never overflows, and one weight is
            1 before the division.
        temperatures: (m,) τ > 0 of each row.
    """
    weights = np.exp(-gaps / temperatures[:, None])
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)
