"""The tables of the page that need no script: sums by a column, and skipped images.

To add a column to the sums, add a `GroupColumn`. Where the column shows a number that `Group` does
not have, add the number to `Group` and compute it in `sum_groups`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.report.html import percent
from gmvaluator.runs.distribution import n_below
from gmvaluator.runs.folder import Run
from gmvaluator.runs.formatting import format_number
from gmvaluator.runs.valuation import Valuation
from gmvaluator.shown import short_repr

NO_ENTRY, NOT_LISTED = "(no entry)", "(no longer listed)"
GROUPS_SHOWN, SKIPPED_SHOWN = 100, 200
# a number is a bar, as a share of the longest one
Cell = str | float


@short_repr
@dataclass(frozen=True)
class Row:
    """A row of a table: its head, and its cells. `named`: the head is a name from the data."""

    head: str
    cells: tuple[Cell, ...]
    named: bool = True


@short_repr
@dataclass(frozen=True)
class Table:
    """A section of the page with one table.

    Attributes:
        id: of the section, for links.
        link: text of the link to it.
        heading: of the section.
        subject: name from the data that ends link and heading; "" if there is none.
        notes: paragraphs above the table.
        head: headings of the columns, that of the rows' heads first.
        rows: as shown.
        warning: what a reader must know before trusting the table, or "".
        figures: cells are numbers, not text.
    """

    id: str
    link: str
    heading: str
    subject: str
    notes: tuple[str, ...]
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    warning: str = ""
    figures: bool = True


@dataclass(frozen=True)
class Group:
    """All training images with the same cell of a column."""

    name: str
    named: bool  # False: images without a cell; `name` says why
    count: int
    total: float
    share: float | None  # of all value, 0 … 1; None where some values are below 0
    of_images: float  # share of all training images, 0 … 1


@dataclass(frozen=True)
class GroupColumn:
    """A column of the sums. `of_share`: left out where values below 0 leave no shares."""

    heading: str
    cell: Callable[[Group, Group], Cell]  # of a group, beside the group with the highest total
    of_share: bool = False


GROUP_COLUMNS = (
    GroupColumn("images", lambda group, first: f"{group.count:,}"),
    GroupColumn("total value", lambda group, first: format_number(group.total)),
    GroupColumn("share of value", lambda group, first: percent(group.share or 0, 1), of_share=True),
    GroupColumn(
        "",
        lambda group, first: (group.share or 0) / first.share if first.share else 0.0,
        of_share=True,
    ),
    GroupColumn("mean value", lambda group, first: format_number(group.total / group.count)),
    GroupColumn(
        "× its share",
        lambda group, first: f"{(group.share or 0) / group.of_images:.2f}",
        of_share=True,
    ),
)


def tables_of(run: Run, columns: Sequence[str]) -> list[Table]:
    """All tables.

    Raises:
        InputError: the training set has no such column.
    """
    groups = [_group_table(run, name, number) for number, name in enumerate(columns, start=1)]
    return [*groups, _skipped_table(run.valuation)]


def sum_groups(
    values: NDArray[np.float64], cells: Sequence[Any], gone: NDArray[np.bool_] | None = None
) -> list[Group]:
    """Sums of the (n,) values over equal cells, highest first.

    Images whose cell is None and images that are `gone` (n,) have groups of their own, whatever
    text other cells hold.
    """
    unlisted = np.zeros(len(values), dtype=bool) if gone is None else gone
    names = [
        (NOT_LISTED, False) if away else (NO_ENTRY, False) if cell is None else (str(cell), True)
        for cell, away in zip(cells, unlisted.tolist(), strict=True)
    ]
    places: dict[tuple[str, bool], int] = {}
    group_of = np.array([places.setdefault(name, len(places)) for name in names], dtype=np.int64)
    totals = np.bincount(group_of, weights=values, minlength=len(places))
    counts = np.bincount(group_of, minlength=len(places))
    whole = float(values.sum())
    shares = totals / whole if whole > 0 else np.zeros_like(totals)
    keys, signed = list(places), n_below(values) > 0
    return [
        Group(
            name=keys[place][0],
            named=keys[place][1],
            count=int(counts[place]),
            total=float(totals[place]),
            share=None if signed else float(shares[place]),
            of_images=float(counts[place] / len(values)),
        )
        for place in np.argsort(-totals, kind="stable")
    ]


def _group_table(run: Run, name: str, number: int) -> Table:
    values, gone = run.valuation.values, run.train.gone(name)
    groups = sum_groups(values, run.train.column(name), gone)
    shown = groups[:GROUPS_SHOWN]
    below = n_below(values)
    columns = [column for column in GROUP_COLUMNS if not (below and column.of_share)]
    notes = [
        f"{below:,} values are below 0, so there are no shares of a whole."
        if below
        else "× its share is the group's share of all value, divided by its share of all training "
        "images. It would be 1 for every group if all images had the same value."
    ]
    if len(groups) > len(shown):
        notes.append(f"The {len(shown)} of {len(groups):,} groups with the highest totals.")
    warning = (
        f"{int(gone.sum()):,} of {len(values):,} training images are no longer listed in the set. "
        f"Their entries in this column are not known; their values are counted as {NOT_LISTED}."
    )
    return Table(
        id=f"group-{number}",
        link="By",
        heading="Value by",
        subject=name,
        notes=tuple(notes),
        warning=warning if gone.any() else "",
        head=(name, *(column.heading for column in columns)),
        rows=tuple(
            Row(group.name, tuple(c.cell(group, shown[0]) for c in columns), group.named)
            for group in shown
        ),
    )


def _skipped_table(valuation: Valuation) -> Table:
    skipped = valuation.skipped
    if not skipped:
        notes = ["None: every image of both sets was used."]
    else:
        verb = (
            "image could not be used and has"
            if len(skipped) == 1
            else "images could not be used and have"
        )
        notes = [f"{len(skipped):,} {verb} no part in this run."]
    if len(skipped) > SKIPPED_SHOWN:
        notes.append(f"The first {SKIPPED_SHOWN}; skipped.parquet lists all.")
    rows = tuple(Row(skip.id, (side, skip.reason)) for side, skip in skipped[:SKIPPED_SHOWN])
    return Table(
        id="skipped",
        link="Skipped",
        heading="Skipped images",
        subject="",
        notes=tuple(notes),
        head=("image", "set", "reason"),
        rows=rows,
        figures=False,
    )
