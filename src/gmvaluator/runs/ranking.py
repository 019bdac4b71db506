"""Ranks by value: equal values share a rank, and most values of a usual run are exactly 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def shared_ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) rank of each of n values, 1 = highest; equal values share the least of their ranks."""
    ascending = np.sort(values)
    return len(values) - np.searchsorted(ascending, values, side="right") + 1


def equally_low(
    values: NDArray[np.float64], nearest: NDArray[np.float32] | None, wanted: int
) -> tuple[NDArray[np.int64], int]:
    """Rows of the lowest values, lowest first: as many as wanted, and all that equal the last one.

    Of equal values those come first that came less near to a generated image; those that were never
    a candidate come before all.

    Args:
        values: (n,).
        nearest: (n,) `Valuation.nearest_distances`; None: equal values are equally low.
        wanted: at most n.

    Returns:
        The rows, and how many of them are equal to the last one that was wanted; 0 for no row.
    """
    far = np.zeros(len(values)) if nearest is None else np.nan_to_num(nearest, nan=np.inf)
    order = np.lexsort((-far, values))
    if not wanted:
        return order[:0], 0
    last = order[wanted - 1]
    equal = (values == values[last]) & (far == far[last])
    above = (values > values[last]) | ((values == values[last]) & (far < far[last]))
    return order[: len(values) - int(above.sum())], int(equal.sum())


def idle_text(n_supported: NDArray[np.int64], ranks: NDArray[np.int64]) -> str:
    """How many of n training images contributed to nothing, and their rank; "" where all did.

    Args:
        n_supported, ranks: (n,) of a `Valuation`.
    """
    idle = n_supported == 0
    count = int(idle.sum())
    if not count:
        return ""
    rank = int(ranks[idle][0])
    fate = f"their value is 0, and they share rank {rank:,}"
    if count == 1:
        fate = f"its value is 0, and its rank is {rank:,}"
    return f"{count:,} of {len(ranks):,} training images contributed to nothing: {fate}"
