"""What a run says of generated images without a contributor, read with care: runs may be old."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.runs.valuation import Valuation


def told_of_null(valuation: Valuation) -> Mapping[str, Any]:
    """What run.json says of the test for images without a contributor, if anything."""
    told = valuation.info.get("unattributed")
    return told if isinstance(told, Mapping) else {}


def match_level(valuation: Valuation) -> float | None:
    """The p-value up to which a generated image counts as without a contributor."""
    level = told_of_null(valuation).get("level")
    return None if valuation.match_p is None or level is None else float(level)


def gave_nothing(valuation: Valuation) -> NDArray[np.bool_]:
    """(m,) generated images without a score above or below 0, as of quality 0 or unattributed."""
    return np.asarray((valuation.contributions.scores == 0).all(axis=1))
