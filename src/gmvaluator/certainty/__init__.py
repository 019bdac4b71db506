"""A run goes in; intervals, agreement and stability of its values come out.

`uncertainty`: intervals of a run's values, and how many images are enough. `stability`: other
settings. `intervals`: the bootstrap. `agreement`: of two valuations. `tables`: results as files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmvaluator.certainty.intervals import bootstrap_shares, value_intervals
    from gmvaluator.certainty.stability import stability_run
    from gmvaluator.certainty.uncertainty import uncertainty_run

_HOMES = {
    "bootstrap_shares": "intervals",
    "stability_run": "stability",
    "uncertainty_run": "uncertainty",
    "value_intervals": "intervals",
}

__all__ = ["bootstrap_shares", "stability_run", "uncertainty_run", "value_intervals"]


def __getattr__(name: str) -> Any:
    # names load on first use: `stability` loads torch, and payouts use `intervals` alone
    if name not in _HOMES:
        raise AttributeError(f"module 'gmvaluator.certainty' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"gmvaluator.certainty.{_HOMES[name]}"), name)
