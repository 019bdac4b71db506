"""Scores of the recorded contributors after some training images were withdrawn.

A withdrawal is a re-settlement, not a new valuation: withdrawn images leave each generated image's
recorded contributors, and the remaining ones share its score. No other training image takes their
place. To recall other images, value again without the withdrawn ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gmvaluator.scoring.scores import Contributions
from gmvaluator.scoring.weightings import Remaining, Temperature, recorded_weighting
from gmvaluator.shown import short_repr


@short_repr
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
    remaining = Remaining(contributions.distances[touched], scores[touched], stays[touched])
    shares = recorded_weighting(weighting).resettle(remaining, temperature)
    resettled = scores.copy()
    resettled[touched] = shares * attributed[touched, None]
    has_contributor = stays.any(axis=1)
    return Withdrawal(
        replace(contributions, scores=resettled),
        np.where(has_contributor, 0.0, attributed).astype(np.float64),
    )
