"""Values summed over training images with the same label or cell of a metadata column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.report.packing import codes_of
from gmvaluator.runs.distribution import n_below

NO_ENTRY, NOT_LISTED = "(no entry)", "(no longer listed)"
GROUPS_SHOWN = 100


@dataclass(frozen=True)
class Group:
    """All training images with the same label or cell of a metadata column."""

    name: str
    real: bool  # False: of images without a cell; `name` says why
    count: int
    total: float
    share: float | None  # of all value, 0 … 1; None where some values are below 0
    of_images: float  # share of all training images, 0 … 1


@dataclass(frozen=True)
class GroupTable:
    """The groups of one column, highest total first.

    Attributes:
        n: all groups, shown or not.
        n_gone: images whose cell is not known, because the set no longer lists them.
        n_below: values below 0; with any, there are no shares.
    """

    column: str
    groups: tuple[Group, ...]
    n: int
    n_gone: int
    n_below: int


def group_table(
    values: NDArray[np.float64],
    column: str,
    cells: Sequence[Any],
    gone: NDArray[np.bool_] | None = None,
) -> GroupTable:
    """Sums of the (n,) values over equal cells, highest first.

    Cells that are None and images that are `gone` (n,) have groups of their own, whatever text
    other cells hold.
    """
    lost = np.zeros(len(values), dtype=bool) if gone is None else gone
    named = [
        (False, NOT_LISTED) if away else (False, NO_ENTRY) if cell is None else (True, str(cell))
        for cell, away in zip(cells, lost.tolist(), strict=True)
    ]
    known, codes = codes_of(named)
    totals = np.bincount(codes, weights=values, minlength=len(known))
    counts = np.bincount(codes, minlength=len(known))
    everything, below = float(values.sum()), n_below(values)
    shares = totals / everything if everything > 0 else np.zeros_like(totals)
    order = np.argsort(-totals, kind="stable")[:GROUPS_SHOWN]
    groups = tuple(
        Group(
            name=known[place][1],
            real=known[place][0],
            count=int(counts[place]),
            total=float(totals[place]),
            share=None if below else float(shares[place]),
            of_images=float(counts[place] / len(values)),
        )
        for place in order
    )
    return GroupTable(column, groups, len(known), int(lost.sum()), below)
