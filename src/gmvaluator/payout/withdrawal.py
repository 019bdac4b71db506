"""Scores of the recorded contributors after some training images were withdrawn.

A withdrawal is a re-settlement, not a new valuation: withdrawn images leave each generated image's
recorded contributors, and the remaining ones share its score. No other training image takes their
place. To recall other images, value again without the withdrawn ones.
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
# below this part of an image's score, recorded floats hold too few digits to divide by
TRACE = 1e-200
OTHER = "an approximation: the recorded scores of those that remain, divided by their sum"


def meaning_of(weighting: str) -> str:
    """One sentence: how exact a withdrawal from a run of this weighting is."""
    return MEANING.get(weighting.removeprefix("global-"), OTHER)


@dataclass(frozen=True, eq=False)
class Withdrawal:
    """Contributions without the withdrawn training images.

    Attributes:
        contributions: withdrawn images score 0.
        released: (m,) float64, score of the generated images whose contributors all left, else 0.
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
    """Withdraw training images. The sum that a generated image's contributors share stays.

    Args:
        contributions: recorded contributions, (m, k).
        gone: (n_train,) training images that leave.
        weighting: of the run; see `meaning_of`.
        temperature: of the run, a number or `auto` (`temperature_used`).
    """
    scores = contributions.scores
    stays = ~gone[contributions.rows]
    touched = ~stays.all(axis=1)
    attributed = scores.sum(axis=1)
    recorded = (contributions.distances[touched], scores[touched], stays[touched])
    if weighting == "shapley":
        shares = shapley_shares(*recorded)
    else:
        shares = renormalised_shares(*recorded, temperature)
    settled = scores.copy()
    settled[touched] = shares * attributed[touched, None]
    released = np.where(stays.any(axis=1), 0.0, attributed)
    return Withdrawal(replace(contributions, scores=settled), released.astype(np.float64))


def renormalised_shares(
    distances: NDArray[np.float32],
    scores: NDArray[np.float64],
    stays: NDArray[np.bool_],
    temperature: Temperature,
) -> NDArray[np.float64]:
    """Recorded scores of the contributors that stay, divided by their sum → (m, k).

    Where these scores are nearly 0, softmax (Eq. 6) of the recorded distances instead.

    Args:
        distances, scores: (m, k) as recorded.
        stays: (m, k) contributors that stay.
        temperature: of the softmax.
    """
    remaining = np.where(stays, scores, 0.0)
    shares = _divided(remaining)
    attributed = scores.sum(axis=1)
    faint = (attributed > 0) & (remaining.sum(axis=1) <= TRACE * attributed)
    for row in np.flatnonzero(faint & stays.any(axis=1)):
        shares[row] = 0
        if temperature == "auto":
            # the image's temperature depends on all k, and leaves nothing to the second nearest
            ahead = np.where(stays[row], distances[row], np.inf)
            nearest = ahead == ahead.min()
            shares[row, nearest] = 1 / nearest.sum()
        else:
            shares[row, stays[row]] = softmax_weights(
                distances[None, row, stays[row]], temperature
            )[0]
    return shares


def shapley_shares(
    recorded: NDArray[np.float32], scores: NDArray[np.float64], stays: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Shapley values of coverage among the contributors that stay → (m, k).

    See `scoring.scores.shapley_weights`. The distance d₀ beyond the k is not recorded. But the
    farthest of the k has the share a = (d₀ − d_(k)) / k / (d₀ − d_(1)), so that
    d₀ = (d_(k) − a·k·d_(1)) / (1 − a·k).

    Args:
        recorded: (m, k) recorded distances.
        scores: (m, k) recorded scores.
        stays: (m, k) contributors that stay.
    """
    k = stays.shape[1]
    distances = recorded.astype(np.float64)
    attributed = scores.sum(axis=1)
    part = k * np.divide(
        scores[:, -1], attributed, out=np.zeros_like(attributed), where=attributed > 0
    )
    flat = distances[:, -1] <= distances[:, 0]
    beyond = np.where(
        flat | (part >= 1),
        np.inf,
        (distances[:, -1] - part * distances[:, 0]) / np.where(part < 1, 1 - part, 1.0),
    )
    # if all are equally near, any d₀ beyond them gives equal shares
    beyond = np.where(np.isfinite(beyond), beyond, distances[:, -1] + 1)
    # an image that left takes the distance of the next one that stays, and so adds no step
    ends = np.concatenate([np.where(stays, distances, np.inf), beyond[:, None]], axis=1)
    ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    steps = np.maximum(np.diff(ends, axis=1), 0) / np.maximum(np.cumsum(stays, axis=1), 1)
    values = np.where(stays, np.cumsum(steps[:, ::-1], axis=1)[:, ::-1], 0.0)
    # without a step, the images that stay are as near as d₀ and share equally
    return _divided(np.where(values.sum(axis=1, keepdims=True) > 0, values, stays))


def _divided(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    total = weights.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.zeros(weights.shape)
    np.divide(weights, total, out=shares, where=total > 0)
    return shares
