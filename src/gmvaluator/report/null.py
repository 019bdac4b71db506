"""Generated images without a contributor, as a run records them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gmvaluator.runs.valuation import Valuation


def match_level(valuation: Valuation) -> float | None:
    """The p-value up to which a generated image counts as without a contributor."""
    test = valuation.record.unattributed
    return None if valuation.match_p is None or test is None else test.level


def gave_nothing(valuation: Valuation) -> NDArray[np.bool_]:
    """(m,) generated images without a score above or below 0, as of quality 0 or unattributed."""
    return np.asarray((valuation.contributions.scores == 0).all(axis=1))
