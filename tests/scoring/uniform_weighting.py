"""A weighting of one file: every contributor has an equal share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gmvaluator.matching.rerank import Contributors
from gmvaluator.scoring.weightings import Remaining, Temperature, Weighting


class Uniform(Weighting):
    """1/k for each of the k nearest."""

    name = "uniform"
    withdrawal = "exact: equal shares of those that remain"

    def conflict(self, *, reranked: bool, mirror: bool) -> str | None:
        return "weighting uniform takes no mirror images; pass mirror=False" if mirror else None

    def shares(self, contributors: Contributors, temperature: Temperature) -> NDArray[np.float64]:
        return np.full(contributors.rows.shape, 1 / contributors.rows.shape[1])

    def resettle(self, remaining: Remaining, temperature: Temperature) -> NDArray[np.float64]:
        n_remaining = np.maximum(remaining.stays.sum(axis=1, keepdims=True), 1)
        return np.asarray(remaining.stays / n_remaining, dtype=np.float64)
