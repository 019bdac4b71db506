"""From contributors to contribution scores and values (Yang et al., ICLR 2025, Eq. 4 to 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.rerank import Contributors

Weighting = Callable[[NDArray[np.float32], float], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Contributions:
    """The sparse (m, n_train) score matrix: k entries a generated image, best first.

    Attributes:
        rows: (m, k) int64, row of the training image.
        distances: (m, k) float32, in the re-rank distance's unit.
        scores: (m, k) float64, V(x_i, x̂_j) of Eq. 6; each row sums to that image's quality.
        n_train: number of training images.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float32]
    scores: NDArray[np.float64]
    n_train: int


def softmax_weights(distances: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Eq. 6 without q_j: exp(−d/τ) / Σ_{P_j} exp(−d/τ) along the last axis of (m, k)."""
    exact = distances.astype(np.float64)
    # from the nearest: exp never overflows, and one weight is always 1 before dividing
    weights = np.exp(-(exact - exact.min(axis=1, keepdims=True)) / temperature)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)


WEIGHTINGS: Mapping[str, Weighting] = {"softmax": softmax_weights}


def check_weighting(weighting: str, temperature: float) -> None:
    """Raise InputError unless the weighting is known and the temperature positive."""
    if weighting not in WEIGHTINGS:
        raise InputError(f"unknown weighting {weighting!r}; choose one of {', '.join(WEIGHTINGS)}")
    if not (np.isfinite(temperature) and temperature > 0):
        raise InputError(f"temperature={temperature} is not positive; pass a number above 0")


def contribute(
    contributors: Contributors,
    quality: NDArray[np.float64],
    *,
    weighting: str = "softmax",
    temperature: float = 1.0,
) -> Contributions:
    """Contribution scores V(x_i, x̂_j) = q_j · w_ij of every contributor (Eq. 4 and 6).

    Args:
        contributors: k nearest training images of each generated one, (m, k).
        quality: (m,) q_j, 0 bad … 1 good.
        weighting: a name in `WEIGHTINGS`.
        temperature: τ > 0, in the unit of the distances.

    Raises:
        InputError: unknown weighting, τ ≤ 0, or quality of another length or outside [0, 1].
    """
    check_weighting(weighting, temperature)
    m = len(contributors.rows)
    if quality.shape != (m,):
        raise InputError(f"quality has shape {quality.shape} for {m} generated images; pass ({m},)")
    if not bool(np.all((quality >= 0) & (quality <= 1))):
        raise InputError("quality must lie between 0 (bad) and 1 (good); rescale what you pass")
    weights = WEIGHTINGS[weighting](contributors.distances, temperature)
    return Contributions(
        rows=contributors.rows,
        distances=contributors.distances,
        scores=weights * quality[:, None],
        n_train=contributors.n_train,
    )


def sum_values(contributions: Contributions) -> NDArray[np.float64]:
    """φ_i = Σ_j V(x_i, x̂_j), (n_train,) float64 (Eq. 5)."""
    # float64: a million small float32 shares drift in the third decimal
    values: NDArray[np.float64] = np.bincount(
        contributions.rows.ravel(),
        weights=contributions.scores.ravel(),
        minlength=contributions.n_train,
    ).astype(np.float64)
    return values
