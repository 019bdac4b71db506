"""How strange images are to the training set: one class for each `null_measure`.

`ToNeighbours`: the strangeness of an image is d₁ · d₁₀ / s. d₁ is the distance of the best match: a
copy of a training image is never strange, however lonely the training image. d₁₀ is the distance of
the tenth nearest, and s the median distance from one of the ten to its nearest other one: an image
that is as far from its matches as the matches are from each other lies among them, an image that is
farther lies beside them. d₁ alone does not find a stranger to a varied training set, which always
has something as near.

d₁₀ and s are of the `COMPARED` nearest in the recall space, and so is d₁ of the null sample. d₁ of
a generated image is of all its candidates, which makes its p-value larger if anything. s is a
distance in the first recall space; d₁ and d₁₀ are distances of the run: of the re-rank, or of the
recall where there is no re-rank.

`ToDomain`: an image is strange by `gmvaluator.engine.domain`. A copy of a training image, with
equal content or an equal vector, is not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.embedding import Tally
from gmvaluator.engine.context import Context
from gmvaluator.engine.domain import domain_encoder, domain_of, small_pictures
from gmvaluator.engine.match import in_every_space, rank, recall
from gmvaluator.engine.trained import Trained
from gmvaluator.geometry import blocks, nearest_other, pair_squared
from gmvaluator.matching.duplicates.find import ROUNDING
from gmvaluator.matching.placed import PlacedSet
from gmvaluator.matching.recall import Candidates
from gmvaluator.matching.rerank import Contributors
from gmvaluator.scoring.conformal import null_size
from gmvaluator.settings import NullMeasure

COMPARED = 20
"""Candidates of an image that its strangeness is measured by: the nearest in the recall space."""
TENTH = 10
"""Of these, the rank of the second distance in the measure."""


class Strangeness(ABC):
    """One measure of how strange images are to the training set.

    Attributes:
        context: with settings whose counts are resolved.
        trained: the training set.
    """

    def __init__(self, context: Context, trained: Trained) -> None:
        self.context = context
        self.trained = trained

    @property
    @abstractmethod
    def wanted_by(self) -> str | None:
        """The setting that reads left-out training images again; None where none does."""

    @abstractmethod
    def of_left_out(self) -> NDArray[np.float64]:
        """(N,) of training images, each left out in turn; NaN where it cannot be measured.

        Which ones is decided by content, not by how the set is listed.

        Raises:
            ImageError: a training image of the sample can no longer be read.
            RunError: a training image has changed since it was embedded.
        """

    @abstractmethod
    def of_held_out(self, batch: PlacedSet) -> NDArray[np.float64]:
        """(N,) of held-out images; NaN for training images among them."""

    @abstractmethod
    def of_generated(
        self, batch: PlacedSet, candidates: Candidates | None, ranked: Contributors | None
    ) -> NDArray[np.float64]:
        """(m,) of generated images.

        Args:
            candidates, ranked: of these images; None where none were ranked.
        """


class ToNeighbours(Strangeness):
    """By the distances to the nearest training images, and between these."""

    @property
    def wanted_by(self) -> str | None:
        return "mirror" if self.context.settings.mirror else None

    @property
    def compared(self) -> int:
        """Candidates that are compared; one of the training images may be left out."""
        _, n_candidates = self.context.settings.counts
        return min(COMPARED, n_candidates, len(self.trained.order) - 1)

    def of_left_out(self) -> NDArray[np.float64]:
        context, trained = self.context, self.trained
        numbers = trained.order[: null_size(context.settings.null_level)]
        sample = in_every_space(context, trained, trained.placed.select(numbers))
        # a training image is left out with its copies, so more candidates are needed
        return self._to_others(sample, min(len(trained.order), 2 * self.compared + 1))

    def of_held_out(self, batch: PlacedSet) -> NDArray[np.float64]:
        return self._to_others(batch, self.compared)

    def of_generated(
        self, batch: PlacedSet, candidates: Candidates | None, ranked: Contributors | None
    ) -> NDArray[np.float64]:
        context, trained = self.context, self.trained
        if candidates is None or ranked is None:
            candidates = recall(context, trained, batch, self.compared)
            ranked = rank(context, trained.counting(Tally()), batch, candidates)
        return _strangeness(trained, candidates.rows[:, : self.compared], ranked)

    def _to_others(self, sample: PlacedSet, n: int) -> NDArray[np.float64]:
        """(N,) of images to those of their n candidates that are other images.

        NaN where too few of the candidates are others.
        """
        context, trained = self.context, self.trained
        candidates = recall(context, trained, sample, n)
        same = same_images(trained, sample, candidates.rows)
        others = np.argsort(same, axis=1, kind="stable")[:, : self.compared]
        candidates = candidates.take(others)
        ranked = rank(context, trained, sample, candidates)
        too_few = np.take_along_axis(same, others, axis=1).any(axis=1)
        return np.where(too_few, np.nan, _strangeness(trained, candidates.rows, ranked))


class ToDomain(Strangeness):
    """By what small pictures of the training set look like."""

    @property
    def wanted_by(self) -> str | None:
        at_hand = domain_encoder(self.context).fingerprint in self.trained.placed.vectors
        return None if at_hand else "null_measure domain"

    def of_left_out(self) -> NDArray[np.float64]:
        domain = domain_of(self.context, self.trained)
        return np.empty(0) if domain is None else domain.held_back

    def of_held_out(self, batch: PlacedSet) -> NDArray[np.float64]:
        return np.where(self._in_training(batch), np.nan, self._beyond(batch))

    def of_generated(
        self, batch: PlacedSet, candidates: Candidates | None, ranked: Contributors | None
    ) -> NDArray[np.float64]:
        return np.where(self._in_training(batch, candidates), 0.0, self._beyond(batch))

    def _beyond(self, batch: PlacedSet) -> NDArray[np.float64]:
        """(m,) strangeness of images; 0 where the training images are too few to have a domain."""
        domain = domain_of(self.context, self.trained)
        if domain is None:
            return np.zeros(len(batch.rows))
        return domain.strangeness(small_pictures(self.context, batch))

    def _in_training(
        self, batch: PlacedSet, candidates: Candidates | None = None
    ) -> NDArray[np.bool_]:
        """(m,) whether an image has the content or vector of its nearest training image.

        Args:
            candidates: of the images, where they were recalled; the nearest is the first.
        """
        nearest = candidates or recall(self.context, self.trained, batch, 1)
        return same_images(self.trained, batch, nearest.rows[:, :1])[:, 0]


MEASURES: Mapping[NullMeasure, type[Strangeness]] = {
    "neighbours": ToNeighbours,
    "domain": ToDomain,
}


def strangeness_of(context: Context, trained: Trained) -> Strangeness:
    """The measure of the settings."""
    return MEASURES[context.settings.null_measure](context, trained)


def same_images(trained: Trained, batch: PlacedSet, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(m, c) whether a training image has the content or the vector of an image, or is its mirror.

    The vector up to the distance that an encoder may place equal pixels apart. A null sample
    without such images is stranger, which makes p-values larger if anything, so the images need
    not be decoded and compared.

    Args:
        rows: (m, c) of the training images.
    """
    queries, (m, c) = batch.vectors[trained.spaces[0].encoder.fingerprint], rows.shape
    n_forms = len(queries) // m
    repeated = np.repeat(np.arange(len(queries)), c)
    squared = pair_squared(queries, repeated, trained.vectors, np.tile(rows.ravel(), n_forms))
    lengths = np.einsum("ij,ij->i", queries[:m], queries[:m])
    same_vector = squared.reshape(n_forms, m, c).min(axis=0) <= ROUNDING**2 * lengths[:, None]
    keys = trained.placed.keys
    same_key = [
        [keys[row] == key for row in own]
        for key, own in zip(batch.keys, rows.tolist(), strict=True)
    ]
    return np.asarray(same_vector | np.asarray(same_key))


def _strangeness(
    trained: Trained, compared: NDArray[np.int64], ranked: Contributors
) -> NDArray[np.float64]:
    """(m,) strangeness of images: d₁ · d₁₀ / s.

    Args:
        compared: (m, c) training images that d₁₀ and s are measured by.
        ranked: these and perhaps other candidates, nearest first; d₁ is of the nearest.
    """
    is_compared = np.zeros(ranked.rows.shape, dtype=bool)
    for column in compared.T:
        is_compared |= ranked.rows == column[:, None]
    columns = np.argsort(~is_compared, axis=1, kind="stable")[:, : compared.shape[1]]
    rows = np.take_along_axis(ranked.rows, columns, axis=1)
    tenth = columns[:, [min(TENTH, columns.shape[1]) - 1]]
    d_tenth = np.take_along_axis(ranked.distances, tenth, axis=1)[:, 0]
    return ranked.distances[:, 0].astype(np.float64) * d_tenth / _spacing(trained, rows)


def _spacing(trained: Trained, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(m,) median distance from the first `TENTH` of (m, c) training images to the nearest other.

    Copies are not others; 1 where there are no others.
    """
    vectors, space = trained.vectors, trained.space
    m, c = rows.shape
    near = min(TENTH, c)
    spacing = np.ones(m)
    # three numbers a pair
    for part in blocks(m, 24 * near * c):
        images = rows[part]
        left = np.repeat(images[:, :near], c, axis=1).ravel()
        right = np.tile(images, (1, near)).ravel()
        squared = pair_squared(vectors, left, vectors, right).reshape(-1, near, c)
        nearest = nearest_other(squared)
        has_other = np.isfinite(nearest)
        distances = np.where(has_other, space.distance(np.where(has_other, nearest, 0)), np.nan)
        any_other = has_other.any(axis=1)
        spacing[part][any_other] = np.nanmedian(distances[any_other], axis=1)
    return spacing
