"""What a report says, picked from a run: plain strings and numbers for the page to set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gmvaluator.report.cards import Cards, GeneratedCard, ValueCard
from gmvaluator.report.groups import GroupTable, group_table
from gmvaluator.report.pictures import (
    GALLERY_PAGE,
    STATES,
    VALUES_PAGE,
    Orders,
    Pictures,
    Side,
)
from gmvaluator.report.records import Rows, record_tables
from gmvaluator.runs.folder import Run
from gmvaluator.runs.formatting import format_number
from gmvaluator.runs.valuation import Valuation

SKIPPED_SHOWN = 200
TROUBLES_SHOWN = 50
COPIES_SHOWN = 50


@dataclass(frozen=True)
class Trouble:
    """Images whose pictures are not shown because they are no longer what was valued."""

    side: Side
    state: str
    ids: tuple[str, ...]
    n: int


@dataclass(frozen=True)
class Copies:
    """A cluster of copies that count once.

    Attributes:
        id: of the image that stands for them.
        n: images, this one included.
        near: whether some are near copies, not exact ones.
        value: of all of them.
    """

    id: str
    n: int
    near: bool
    value: float


@dataclass(frozen=True)
class Contents:
    """Everything that is on the page before a script runs."""

    title: str
    asked: str
    summary: Rows
    notices: tuple[str, ...]
    troubles: tuple[Trouble, ...]
    generated: tuple[GeneratedCard, ...]
    most: tuple[ValueCard, ...]
    least: tuple[ValueCard, ...]
    groups: tuple[GroupTable, ...]
    copies: tuple[Copies, ...]
    n_copies: tuple[int, int]  # clusters of copies, images that another one stands for
    skipped: tuple[tuple[str, str, str], ...]
    n_skipped: int
    records: tuple[tuple[str, Rows], ...]


def collect(
    run: Run,
    orders: Orders,
    pictures: Pictures,
    *,
    title: str,
    summary: Rows = (),
    columns: Sequence[str] = (),
) -> Contents:
    """Pick what the page shows at once.

    Raises:
        InputError: a column that the training set does not have.
    """
    valuation = run.valuation
    cards = Cards(run, pictures)
    n, m = len(valuation.train_ids), len(valuation.generated_ids)
    by_rank = np.argsort(valuation.ranks)
    return Contents(
        title=title,
        asked=f"How much did each of {n:,} training images contribute to {m:,} generated images?",
        summary=(*_summary(valuation), *summary),
        notices=_notices(run, pictures),
        troubles=_troubles(run, pictures),
        generated=tuple(cards.generated(int(j)) for j in orders.spread[:GALLERY_PAGE]),
        most=tuple(cards.value(int(row)) for row in by_rank[:VALUES_PAGE]),
        least=tuple(cards.value(int(row)) for row in by_rank[::-1][:VALUES_PAGE]),
        groups=tuple(
            group_table(valuation.values, name, run.train.column(name), run.train.gone(name))
            for name in columns
        ),
        copies=_copies(valuation),
        n_copies=(0, 0) if (found := valuation.clusters) is None else (found.groups, found.copies),
        skipped=tuple(
            (side, skip.id, skip.reason) for side, skip in valuation.skipped[:SKIPPED_SHOWN]
        ),
        n_skipped=len(valuation.skipped),
        records=record_tables(run),
    )


def _copies(valuation: Valuation) -> tuple[Copies, ...]:
    """The largest clusters."""
    clusters = valuation.clusters
    if clusters is None or not clusters.copies:
        return ()
    n = len(clusters.representatives)
    near = np.bincount(clusters.representatives, weights=clusters.near, minlength=n)
    sums = np.bincount(clusters.representatives, weights=valuation.values, minlength=n)
    several = clusters.kept[clusters.sizes[clusters.kept] > 1]
    largest = several[np.argsort(-clusters.sizes[several], kind="stable")][:COPIES_SHOWN]
    return tuple(
        Copies(
            valuation.train_ids[row], int(clusters.sizes[row]), bool(near[row]), float(sums[row])
        )
        for row in largest
    )


def _summary(valuation: Valuation) -> Rows:
    values = valuation.values
    rows = [
        ("training images", f"{len(values):,}"),
        ("generated images", f"{len(valuation.generated_ids):,}"),
        ("with a value above 0", f"{int((values > 0).sum()):,}"),
        ("mean quality", format_number(float(valuation.quality.mean()))),
    ]
    test = valuation.record.unattributed
    if test is not None:
        rows.append(("of the quality without a contributor", f"{100 * test.share:.1f} %"))
    if valuation.clusters is not None and valuation.clusters.copies:
        rows.append(("copies that another image stands for", f"{valuation.clusters.copies:,}"))
    return tuple(rows)


def _notices(run: Run, pictures: Pictures) -> tuple[str, ...]:
    """What a reader must know before trusting a picture."""
    found = []
    for side, of in (("training", run.train), ("generated", run.generated)):
        if of.trouble is not None:
            found.append(f"The {side} images: {of.trouble}.")
    if run.train.keys is None or run.generated.keys is None:
        found.append(
            "This run was saved by a version that did not record what its images hold. Pictures "
            "are those that have the same names now and may differ from what was valued."
        )
    if pictures.full:
        found.append(
            "Not all pictures fit into this file. Those left out are marked; all numbers are here."
        )
    return tuple(found)


def _troubles(run: Run, pictures: Pictures) -> tuple[Trouble, ...]:
    found: dict[tuple[Side, str], list[str]] = {}
    for (side, row), state in pictures.troubles.items():
        of = run.train if side == "train" else run.generated
        found.setdefault((side, state), []).append(of.ids[row])
    return tuple(
        Trouble(side, state, tuple(ids[:TROUBLES_SHOWN]), len(ids))
        for (side, state), ids in sorted(found.items(), key=lambda item: STATES.index(item[0][1]))
    )
