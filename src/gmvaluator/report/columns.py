"""What the page says of each image: columns of cells, and the lines of a card that show them.

To add a field to a card, add a column to `image_columns` (of an image) or `pair_columns` (of a
training image beside a generated one), and a `Line` with the column's name to `card_lines`. The
script draws every line, in every list, from a record: the cells of one image by column. To let a
reader choose an order or a part of a list, add an `Order` or a `Filter`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.memory import once
from gmvaluator.runs.distribution import n_below
from gmvaluator.runs.folder import Run
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.weightings import recorded_weighting
from gmvaluator.shown import short_repr

Side = Literal["train", "generated"]
# a list of cards; a cluster is listed by the training image that stands for it
ListName = Literal["generated", "train", "clusters"]
Cells = Sequence[str | None] | NDArray[Any]
Columns = dict[str, Cells]
Record = dict[str, Any]

CONTRIBUTORS_SHOWN = 10
# images of a cluster on its card
MEMBERS_SHOWN = 10
# ids that decide where ids are cut
SAMPLE = 20_000
# of a content key in the file: 2⁴⁸ keys for a million images
KEY_BYTES = 6
# pairs of a generated and a training image in the file; 12 or 16 bytes each, before compression
MOST_PAIRS = 600_000


@dataclass(frozen=True)
class Line:
    """One line of text about an image, in which the cell of a column replaces `{}`.

    Attributes:
        column: whose cell. Images without a cell (None) have no such line.
        text: of the line.
        name: what stands before the text where one image is shown by itself; "" on cards.
        scale: factor of a number.
        low, high: numbers outside have no such line. None: no bound.
        decimals: of a number. None: four significant digits.
        percent: the number is a part of 1, written in per cent.
        style: `strong`, `warning` or "".
    """

    column: str
    text: str = "{}"
    name: str = ""
    scale: float = 1.0
    decimals: int | None = None
    percent: bool = False
    low: float | None = None
    high: float | None = None
    style: str = ""


@dataclass(frozen=True)
class Order:
    """An order of a list that a reader can choose: by a column of numbers; "": as in the set."""

    column: str
    text: str
    descending: bool = False


@dataclass(frozen=True)
class Filter:
    """A part of a list that a reader can choose: images whose cell is within both bounds."""

    text: str
    column: str
    low: float | None = None
    high: float | None = None


# the first order of each list is the one that the page opens with
ORDERS: dict[ListName, tuple[Order, ...]] = {
    "generated": (
        Order("spread", "spread over the whole set"),
        Order("", "as in the set"),
        Order("nearest", "nearest contributor first"),
        Order("quality", "highest quality first", descending=True),
        Order("quality", "lowest quality first"),
    ),
    "train": (
        Order("rank", "most valuable first"),
        Order("rank", "least valuable first", descending=True),
        Order("supports", "supports most generated images", descending=True),
        Order("", "as in the set"),
    ),
    "clusters": (
        Order("copies", "most images first", descending=True),
        Order("rank", "most valuable first"),
        Order("", "as in the set"),
    ),
}


def image_columns(run: Run) -> dict[Side, Columns]:
    """The columns of the n training and of the m generated images."""
    valuation = run.valuation
    train: Columns = {
        "id": run.train.ids,
        "value": valuation.values,
        "rank": valuation.ranks,
        "supports": valuation.n_supported,
    }
    if valuation.clusters is not None:
        # images that share one score, this one included, and the one that stands for them
        train |= {
            "copies": valuation.clusters.sizes,
            "leader": valuation.clusters.representatives,
            "near": valuation.clusters.near.astype(np.uint8),
            "apart": valuation.clusters.distances,
        }
    generated: Columns = {
        "id": run.generated.ids,
        "quality": valuation.quality,
        "nearest": valuation.contributions.distances[:, 0].astype(np.float32),
        "silent": _silence(valuation),
        "spread": np.argsort(spread_order(len(run.generated.ids))),
    }
    if valuation.match_p is not None:
        generated["match"] = valuation.match_p
    if run.train.labels is not None:
        train["label"] = run.train.labels
    if run.generated.labels is not None:
        generated["label"] = run.generated.labels
    return {"train": train, "generated": generated}


def pair_columns(
    valuation: Valuation, generated: NDArray[np.int64], k: int
) -> dict[str, NDArray[Any]]:
    """Columns of the first k contributors of some generated images, each (len(generated), k)."""
    contributions = valuation.contributions
    return {
        "row": contributions.rows[generated, :k],
        "score": _as_short(contributions.scores[generated, :k]),
        "distance": contributions.distances[generated, :k].astype(np.float32),
    }


def _as_short(scores: NDArray[np.float64]) -> NDArray[np.floating]:
    """Scores as float32, or as they are where a score is too small for it, as beside a copy."""
    small = (scores > 0) & (scores < np.finfo(np.float32).tiny)
    return scores if small.any() else scores.astype(np.float32)


def card_lines(valuation: Valuation) -> dict[str, tuple[Line, ...]]:
    """The lines of each kind of card, and of the pages of one image (`about-…`)."""
    n, m = len(valuation.train_ids), len(valuation.generated_ids)
    label = Line("label", "label {}")
    share, distance = Line("share", percent=True, style="strong"), Line("distance", "d {}")
    score = Line("score", "score {}")
    if not gives_shares(valuation):
        share = score = Line("score", style="strong")
    # what one picture's page says beside its share
    scored = dict.fromkeys((share, score, distance))
    copies = Line("copies", "{} copies", low=2)
    about_train = [
        Line("number", f"row {{}} of {n:,}", "training image"),
        Line("value", name="value"),
        Line("rank", f"{{}} of {n:,}", "rank"),
        Line("label", name="label"),
        Line("supports", "{} generated images", "supports"),
    ]
    about_generated = [
        Line("number", f"row {{}} of {m:,}", "generated image"),
        Line("quality", name="quality"),
        Line("label", name="label"),
    ]
    card = [Line("quality", "quality {}")]
    total = float(valuation.values.sum())
    if total > 0 and not n_below(valuation.values):
        about_train.insert(2, Line("value", "{} %", "share of all value", scale=100 / total))
    test = valuation.record.unattributed
    if (level := match_level(valuation)) is not None and test is not None:
        digits = p_digits(test.n_null)
        card.append(
            Line(
                "match",
                "no close match: p {}",
                decimals=digits,
                high=level,
                style="warning",
            )
        )
        about_generated.insert(2, Line("match", name="p-value of its match", decimals=digits))
    return {
        "generated": (
            *card,
            label,
            Line("silent", "gave no score: nearest training images", low=1, high=1),
            Line("silent", "quality withheld: nearest training images", low=2),
        ),
        "train": (
            label,
            Line("supports", "supports {}"),
            Line("copies", "one of {} copies", low=2),
        ),
        "contributor": (share, distance, copies),
        "about-contributor": (*scored, copies),
        "supported": (*scored, Line("place", "contributor {}")),
        "copy": (
            Line("near", "exact copy", high=0),
            Line("near", "near copy", low=1),
            Line("apart", "d {}", low=float(np.finfo(np.float32).tiny)),
        ),
        "about-train": tuple(about_train),
        "about-generated": tuple(about_generated),
    }


def filters_of(images: Images) -> dict[ListName, tuple[Filter, ...]]:
    """The parts of each list that a reader can choose; each text ends with its number of images."""
    level = match_level(images.valuation)
    filters: dict[ListName, tuple[Filter, ...]] = {
        "generated": (
            Filter("no close match", "match", high=level),
            Filter("a close match", "match", low=None if level is None else level + 1e-12),
            Filter("gave no score", "silent", low=1),
        ),
        "train": (
            Filter("contributed", "supports", low=1),
            Filter("did not contribute", "supports", high=0),
            Filter("has copies", "copies", low=2),
            Filter("has no copies", "copies", high=1),
        ),
        "clusters": (),
    }
    return {
        name: tuple(
            replace(part, text=f"{part.text} ({int(images.within(name, part).sum()):,})")
            for part in parts
            if part.column in images.columns[side_of(name)]
        )
        for name, parts in filters.items()
    }


def gives_shares(valuation: Valuation) -> bool:
    """Whether the scores of a generated image are parts of its quality; influences are not."""
    settings = valuation.record.settings
    return not (settings.signed or settings.whole_set)


def view_temperature(images: Images) -> float | None:
    """τ that shared every generated image; None: none did, or not all shares are here."""
    settings = images.valuation.record.settings
    measured = settings.dimension_used is not None
    temperature = settings.temperature if measured else settings.temperature_used
    whole = images.stored[1] == images.valuation.contributions.rows.shape[1]
    shared = whole and recorded_weighting(settings.weighting).has_temperature
    return float(temperature) if shared and isinstance(temperature, int | float) else None


def _silence(valuation: Valuation) -> NDArray[np.uint8]:
    """(m,) 0: the image gave scores. 1: it gave none. 2: its quality was withheld."""
    silent = (valuation.contributions.scores == 0).all(axis=1)
    return np.where(silent, np.where(valuation.unattributed > 0, 2, 1), 0).astype(np.uint8)


def side_of(name: ListName) -> Side:
    """The set whose images a list shows."""
    return "generated" if name == "generated" else "train"


@short_repr
@dataclass(frozen=True, eq=False)
class Images:
    """The columns of a run's images, read by image and in an order.

    Attributes:
        valuation: of the run.
        columns: from `image_columns`, and once pictures are read, `picture`.
    """

    valuation: Valuation
    columns: dict[Side, Columns]

    def order(self, name: ListName, order: Order) -> NDArray[np.int64]:
        """Rows of all images of a list in an order; the script sorts in the same way."""
        rows = np.arange(len(self.columns[side_of(name)]["id"]))
        if name == "clusters":
            clusters = self.valuation.clusters
            rows = (
                rows[:0] if clusters is None else clusters.kept[clusters.sizes[clusters.kept] > 1]
            )
        if not order.column or not len(rows):
            return rows
        cells = np.asarray(self.columns[side_of(name)][order.column], dtype=np.float64)[rows]
        return rows[np.argsort(-cells if order.descending else cells, kind="stable")]

    def within(self, name: ListName, part: Filter) -> NDArray[np.bool_]:
        """(n,) whether each image of the list's set is in a part of it."""
        cells = np.asarray(self.columns[side_of(name)][part.column], dtype=np.float64)
        low = -np.inf if part.low is None else part.low
        high = np.inf if part.high is None else part.high
        return np.asarray((cells >= low) & (cells <= high))

    def record(self, side: Side, row: int) -> Record:
        """What a card shows of one image; `number` counts from 1."""
        cells = {name: plain(cells[row]) for name, cells in self.columns[side].items()}
        return {"side": side, "row": int(row), "number": int(row) + 1, **cells}

    def generated_record(self, row: int) -> Record:
        """`record` of a generated image, with the records of its first contributors."""
        pairs = pair_columns(self.valuation, np.array([row]), CONTRIBUTORS_SHOWN)
        contributors = [
            self.record("train", int(train))
            | {name: plain(cells[0, place]) for name, cells in pairs.items() if name != "row"}
            | {"place": place + 1}
            for place, train in enumerate(pairs["row"][0])
        ]
        return self.record("generated", row) | {"contributors": contributors}

    def members(self, leader: int) -> NDArray[np.int64]:
        """Rows of a cluster's first images, that which stands for the cluster first."""
        if self.valuation.clusters is None:
            return np.array([leader])
        rows = np.flatnonzero(self.valuation.clusters.representatives == leader)
        return np.concatenate([[leader], rows[rows != leader]])[:MEMBERS_SHOWN]

    def cluster_record(self, leader: int) -> Record:
        """`record` of the image that stands for a cluster, with the records of its first images."""
        members = [self.record("train", int(row)) for row in self.members(leader)]
        return self.record("train", leader) | {"members": members}

    @property
    @once
    def stored(self) -> tuple[NDArray[np.int64], int]:
        """Generated rows whose contributors the file holds, and how many of each.

        All of a usual run; of larger ones fewer contributors, then fewer generated images.
        """
        m, k = self.valuation.contributions.rows.shape
        stored_k = min(k, max(CONTRIBUTORS_SHOWN, MOST_PAIRS // max(1, m)))
        return np.sort(spread_order(m)[: MOST_PAIRS // max(1, stored_k)]), stored_k

    def tables(self) -> dict[str, Cells]:
        """All columns under the names by which the script opens them."""
        rows, k = self.stored
        pairs = pair_columns(self.valuation, rows, k)
        return {
            **{
                f"{side}-{name}": cells
                for side in self.columns
                for name, cells in self.columns[side].items()
            },
            **{f"pair-{name}": cells for name, cells in pairs.items()},
            "stored": rows,
            **{
                f"{side}-key": packed_keys(keys)
                for side, keys in (
                    ("train", self.valuation.train_keys),
                    ("generated", self.valuation.generated_keys),
                )
                if keys is not None
            },
        }


def common_end(ids: Sequence[str]) -> int:
    """Number of last characters that all of several ids share; 0 where there is one id."""
    if len(ids) < 2:
        return 0
    # of sorted texts, the first and the last differ earliest
    backwards = [name[::-1] for name in ids]
    pairs = zip(min(backwards), max(backwards), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def telling_end(ids: Sequence[str], shared: int) -> int:
    """Characters before the `shared` last ones that tell nearly all ids apart, 6 to 14."""
    sample = [name[: len(name) - shared] for name in ids[:SAMPLE]]
    lengths = range(6, 14)
    return next((n for n in lengths if len({s[-n:] for s in sample}) >= 0.95 * len(sample)), 14)


def packed_keys(keys: Sequence[str]) -> NDArray[np.uint8]:
    """(n, KEY_BYTES) the first bytes of content keys, by which a file is recognised."""
    digits = "".join(key[: 2 * KEY_BYTES] for key in keys)
    return np.frombuffer(bytes.fromhex(digits), np.uint8).reshape(-1, KEY_BYTES)


def spread_order(m: int) -> NDArray[np.int64]:
    """All rows of m, in an order whose first rows, however many, span the whole set.

    The van der Corput sequence: row numbers sorted by their binary digits reversed.
    """
    bits = max(1, (m - 1).bit_length())
    numbers = np.arange(2**bits)
    reversed_bits = np.zeros_like(numbers)
    for bit in range(bits):
        reversed_bits |= ((numbers >> bit) & 1) << (bits - 1 - bit)
    return reversed_bits[reversed_bits < m]


def match_level(valuation: Valuation) -> float | None:
    """The p-value up to which a generated image counts as without a contributor."""
    test = valuation.record.unattributed
    return None if valuation.match_p is None or test is None else test.level


def p_digits(n_null: int) -> int:
    """Decimals of a p-value, a multiple of 1 / (n_null + 1): those that tell multiples apart.

    One more where all multiples are exact with it: 0.0025 of 400, and not 0.002.
    """
    steps = n_null + 1
    digits = math.ceil(math.log10(steps))
    return digits if 10**digits % steps == 0 or 10 ** (digits + 1) % steps else digits + 1


def plain(cell: Any) -> str | int | float | None:
    """A cell as JSON can hold it: NaN and infinity, which are no JSON, as text."""
    value = cell.item() if isinstance(cell, np.generic) else cell
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
