"""Images as the report's page sets them: a picture, a name, and what the run says of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gmvaluator.report.null import gave_nothing
from gmvaluator.report.pictures import CONTRIBUTORS_SHOWN, Pictures, Side
from gmvaluator.runs.folder import Run


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
