"""Shapley values of nearest-neighbour coverage as a weighting."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gmvaluator.matching.rerank import Contributors
from gmvaluator.scoring.weightings.base import Remaining, Temperature, Weighting
from gmvaluator.scoring.weightings.shares import divide, divide_or_equal


class Shapley(Weighting):
    """Each contributor's Shapley value in the game of covering the generated image."""

    name = "shapley"
    takes_nearest = True
    by_distance = True
    reads_beyond = True
    withdrawal = (
        "exact within the recorded contributors: the coverage game without those that left, "
        "from the recorded distances"
    )

    def shares(self, contributors: Contributors, temperature: Temperature) -> NDArray[np.float64]:
        del temperature
        return shapley_weights(contributors.distances, contributors.beyond)

    def resettle(self, remaining: Remaining, temperature: Temperature) -> NDArray[np.float64]:
        """Shapley values of coverage among those that stay.

        The distance d₀ beyond the k is not recorded. The farthest of the k has the share
        a = (d₀ − d_(k)) / k / (d₀ − d_(1)), so that d₀ = (d_(k) − a·k·d_(1)) / (1 − a·k).
        """
        del temperature
        stays, k = remaining.stays, remaining.stays.shape[1]
        distances = remaining.distances.astype(np.float64)
        attributed = remaining.scores.sum(axis=1)
        part = k * np.divide(
            remaining.scores[:, -1],
            attributed,
            out=np.zeros_like(attributed),
            where=attributed > 0,
        )
        flat = distances[:, -1] <= distances[:, 0]
        beyond = np.where(
            flat | (part >= 1),
            np.inf,
            (distances[:, -1] - part * distances[:, 0]) / np.where(part < 1, 1 - part, 1.0),
        )
        # all are equally near: any d₀ above their distance gives equal shares
        beyond = np.where(np.isfinite(beyond), beyond, distances[:, -1] + 1)
        # one that left takes the distance of the next that stays, and so adds no step
        ends = np.concatenate([np.where(stays, distances, np.inf), beyond[:, None]], axis=1)
        ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
        steps = np.maximum(np.diff(ends, axis=1), 0) / np.maximum(np.cumsum(stays, axis=1), 1)
        values = np.where(stays, np.cumsum(steps[:, ::-1], axis=1)[:, ::-1], 0.0)
        # no step at all: those that stay are as near as d₀ and share equally
        return divide(np.where(values.sum(axis=1, keepdims=True) > 0, values, stays))


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
    return divide_or_equal(np.cumsum(steps[:, ::-1], axis=1)[:, ::-1])
