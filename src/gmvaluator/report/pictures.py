"""Which pictures the report holds: those that are shown first, then as many as fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmvaluator.progress import Progress
from gmvaluator.report.columns import CONTRIBUTORS_SHOWN, ORDERS, Images, Side
from gmvaluator.report.lookalikes import CELLS, signature
from gmvaluator.runs.folder import Run
from gmvaluator.runs.images import State
from gmvaluator.shown import short_repr

Key = tuple[Side, int]

GALLERY_PAGE = 12
VALUES_PAGE = 20
CLUSTERS_PAGE = 8
# generated images, spread over the set, whose shown contributors come before all other images
WHOLE = 200
THUMBNAIL_SIDE = 128
# files that are read, however small their pictures
MOST_READ = 50_000
# why an image has no picture
STATES = ("missing", "unreadable", "changed", "left out")


@short_repr
@dataclass(frozen=True, eq=False)
class Pictures:
    """Thumbnails by side and row.

    Attributes:
        shown: PNG or JPEG content.
        signatures: (len(shown), CELLS) uint8, `signature` of each picture.
        troubles: images that cannot be shown, and why: missing, unreadable or changed.
        full: some pictures were left out because they did not fit.
    """

    shown: dict[Key, bytes]
    signatures: NDArray[np.uint8]
    troubles: dict[Key, State]
    full: bool

    def codes(self, side: Side, n: int) -> NDArray[np.uint32]:
        """(n,) place of each image's picture among `shown`, plus len(STATES).

        Lower codes: the image has no picture, for the reason in `STATES`.
        """
        codes = np.full(n, STATES.index("left out"), dtype=np.uint32)
        for (key_side, row), state in self.troubles.items():
            if key_side == side:
                codes[row] = STATES.index(state)
        for place, (key_side, row) in enumerate(self.shown):
            if key_side == side:
                codes[row] = place + len(STATES)
        return codes


def wanted_pictures(images: Images) -> Iterator[Key]:
    """Images by how soon a reader sees their pictures; some come more than once."""
    rows = images.valuation.contributions.rows
    by_rank, by_low_rank = (
        images.order("train", order) for order in ORDERS["train"] if order.column == "rank"
    )
    orders = [images.order("generated", order) for order in ORDERS["generated"] if order.column]
    spread = orders[0]
    leaders = images.order("clusters", ORDERS["clusters"][0])
    # what the script draws first: fewer than the pictures of one part
    yield from (("train", int(row)) for row in by_rank[:VALUES_PAGE])
    yield from _with_contributors(spread[:GALLERY_PAGE], rows)
    yield from _members(images, leaders[:CLUSTERS_PAGE])
    yield from (("train", int(row)) for row in by_low_rank[:VALUES_PAGE])
    for order in orders[1:]:
        yield from _with_contributors(order[:GALLERY_PAGE], rows)
    yield from _with_contributors(spread[:WHOLE], rows)
    yield from _members(images, leaders[: 5 * CLUSTERS_PAGE])
    yield from (("train", int(row)) for row in by_rank[: 10 * VALUES_PAGE])
    yield from (("generated", int(j)) for j in spread)
    for place in range(rows.shape[1]):
        yield from (("train", int(row)) for row in rows[spread, place])
    yield from (("train", int(row)) for row in by_rank)


def _with_contributors(generated: NDArray[np.int64], rows: NDArray[np.int64]) -> Iterator[Key]:
    for j in generated.tolist():
        yield "generated", j
        yield from (("train", int(row)) for row in rows[j, :CONTRIBUTORS_SHOWN])


def _members(images: Images, leaders: NDArray[np.int64]) -> Iterator[Key]:
    for leader in leaders.tolist():
        yield from (("train", int(row)) for row in images.members(leader))


def read_pictures(run: Run, keys: Iterable[Key], most_bytes: int, progress: Progress) -> Pictures:
    """Thumbnails of the wanted images, until `most_bytes` are full.

    An image is shown only if it still has the content that was valued (see `RunSide.thumbnail`).
    At most `MOST_READ` are read, shown or not. Images that the sets no longer list are not read.
    """
    shown: dict[Key, bytes] = {}
    signatures: list[NDArray[np.uint8]] = []
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
                shown[key] = picture.file
                signatures.append(signature(picture.pixels))
                room -= len(picture.file)
            advance(1)
    cells = np.array(signatures, dtype=np.uint8).reshape(-1, CELLS)
    return Pictures(shown, cells, troubles, full)
