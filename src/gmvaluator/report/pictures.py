"""Which pictures a report holds, and reading them: what is shown first, then as many as fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.progress import Progress
from gmvaluator.runs.folder import Run, State
from gmvaluator.runs.valuation import Valuation

Side = Literal["train", "generated"]
Key = tuple[Side, int]

GALLERY_PAGE = 12
VALUES_PAGE = 20
CONTRIBUTORS_SHOWN = 10
# generated images whose shown contributors all come before the rest
WHOLE = 200
THUMBNAIL_SIDE = 128
# of every file that is read, however small its picture
MOST_READ = 50_000


@dataclass(frozen=True, eq=False)
class Pictures:
    """Thumbnails by side and row.

    Attributes:
        found: PNG or JPEG content.
        troubles: images that cannot be shown, and why: missing, unreadable or changed.
        full: some more would have been shown, had they fitted.
    """

    found: dict[Key, bytes]
    troubles: dict[Key, State]
    full: bool

    def states(self, side: Side, n: int) -> NDArray[np.uint8]:
        """(n,) codes of `STATES`."""
        codes = np.full(n, STATES.index("left out"), dtype=np.uint8)
        for (of, row), state in self.troubles.items():
            if of == side:
                codes[row] = STATES.index(state)
        codes[[row for of, row in self.found if of == side]] = STATES.index("shown")
        return codes


STATES = ("shown", "missing", "unreadable", "changed", "left out")


@dataclass(frozen=True, eq=False)
class Orders:
    """Orders of the generated images that a reader can choose, each (m,) rows."""

    spread: NDArray[np.int64]
    by_name: dict[str, NDArray[np.int64]] = field(default_factory=dict)


def gallery_orders(valuation: Valuation) -> Orders:
    """The orders of the gallery; the script sorts in the same ways."""
    nearest = valuation.contributions.distances[:, 0]
    return Orders(
        spread=spread_order(len(valuation.generated_ids)),
        by_name={
            "nearest": np.argsort(nearest, kind="stable"),
            "best": np.argsort(-valuation.quality, kind="stable"),
            "worst": np.argsort(valuation.quality, kind="stable"),
        },
    )


def spread_order(m: int) -> NDArray[np.int64]:
    """All rows of m, so that however many are taken from the start, they span the whole set.

    The van der Corput sequence: row numbers with the order of their binary digits reversed.
    """
    bits = max(1, (m - 1).bit_length())
    numbers = np.arange(2**bits)
    reversed_bits = np.zeros_like(numbers)
    for bit in range(bits):
        reversed_bits |= ((numbers >> bit) & 1) << (bits - 1 - bit)
    return reversed_bits[reversed_bits < m]


def wanted(valuation: Valuation, orders: Orders) -> Iterator[Key]:
    """Pictures by how soon a reader sees them; some come more than once."""
    by_rank = np.argsort(valuation.ranks)
    rows = valuation.contributions.rows
    shown = rows[:, :CONTRIBUTORS_SHOWN]
    for row in (*by_rank[:VALUES_PAGE], *by_rank[::-1][:VALUES_PAGE]):
        yield "train", int(row)
    firsts = [order[:GALLERY_PAGE] for order in (orders.spread, *orders.by_name.values())]
    for j in np.concatenate([*firsts, orders.spread[:WHOLE]]):
        yield "generated", int(j)
        yield from (("train", int(row)) for row in shown[j])
    yield from (("train", int(row)) for row in by_rank[: 10 * VALUES_PAGE])
    yield from (("generated", int(j)) for j in orders.spread)
    for place in range(rows.shape[1]):
        yield from (("train", int(row)) for row in rows[orders.spread, place])
    yield from (("train", int(row)) for row in by_rank)


def read_pictures(run: Run, keys: Iterable[Key], most_bytes: int, progress: Progress) -> Pictures:
    """Thumbnails of the images asked for, until `most_bytes` are full.

    An image is shown only if it still has the content that was valued (see `RunSide.png`). At
    most `MOST_READ` are read, shown or not. Those that the sets no longer list need no reading.
    """
    found: dict[Key, bytes] = {}
    sides = {"train": run.train, "generated": run.generated}
    distinct = list(dict.fromkeys(keys))
    troubles: dict[Key, State] = {
        (side, row): "missing" for side, row in distinct if sides[side].rows[row] < 0
    }
    listed = [key for key in distinct if key not in troubles]
    room, full = most_bytes, len(listed) > MOST_READ
    with progress.stage("pictures", min(len(listed), MOST_READ)) as advance:
        for key in listed[:MOST_READ]:
            if room <= 0:
                full = True
                break
            side, row = key
            state, picture = sides[side].thumbnail(row, THUMBNAIL_SIDE)
            if picture is None:
                troubles[key] = state
            else:
                found[key] = picture
                room -= len(picture)
            advance(1)
    return Pictures(found, troubles, full)
