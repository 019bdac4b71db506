"""Weightings: from contributors to the shares they have in a generated image.

A weighting is one file of this folder and one line of the table `WEIGHTINGS`: `expected_rank`,
`softmax`, `shapley`, `ridge`, `global_ridge`. `base`: what a weighting is. The others are
arithmetic: `shares` (rows that sum to 1), `kernel_ridge` (among candidates), `landmarks` (among all
training images).
"""

from __future__ import annotations

from typing import NoReturn

from gmvaluator.errors import InputError
from gmvaluator.matching.rerank import Contributors
from gmvaluator.scoring.weightings.base import Choice, Remaining, Temperature, Weighting
from gmvaluator.scoring.weightings.expected_rank import ExpectedRank
from gmvaluator.scoring.weightings.global_ridge import GlobalRidge
from gmvaluator.scoring.weightings.ridge import Ridge
from gmvaluator.scoring.weightings.shapley import Shapley
from gmvaluator.scoring.weightings.softmax import Softmax

__all__ = [
    "WEIGHTINGS",
    "Choice",
    "Remaining",
    "Temperature",
    "Weighting",
    "recorded_weighting",
    "weighting_named",
]

WEIGHTINGS: dict[str, Weighting] = {
    weighting.name: weighting
    for weighting in (ExpectedRank(), Softmax(), Shapley(), Ridge(), GlobalRidge())
}
"""Weightings by name."""


class _Unknown(Weighting):
    """The weighting of a run that names none, such as a baseline's: scores can be rescaled only."""

    name = ""

    def shares(self, contributors: Contributors, temperature: Temperature) -> NoReturn:
        raise InputError("this run records no weighting of this version; value again")


def weighting_named(name: str) -> Weighting:
    """The weighting of a name.

    Raises:
        InputError: unknown name.
    """
    if not isinstance(name, str) or name not in WEIGHTINGS:
        raise InputError(f"unknown weighting {name!r}; choose one of {', '.join(WEIGHTINGS)}")
    return WEIGHTINGS[name]


def recorded_weighting(name: object) -> Weighting:
    """The weighting that a run records; one that only rescales scores where the run names none."""
    return WEIGHTINGS.get(str(name), _Unknown())
