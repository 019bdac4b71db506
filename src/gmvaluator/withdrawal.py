"""What the recorded contributors would have scored without some training images.

A re-settlement, not a new valuation: the images that leave are taken out of each generated image's
recorded list and those that remain share its score anew. No image beyond the k is recalled in
their place; for that, value again without the images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gmvaluator.values import Contributions

MEANING = {
    "softmax": "exact within the recorded contributors: Eq. 6 over those that remain, at the "
    "temperature recorded (with `auto`, each image keeps its own)",
    "shapley": "exact within the recorded contributors: the coverage game without those that left, "
    "from the recorded distances",
    "ridge": "an approximation: the recorded weights divided by their sum; a kernel ridge solved "
    "without the images would weigh the rest otherwise",
}
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
    contributions: Contributions, gone: NDArray[np.bool_], *, weighting: str
) -> Withdrawal:
    """Take training images out; what a generated image's contributors share stays the same.

    Args:
        contributions: recorded, (m, k).
        gone: (n_train,) images that leave.
        weighting: of the run; see `meaning_of`.
    """
    scores = contributions.scores
    stays = ~gone[contributions.rows]
    attributed = scores.sum(axis=1)
    weigh = _shapley if weighting == "shapley" else _renormalised
    weights = weigh(contributions, stays)
    left = stays.any(axis=1)
    untouched = stays.all(axis=1)
    anew = np.where(untouched[:, None], scores, weights * attributed[:, None])
    return Withdrawal(
        replace(contributions, scores=anew), np.where(left, 0.0, attributed).astype(np.float64)
    )


def _renormalised(
    contributions: Contributions, stays: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Shares of the recorded scores that stay.

    Where all of these are 0 (exp underflowed far behind one that left), the nearest has it all,
    the limit of Eq. 6; equally near ones share.
    """
    kept = np.where(stays, contributions.scores, 0.0)
    distances = np.where(stays, contributions.distances, np.inf)
    nearest = stays & (distances == distances.min(axis=1, keepdims=True))
    kept = np.where(kept.sum(axis=1, keepdims=True) > 0, kept, nearest)
    return _divided(kept)


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
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
