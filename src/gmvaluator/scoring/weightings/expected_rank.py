"""Shares by the expected rank of a distance, and by how much an image adds to its neighbours.

Distances say little by themselves: between photographs the fiftieth neighbour is a few per cent
farther than the first, between digits a half. What a distance says is how many training images one
expects to be nearer. Where images fill D dimensions, their number within a distance d grows as d^D,
so that a contributor at distance d_i has the expected rank

    r_i = (d_i / d_1)^D,

where the nearest contributor is at d_1. D is the intrinsic dimension of the training set. An image
at rank r gets a share in proportion to r^(−1/τ): with τ below 1, most of the score goes to the
first few, and to a single one where it is far nearer than images of this kind usually are, as the
source of a copy is. The rule has no unit, and is the same for any set and any distance.

Neighbours often say the same: of ten near copies of an image each would have a full share. So the
share is multiplied by a_i + `LEAST_ADDED`, where a_i is the squared kernel ridge weight among the
contributors in the last recall space (`kernel_ridge`), divided by the greatest. The little that is
added keeps sources which kernel ridge does not see, such as a picture that was shifted.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.geometry import Vectors, pair_squared
from gmvaluator.matching.rerank import Contributors
from gmvaluator.scoring.weightings.base import Choice, Remaining, Temperature, Weighting, rescaled
from gmvaluator.scoring.weightings.kernel_ridge import ridge_within
from gmvaluator.scoring.weightings.ridge import kernel_of, query_vectors, training_vectors
from gmvaluator.scoring.weightings.shares import divide, divide_or_equal
from gmvaluator.scoring.weightings.softmax import softmax_weights

LEAST_ADDED = 0.01
"""Part of the greatest addition that every contributor has."""
LEAST_DISTANCE = 1e-3
"""Part of the greatest distance of a row below which distances are rounding."""


class ExpectedRank(Weighting):
    """w_ij ∝ (d_ij / d_1j)^(−D/τ) · (a_ij + ε)."""

    name = "expected-rank"
    has_temperature = True
    default_temperature = 0.7
    by_dimension = True
    takes_nearest = True
    withdrawal = (
        "exact within the recorded contributors, but for what each adds to the others: that was "
        "measured when all were there"
    )

    def choose(self, choice: Choice, k: int) -> Contributors:
        """The k nearest, with the squared kernel ridge weight of each among them."""
        nearest = choice.nearest().nearest(k)
        within = replace(choice, first=choice.last, generated=_nearer_forms(choice, nearest.rows))
        with choice.progress.stage("weights (ridge)", len(nearest.rows)) as advance:
            weights = ridge_within(
                kernel_of(within), nearest.rows, training_vectors(within), query_vectors(within)
            )
            advance(len(nearest.rows))
        return replace(nearest, ridge=weights)

    def shares(self, contributors: Contributors, temperature: Temperature) -> NDArray[np.float64]:
        """See the module.

        Args:
            contributors: with ridge weights.
            temperature: τ/D, or `auto`: one per generated image, by the perplexity of the ranks.
        """
        if contributors.ridge is None:
            raise InputError(
                f"these contributors have no ridge weights; choose them by weighting {self.name}"
            )
        greatest = contributors.ridge.max(axis=1, keepdims=True)
        added = np.divide(
            contributors.ridge,
            greatest,
            out=np.zeros_like(contributors.ridge),
            where=greatest > 0,
        )
        by_rank = softmax_weights(log_distances(contributors.distances), temperature)
        return divide(by_rank * (added + LEAST_ADDED))

    def reshared(
        self,
        distances: NDArray[np.float32],
        scores: NDArray[np.float64],
        before: Temperature,
        after: Temperature,
    ) -> NDArray[np.float64]:
        """What each adds is what its score has beyond its rank."""
        logarithms = log_distances(distances)
        by_rank = softmax_weights(logarithms, before)
        added = np.divide(scores, by_rank, out=np.zeros_like(scores), where=by_rank > 0)
        return divide_or_equal(softmax_weights(logarithms, after) * added)

    def resettle(self, remaining: Remaining, temperature: Temperature) -> NDArray[np.float64]:
        logarithms = log_distances(remaining.distances)
        return rescaled(replace(remaining, distances=logarithms), temperature)


def log_distances(distances: NDArray[np.float32]) -> NDArray[np.float64]:
    """(m, k) logarithms of distances, the least of them bounded from below; 0 where all are 0."""
    exact = distances.astype(np.float64)
    least = LEAST_DISTANCE * exact.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.where(least > 0, np.maximum(exact, least), 1.0)))


def _nearer_forms(choice: Choice, rows: NDArray[np.int64]) -> Vectors:
    """(m, dim) generated images in the last recall space: as they are, or mirrored where nearer.

    Args:
        rows: (m, k) of the contributors; a form is as near as its nearest one.
    """
    m, k = rows.shape
    forms = choice.forms
    n_forms = len(forms) // m
    if n_forms == 1:
        return forms
    numbers = np.repeat(np.arange(len(forms)), k)
    squared = pair_squared(forms, numbers, choice.last.vectors, np.tile(rows.ravel(), n_forms))
    nearest = squared.reshape(n_forms, m, k).min(axis=2)
    nearer: Vectors = forms[nearest.argmin(axis=0) * m + np.arange(m)]
    return nearer
