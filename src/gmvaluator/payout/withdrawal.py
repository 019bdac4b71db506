"""What the recorded contributors would have scored without some training images.

A re-settlement, not a new valuation: the images that leave are taken out of each generated image's
recorded list and those that remain share its score anew. No image beyond the k is recalled in
their place; for that, value again without the images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gmvaluator.scoring.scores import Contributions
from gmvaluator.scoring.weightings import Remaining, Temperature, recorded_weighting


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
    """Take training images out; the sum that the contributors of a generated image share stays.

    Args:
        contributions: recorded, (m, k).
        gone: (n_train,) images that leave.
        weighting: of the run; see `Weighting.withdrawal`.
        temperature: of the run, as a number or `auto` (`temperature_used`).
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
