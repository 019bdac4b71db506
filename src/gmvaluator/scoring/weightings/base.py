"""What a weighting is: how contributors are chosen, and how they share a generated image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.geometry import Vectors
from gmvaluator.matching.placed import RecallSpace
from gmvaluator.matching.recall import Candidates
from gmvaluator.matching.rerank import Contributors
from gmvaluator.memory import Budget, Memo
from gmvaluator.progress import Progress
from gmvaluator.scoring.weightings.shares import divide, softmax
from gmvaluator.shown import short_repr

Temperature = float | Literal["auto"]


@short_repr
@dataclass(frozen=True, eq=False)
class Choice:
    """What contributors of m generated images are chosen from.

    Attributes:
        first: the first recall space, with the n training vectors.
        last: the second recall space where there are two; else the first.
        order: (n,) rows in an order that does not depend on how the training set is listed.
        generated: (m, dim) generated images placed in the first recall space.
        forms: (m, dim), or (2m, dim) with their mirror images behind them, in the last one.
        candidates: of the recall; None where all training images take part (`Weighting.takes_all`).
        ranked: all candidates, nearest first by the re-rank; None where the weighting ranks none.
        reranked: whether a re-rank gave the distances of `ranked`.
        seed: of indexes.
        memo: keeps what depends on the training set alone.
        budget: of memory.
        progress: counts generated images.
    """

    first: RecallSpace
    last: RecallSpace
    order: NDArray[np.int64]
    generated: Vectors
    forms: Vectors
    candidates: Candidates | None
    ranked: Contributors | None
    reranked: bool
    seed: int
    memo: Memo
    budget: Budget
    progress: Progress

    def nearest(self) -> Contributors:
        """All candidates, nearest first."""
        if self.ranked is None:
            raise ValueError("this weighting asked for no ranked candidates")
        return self.ranked


@short_repr
@dataclass(frozen=True, eq=False)
class Remaining:
    """The recorded contributors of m generated images, some of which withdraw.

    Attributes:
        distances: (m, k).
        scores: (m, k) float64, recorded.
        stays: (m, k) bool, whether a contributor stays.
    """

    distances: NDArray[np.floating]
    scores: NDArray[np.float64]
    stays: NDArray[np.bool_]


class Weighting(ABC):
    """One way to share the quality of a generated image among training images.

    A weighting is one file of this folder and one line of the table `WEIGHTINGS`. No other module
    knows a weighting by its name.

    Attributes:
        name: in settings and on the command line.
        has_temperature: whether a temperature τ takes part.
        default_temperature: τ where the user passes none.
        by_dimension: whether τ is divided by the intrinsic dimension of the training set.
        ranks: whether the weighting chooses among ranked candidates.
        nearer_never_less: whether a nearer contributor never scores less than a farther one.
        takes_nearest: whether the contributors are the nearest candidates. A run can then be
            weighed again by distances.
        by_distance: whether they are, and share by distances alone.
        reads_beyond: whether shares read `Contributors.beyond` too, which a run does not record.
        withdrawal: one sentence for statements: what a re-settlement without some images is.
    """

    name: ClassVar[str]
    has_temperature: ClassVar[bool] = False
    default_temperature: ClassVar[float] = 1.0
    by_dimension: ClassVar[bool] = False
    ranks: ClassVar[bool] = True
    nearer_never_less: ClassVar[bool] = False
    takes_nearest: ClassVar[bool] = False
    by_distance: ClassVar[bool] = False
    reads_beyond: ClassVar[bool] = False
    withdrawal: ClassVar[str] = (
        "an approximation: the recorded scores of those that remain, divided by their sum"
    )

    def conflict(self, *, reranked: bool, mirror: bool) -> str | None:
        """Why the weighting does not go with these settings, and what to do; None where it does."""
        del reranked, mirror
        return None

    def takes_all(self, n: int, m: int, budget: Budget) -> bool:
        """Whether all n training images take part for m generated ones, without a recall."""
        del n, m, budget
        return False

    def choose(self, choice: Choice, k: int) -> Contributors:
        """The k contributors of each generated image; default: the nearest."""
        return choice.nearest().nearest(k)

    @abstractmethod
    def shares(self, contributors: Contributors, temperature: Temperature) -> NDArray[np.float64]:
        """(m, k) w_ij ≥ 0, each row with sum 1.

        Args:
            contributors: as `choose` returned them.
            temperature: τ in the unit of the distances, or `auto`; with `by_dimension` τ divided by
                the dimension.
        """

    def reshared(
        self,
        distances: NDArray[np.float32],
        scores: NDArray[np.float64],
        before: Temperature,
        after: Temperature,
    ) -> NDArray[np.float64]:
        """(m, k) shares at another temperature, from recorded distances and scores.

        Args:
            distances, scores: (m, k) of the contributors.
            before: temperature of the scores, as `shares` takes it.
            after: temperature wanted.
        """
        raise NotImplementedError(f"weighting {self.name} has no temperature")

    def resettle(self, remaining: Remaining, temperature: Temperature) -> NDArray[np.float64]:
        """(m, k) shares after a withdrawal; rows without a remaining contributor are 0.

        Default: the recorded scores that remain, divided by their sum. Where next to nothing
        remains of the scores, Eq. 6 shares by the recorded distances.
        """
        return rescaled(remaining, temperature)


# below this part of an image's score the recorded floats hold too few digits to divide by
TRACE = 1e-200


def rescaled(remaining: Remaining, temperature: Temperature) -> NDArray[np.float64]:
    """Shares of the recorded scores that stay; by Eq. 6 where next to nothing of them stays."""
    stays = remaining.stays
    scores = np.where(stays, remaining.scores, 0.0)
    shares = divide(scores)
    attributed = remaining.scores.sum(axis=1)
    faint = (attributed > 0) & (scores.sum(axis=1) <= TRACE * attributed)
    for row in np.flatnonzero(faint & stays.any(axis=1)):
        shares[row] = 0
        if temperature == "auto":
            # the image's own temperature is of all k, and leaves the second nearest no part
            distances = np.where(stays[row], remaining.distances[row], np.inf)
            nearest = distances == distances.min()
            shares[row, nearest] = 1 / nearest.sum()
        else:
            gaps = remaining.distances[None, row, stays[row]].astype(np.float64)
            gaps -= gaps.min(axis=1, keepdims=True)
            shares[row, stays[row]] = softmax(gaps, np.full(1, temperature))[0]
    return shares
