"""Hubs: training images that stand among the first contributors of very many generated images.

In many dimensions a few points are near to nearly all others (Radovanović et al., JMLR 11, 2010).
Images of a weak generator, which share a texture that no training image has, find the same few
training images again and again. Who looks at a run notices them first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmvaluator.scoring.scores import Contributions
from gmvaluator.shown import short_repr

FIRST = 10
"""Contributors of a generated image that count here."""
OFTEN = 1 / 3
"""Part of the generated images from which a training image among the first is a hub."""
LEAST_GENERATED = 20
LEAST_TRAIN = 100
"""Of smaller sets anything is often among the first."""


@short_repr
@dataclass(frozen=True, eq=False)
class Hubs:
    """The hubs of a valuation.

    Attributes:
        rows: (h,) training images, the most frequent first.
        counts: (h,) generated images that each is among the first contributors of.
        n_generated: generated images in all.
    """

    rows: NDArray[np.int64]
    counts: NDArray[np.int64]
    n_generated: int

    @staticmethod
    def of(contributions: Contributions) -> Hubs:
        """The hubs among contributors that are listed best first."""
        m, n = len(contributions.rows), contributions.n_train
        first = contributions.rows[:, :FIRST][contributions.scores[:, :FIRST] > 0]
        counts = np.bincount(first, minlength=n)
        rows = np.argsort(-counts, kind="stable")
        rows = rows[counts[rows] > OFTEN * m]
        if m < LEAST_GENERATED or n < LEAST_TRAIN:
            rows = rows[:0]
        return Hubs(rows, counts[rows], m)

    def text(self, train_ids: tuple[str, ...]) -> str:
        """One sentence without its stop; "" where there are none."""
        if not len(self.rows):
            return ""
        name, count = train_ids[self.rows[0]], int(self.counts[0])
        of = f"the first {FIRST} contributors of {count:,} of {self.n_generated:,} generated images"
        if len(self.rows) == 1:
            return f"1 training image, {name}, is among {of}: look whether it belongs there"
        return (
            f"{len(self.rows):,} training images are among the first {FIRST} contributors of more "
            f"than a third of the generated images, {name} of {count:,} of {self.n_generated:,}: "
            "look whether they belong there"
        )
