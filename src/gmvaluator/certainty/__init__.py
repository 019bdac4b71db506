"""A run goes in; intervals, agreement and stability of its values come out.

`uncertainty`: intervals of a run's values, and how many images are enough. `stability`: other
settings. `difference`: of two runs. `intervals`: the bootstrap. `agreement`: of two valuations.
`tables`: results as files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gmvaluator.lazy import lazy_names

if TYPE_CHECKING:
    from gmvaluator.certainty.difference import diff_runs
    from gmvaluator.certainty.intervals import bootstrap_shares, value_intervals
    from gmvaluator.certainty.stability import stability_run
    from gmvaluator.certainty.uncertainty import uncertainty_run

__all__ = [
    "bootstrap_shares",
    "diff_runs",
    "stability_run",
    "uncertainty_run",
    "value_intervals",
]

# `stability` loads torch, and payouts use `intervals` alone
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "bootstrap_shares": "intervals",
        "diff_runs": "difference",
        "stability_run": "stability",
        "uncertainty_run": "uncertainty",
        "value_intervals": "intervals",
    },
)
