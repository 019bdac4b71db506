"""From contributors to contribution scores and values (Yang et al., ICLR 2025, Eq. 4 to 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.matching.rerank import Contributors

Temperature = float | Literal["auto"]
AnyTemperature = Temperature | Literal["spacing"]
Weighting = Callable[[Contributors, Temperature], NDArray[np.float64]]

SPACING_SHARE = 1 / 20
"""Temperature `spacing`: this part of the training images' median distance to the nearest other.

An image that lies nearer than unrelated ones do then gets nearly all of the score. Chosen with the
figures of both MNIST and CIFAR-10 in view: `evaluate planted` finds the owners' shares as well with
half of it, not with twice.
"""
# halvings of the bracket 1e-4 … 1e4 of each image's spread of distances: far below a digit of use
BISECTIONS = 50


@dataclass(frozen=True, eq=False)
class Contributions:
    """The sparse (m, n_train) score matrix: k entries a generated image, best first.

    Attributes:
        rows: (m, k) int64, row of the training image.
        distances: (m, k) float32, in the re-rank distance's unit.
        scores: (m, k) float64, V(x_i, x̂_j); each row sums to that image's quality, or
            to 0 where that goes to no contributor.
        n_train: number of training images.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float32]
    scores: NDArray[np.float64]
    n_train: int

    def without(self, generated: NDArray[np.bool_]) -> Contributions:
        """The same, but these of the m generated images give nothing to their contributors."""
        return replace(self, scores=np.where(generated[:, None], 0.0, self.scores))


def softmax_weights(
    distances: NDArray[np.float32], temperature: Temperature
) -> NDArray[np.float64]:
    """Eq. 6 without q_j: exp(−d/τ) / Σ_{P_j} exp(−d/τ) along the last axis of (m, k).

    With temperature `auto` each generated image has its own τ; see `matched_temperatures`.
    """
    exact = distances.astype(np.float64)
    # from the nearest: exp never overflows, and one weight is always 1 before dividing
    exact -= exact.min(axis=1, keepdims=True)
    if temperature == "auto":
        return _softmax(exact, matched_temperatures(exact, auto_perplexity(exact.shape[1])))
    return _softmax(exact, np.full(len(exact), temperature))


def auto_perplexity(k: int) -> float:
    """The perplexity that temperature `auto` aims at: a third of the contributors.

    As t-SNE relates its perplexity to the neighbours it looks at (van der Maaten, 2014, JMLR 15,
    section 4.2), but 1 for a single contributor.
    """
    return 1 + (k - 1) / 3


def matched_temperatures(distances: NDArray[np.floating], perplexity: float) -> NDArray[np.float64]:
    """(m,) τ_j at which the softmax weights of each row have the given perplexity.

    The perplexity exp(−Σ w·ln w), from 1 to k, is the number of contributors that would share as
    evenly. It grows with τ, which is found by bisection within 1e-4 to 1e4 of the row's spread of
    distances (Hinton & Roweis, 2002). Where more than `perplexity` contributors are equally near,
    τ is the smallest of these, and the equals share alone; where all are, 1.

    Args:
        distances: (m, k), in any unit: weights depend on the spread of a row alone.
        perplexity: 1 to k.

    Raises:
        InputError: no such perplexity.
    """
    k = distances.shape[1]
    if not 1 <= perplexity <= k:
        raise InputError(f"perplexity={perplexity} of {k} contributors; pass 1 to {k}")
    gaps = distances.astype(np.float64) - distances.min(axis=1, keepdims=True)
    spread = gaps.max(axis=1)
    spread[spread == 0] = 1.0
    low, high = np.full(len(gaps), -4 * np.log(10)), np.full(len(gaps), 4 * np.log(10))
    target = np.log(perplexity)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        sharper = _entropy(_softmax(gaps, spread * np.exp(middle))) < target
        low, high = np.where(sharper, middle, low), np.where(sharper, high, middle)
    found = spread * np.exp((low + high) / 2)
    return np.where(gaps.max(axis=1) == 0, 1.0, found)


def _softmax(gaps: NDArray[np.float64], temperatures: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(-gaps / temperatures[:, None])
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)


def _entropy(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithms = np.log(weights, where=weights > 0, out=np.zeros_like(weights))
    return np.asarray(-(weights * logarithms).sum(axis=1), dtype=np.float64)


def shapley_weights(
    distances: NDArray[np.float32], beyond: NDArray[np.float32] | None = None
) -> NDArray[np.float64]:
    """Shapley values of nearest-neighbour coverage, in shares along the last axis of (m, k).

    The game: a set S of training images covers a generated image by v(S) = d₀ − min(d₀, min_{i∈S}
    d_i), where d₀ is the distance of the nearest image beyond the k. Images that far are null
    players, so the k hold the whole of v: with distances in order and d_(k+1) = d₀, the r-th
    nearest has φ_r = Σ_{t=r}^{k} (d_(t+1) − d_(t)) / t, and Σ_r φ_r = d₀ − d_(1) (by the airport
    game of Littlechild & Owen, 1973).

    Args:
        distances: (m, k), ascending.
        beyond: (m,) d₀; None: the last of the k, which then has no share.
    """
    k = distances.shape[1]
    last = distances[:, -1] if beyond is None else beyond
    ends = np.concatenate([distances, last[:, None]], axis=1).astype(np.float64)
    steps = np.maximum(np.diff(ends, axis=1), 0) / np.arange(1, k + 1)
    return _shares(np.cumsum(steps[:, ::-1], axis=1)[:, ::-1])


def _shares(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each row divided by its sum; equal shares where that is 0."""
    total = weights.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.full_like(weights, 1 / weights.shape[1])
    np.divide(weights, total, out=shares, where=total > 0)
    return shares


def _ridge(contributors: Contributors, temperature: Temperature) -> NDArray[np.float64]:
    del temperature
    if contributors.ridge is None:
        raise InputError("these contributors have no ridge weights; see gmvaluator.engine.weighing")
    return _shares(contributors.ridge)


WEIGHTINGS: Mapping[str, Weighting] = MappingProxyType(
    {
        "softmax": lambda found, temperature: softmax_weights(found.distances, temperature),
        "shapley": lambda found, _: shapley_weights(found.distances, found.beyond),
        "ridge": _ridge,
        "global-ridge": _ridge,
    }
)
RIDGES = ("ridge", "global-ridge")


def check_weighting(weighting: str, temperature: AnyTemperature) -> None:
    """Raise InputError unless the weighting is known and so is the temperature, or positive."""
    if weighting not in WEIGHTINGS:
        raise InputError(f"unknown weighting {weighting!r}; choose one of {', '.join(WEIGHTINGS)}")
    if isinstance(temperature, str):
        if temperature not in ("auto", "spacing"):
            raise InputError(
                f"temperature {temperature!r} is unknown; pass a number above 0, auto or spacing"
            )
    elif not (np.isfinite(temperature) and temperature > 0):
        raise InputError(
            f"temperature={temperature} is not positive; pass a number above 0, auto or spacing"
        )
    if weighting != "softmax" and temperature != 1.0:
        raise InputError(
            f"temperature={temperature} has no part in weighting {weighting}; pass "
            "temperature=1.0, or take softmax"
        )


def contribute(
    contributors: Contributors,
    quality: NDArray[np.float64],
    *,
    weighting: str = "softmax",
    temperature: Temperature = 1.0,
) -> Contributions:
    """Contribution scores V(x_i, x̂_j) = q_j · w_ij of every contributor (Eq. 4 and 6).

    Args:
        contributors: k training images of each generated one, (m, k).
        quality: (m,) q_j, 0 bad … 1 good.
        weighting: a name in `WEIGHTINGS`.
        temperature: τ > 0, in the unit of the distances, or `auto`: matched for each image.

    Raises:
        InputError: unknown weighting, τ ≤ 0, or quality of another length or outside [0, 1].
    """
    check_weighting(weighting, temperature)
    if isinstance(temperature, str) and temperature != "auto":
        raise InputError(
            f"temperature {temperature} is learned of training images; pass the number that "
            "GMValuator records as temperature_used"
        )
    m = len(contributors.rows)
    if quality.shape != (m,):
        raise InputError(f"quality has shape {quality.shape} for {m} generated images; pass ({m},)")
    if not bool(np.all((quality >= 0) & (quality <= 1))):
        raise InputError("quality must lie between 0 (bad) and 1 (good); rescale what you pass")
    weights = WEIGHTINGS[weighting](contributors, temperature)
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
