"""What a report says, picked from a run: plain strings and numbers for the page to set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.report.packing import codes_of
from gmvaluator.report.pictures import (
    CONTRIBUTORS_SHOWN,
    GALLERY_PAGE,
    STATES,
    VALUES_PAGE,
    Orders,
    Pictures,
    Side,
)
from gmvaluator.report.tables import gave_nothing
from gmvaluator.runs import Run
from gmvaluator.showing import format_number
from gmvaluator.spread import n_below
from gmvaluator.valuation import Valuation

NO_ENTRY, NOT_LISTED = "(no entry)", "(no longer listed)"
GROUPS_SHOWN = 100
SKIPPED_SHOWN = 200
TROUBLES_SHOWN = 50
COPIES_SHOWN = 50
Rows = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Card:
    """An image on the page.

    Attributes:
        side, row: which one.
        id: its name.
        label: None where unknown.
        picture: PNG or JPEG; None: not shown, for the reason that `state` gives.
        state: a name of `pictures.STATES`.
    """

    side: Side
    row: int
    id: str
    label: str | None
    picture: bytes | None
    state: str


@dataclass(frozen=True)
class ContributorCard:
    """A training image beside a generated one that it contributed to."""

    image: Card
    distance: float  # smaller = more alike
    score: float  # of all its copies; the scores of one generated image sum to its quality
    copies: int  # images that it stands for, itself included


@dataclass(frozen=True)
class GeneratedCard:
    """A generated image and its nearest contributors, best first."""

    image: Card
    quality: float  # 0 bad … 1 good
    match: float | None  # p-value of its match with the training set; None: not tested
    nothing: bool  # it gave no score: the contributors are no more than the nearest images
    contributors: tuple[ContributorCard, ...]


@dataclass(frozen=True)
class ValueCard:
    """A training image and its value over all generated images; rank 1 = highest."""

    image: Card
    value: float
    rank: int
    n_supported: int
    copies: int  # images that share one score, itself included


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
class Cards:
    """Makes the cards of a run's images."""

    run: Run
    pictures: Pictures

    @cached_property
    def nothing(self) -> NDArray[np.bool_]:
        """(m,) generated images that gave no score."""
        return gave_nothing(self.run.valuation)

    def image(self, side: Side, row: int) -> Card:
        of = self.run.train if side == "train" else self.run.generated
        picture = self.pictures.found.get((side, row))
        state = "shown" if picture else self.pictures.troubles.get((side, row), "left out")
        label = None if of.labels is None else of.labels[row]
        return Card(side, row, of.ids[row], label, picture, state)

    def generated(self, j: int) -> GeneratedCard:
        found = self.run.valuation.contributions
        contributors = tuple(
            # as the script has them: 4 bytes a score
            ContributorCard(
                self.image("train", int(row)),
                float(found.distances[j, place]),
                float(np.float32(found.scores[j, place])),
                self.copies(int(row)),
            )
            for place, row in enumerate(found.rows[j][:CONTRIBUTORS_SHOWN])
        )
        quality = float(self.run.valuation.quality[j])
        tested = self.run.valuation.match_p
        match = None if tested is None else float(tested[j])
        nothing = bool(self.nothing[j])
        return GeneratedCard(self.image("generated", j), quality, match, nothing, contributors)

    def value(self, row: int) -> ValueCard:
        valuation = self.run.valuation
        return ValueCard(
            self.image("train", row),
            float(valuation.values[row]),
            int(valuation.ranks[row]),
            int(valuation.n_supported[row]),
            self.copies(row),
        )

    def copies(self, row: int) -> int:
        clusters = self.run.valuation.clusters
        return 1 if clusters is None else int(clusters.sizes[row])


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
        records=_records(run),
    )


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
    told = valuation.info.get("unattributed")
    if isinstance(told, Mapping) and isinstance(told.get("share"), int | float):
        rows.append(("of the quality without a contributor", f"{100 * told['share']:.1f} %"))
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


# parts of run.json by heading; what is in none of them comes under its own name
_HEADINGS = {
    "settings": "Settings",
    "unattributed": "Without a contributor",
    "seconds": "Seconds",
    "versions": "Versions",
    "weights": "Weights (SHA-256)",
    "encoders": "Encoders",
    "inputs": "Inputs",
    "images": "Images read",
}


def _records(run: Run) -> tuple[tuple[str, Rows], ...]:
    """All of run.json in tables: single entries first, then parts, then what is unknown here."""
    info = run.valuation.info
    single = [("run folder", run.folder.name), *((k, v) for k, v in info.items() if not _nested(v))]
    if run.seal is not None:
        single.append(("seal", run.seal))
    parts = {name: part for name, part in info.items() if _nested(part)}
    names = [name for name in _HEADINGS if name in parts]
    names += [name for name in parts if name not in _HEADINGS]
    tables = [("Run", flatten(dict(single)))]
    tables += [(_HEADINGS.get(name, name), flatten(parts[name])) for name in names]
    return tuple((heading, rows) for heading, rows in tables if rows)


def _nested(part: Any) -> bool:
    return isinstance(part, Mapping | list | tuple)


def flatten(part: Any, name: str = "") -> Rows:
    """A nested record as (name, text) pairs: `inputs` → (`train, source`, …)."""
    if isinstance(part, Mapping):
        pairs = [
            row
            for key, value in part.items()
            for row in flatten(value, f"{name}, {key}" if name else str(key))
        ]
        return tuple(pairs)
    if isinstance(part, list | tuple):
        return ((name, ", ".join(str(each) for each in part)),)
    return ((name, "none" if part is None else str(part)),)
