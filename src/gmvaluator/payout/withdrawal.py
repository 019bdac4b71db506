"""What the recorded contributors would have scored without some training images.

A re-settlement, not a new valuation: the images that leave are taken out of each generated image's
recorded list and those that remain share its score anew. No image beyond the k is recalled in
their place; for that, value again without the images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gmvaluator.scoring.scores import Contributions, Temperature, softmax_weights

MEANING = {
    "softmax": "exact within the recorded contributors: Eq. 6 over those that remain, at the "
    "temperature recorded (with `auto`, each image keeps its own)",
    "shapley": "exact within the recorded contributors: the coverage game without those that left, "
    "from the recorded distances",
    "ridge": "an approximation: the recorded weights divided by their sum; a kernel ridge solved "
    "without the images would weigh the rest otherwise",
}
# below this part of an image's score the recorded floats hold too few digits to divide by
TRACE = 1e-200
OTHER = "an approximation: the recorded scores of those that remain, divided by their sum"


def meaning_of(weighting: str) -> str:
    """One sentence: what a withdrawal from a run of this weighting is."""
    return MEANING.get(weighting.removeprefix("global-"), OTHER)


@dataclass(frozen=True, eq=False)
class Withdrawal:
    """Contributions without some training images.

    Attributes:
        contributions: those that left score 0.
        released: (m,) float64, what went to no contributor because all of an image's left.
    """

    contributions: Contributions
    released: NDArray[np.float64]


def withdraw(
    contributions: Contributions,
    gone: NDArray[np.bool_],
    *,
    weighting: str,
    temperature: Temperature = 1.0,
) -> Withdrawal:
    """Take training images out; what a generated image's contributors share stays the same.

    Args:
        contributions: recorded, (m, k).
        gone: (n_train,) images that leave.
        weighting: of the run; see `meaning_of`.
        temperature: of the run, as a number or `auto` (`temperature_used`).
    """
    scores = contributions.scores
    stays = ~gone[contributions.rows]
    touched = ~stays.all(axis=1)
    attributed = scores.sum(axis=1)
    listed = replace(
        contributions,
        rows=contributions.rows[touched],
        distances=contributions.distances[touched],
        scores=scores[touched],
    )
    if weighting == "shapley":
        weights = _shapley(listed, stays[touched])
    else:
        weights = _renormalised(listed, stays[touched], temperature)
    anew = scores.copy()
    anew[touched] = weights * attributed[touched, None]
    left = stays.any(axis=1)
    return Withdrawal(
        replace(contributions, scores=anew), np.where(left, 0.0, attributed).astype(np.float64)
    )


def _renormalised(
    listed: Contributions, stays: NDArray[np.bool_], temperature: Temperature
) -> NDArray[np.float64]:
    """Shares of the recorded scores that stay; by Eq. 6 itself where these are next to nothing."""
    kept = np.where(stays, listed.scores, 0.0)
    shares = _divided(kept)
    attributed = listed.scores.sum(axis=1)
    faint = (attributed > 0) & (kept.sum(axis=1) <= TRACE * attributed)
    for row in np.flatnonzero(faint & stays.any(axis=1)):
        shares[row] = 0
        if temperature == "auto":
            # its own temperature is of all k, and far too low to leave the second nearest a part
            remaining = np.where(stays[row], listed.distances[row], np.inf)
            nearest = remaining == remaining.min()
            shares[row, nearest] = 1 / nearest.sum()
        else:
            distances = listed.distances[None, row, stays[row]]
            shares[row, stays[row]] = softmax_weights(distances, temperature)[0]
    return shares


def _shapley(contributions: Contributions, stays: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Shapley values of coverage among those that stay; see `values.shapley_weights`.

    The distance d₀ beyond the k is not recorded, but the farthest of the k has the share
    a = (d₀ − d_(k)) / k / (d₀ − d_(1)), so that d₀ = (d_(k) − a·k·d_(1)) / (1 − a·k).
    """
    k = stays.shape[1]
    distances = contributions.distances.astype(np.float64)
    attributed = contributions.scores.sum(axis=1)
    part = k * np.divide(
        contributions.scores[:, -1], attributed, out=np.zeros_like(attributed), where=attributed > 0
    )
    flat = distances[:, -1] <= distances[:, 0]
    beyond = np.where(
        flat | (part >= 1),
        np.inf,
        (distances[:, -1] - part * distances[:, 0]) / np.where(part < 1, 1 - part, 1.0),
    )
    # all equally near, and d₀ only says how much they share: any above them gives equal shares
    beyond = np.where(np.isfinite(beyond), beyond, distances[:, -1] + 1)
    # one that left takes the distance of the next that stays, and so adds no step
    ends = np.concatenate([np.where(stays, distances, np.inf), beyond[:, None]], axis=1)
    ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    steps = np.maximum(np.diff(ends, axis=1), 0) / np.maximum(np.cumsum(stays, axis=1), 1)
    values = np.where(stays, np.cumsum(steps[:, ::-1], axis=1)[:, ::-1], 0.0)
    # no step at all: those that stay are as near as d₀ and share equally
    return _divided(np.where(values.sum(axis=1, keepdims=True) > 0, values, stays))


def _divided(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    total = weights.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.zeros(weights.shape)
    np.divide(weights, total, out=shares, where=total > 0)
    return shares
