"""How strange generated images are to a training set, and images that are known to be strangers.

The test itself is in `gmvaluator.conformal`. The null sample is held out by the user or, by
default, made of the training images themselves, each left out in turn. A left-out training image is
compared with n − 1 others, not n: the only difference there is between it and a new image of the
same kind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gmvaluator.conformal import Null, null_size
from gmvaluator.embeddings import Tally, embed
from gmvaluator.encoders.base import Encoder
from gmvaluator.errors import InputError
from gmvaluator.fitted import Fitted
from gmvaluator.geometry import Vectors, blocks, pair_squared
from gmvaluator.images import ImageSet, set_fingerprint
from gmvaluator.progress import Progress
from gmvaluator.recall import Candidates
from gmvaluator.recalling import Recaller
from gmvaluator.rerank import Contributors, Side, Term, rerank

COMPARED = 20
"""Candidates of an image that the measure looks at, nearest in the recall space."""
NEIGHBOURS = 10
"""Of these, the nearest by the re-rank."""


@dataclass(frozen=True, eq=False)
class Measure:
    """How strange images are to a fitted training set: d₁ · d₁₀ / s.

    d₁ is the distance of the best match: a copy of a training image is never strange, however
    lonely the training image. d₁₀ is that of the tenth nearest, and s the median distance from one
    of the ten to its nearest other one: an image that is as far from its matches as they are from
    each other lies among them, one that is farther lies beside them. d₁ alone does not tell a
    stranger to a varied training set, which always has something as near.

    d₁₀ and s are of the `COMPARED` nearest in the recall space, and so is d₁ of the null sample.
    d₁ of a generated image is of all its candidates, which makes its p-value larger if anything.
    s is a distance in the (first) recall space, d₁ and d₁₀ are the run's own: of the re-rank, or
    of the recall where there is none.

    Attributes:
        fitted: the training set.
        recaller: over it.
        terms: of the re-rank; none: distances of the recall.
        train: its images.
        candidates: of a generated image.
        mirror: whether mirror images are compared as well.
        memory: bytes that may be used.
        progress: hears how far it is.
    """

    fitted: Fitted
    recaller: Recaller
    terms: Sequence[Term]
    train: Side
    candidates: int
    mirror: bool
    memory: int
    progress: Progress

    @property
    def compared(self) -> int:
        """Candidates looked at; one of the training images may be left out."""
        return min(COMPARED, self.candidates, len(self.fitted.vectors) - 1)

    def of_generated(
        self,
        side: Side,
        placed: Sequence[Vectors],
        ranked: tuple[Candidates, Contributors] | None,
    ) -> NDArray[np.float64]:
        """(m,) strangeness of generated images.

        Args:
            side: the images.
            placed: as `Recaller.place` gives them.
            ranked: their candidates, and the same nearest first; None where none were ranked
                (weighting global-ridge): those of the recall count.
        """
        if self.compared < 1:
            # a single training image: there is no null sample to compare with either
            return np.zeros(len(side.rows))
        return self.of_placed(side, placed) if ranked is None else self.of_ranked(*ranked)

    def of_ranked(self, candidates: Candidates, ranked: Contributors) -> NDArray[np.float64]:
        """(m,) strangeness of images whose candidates were all ranked.

        Args:
            candidates: (m, c) of the recall, in its order.
            ranked: the same, nearest first.
        """
        first = candidates.rows[:, : self.compared]
        looked_at = np.zeros(ranked.rows.shape, dtype=bool)
        for column in first.T:
            looked_at |= ranked.rows == column[:, None]
        places = np.argsort(~looked_at, axis=1, kind="stable")[:, : first.shape[1]]
        rows = np.take_along_axis(ranked.rows, places, axis=1)
        distances = np.take_along_axis(ranked.distances, places, axis=1)
        return self._strangeness(rows, distances, ranked.distances[:, 0])

    def of_placed(
        self, side: Side, placed: Sequence[Vectors], own: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """(m,) strangeness of images; NaN where too many candidates are copies of the image.

        Args:
            side: the images.
            placed: as `Recaller.place` gives them.
            own: (m,) rows of the training images that they are, which then are no candidates.
        """
        n, c = len(self.fitted.vectors), self.compared
        _, found = self.recaller.find(placed, c if own is None else min(n, 2 * c + 1))
        spoilt = np.zeros(len(found.rows), dtype=np.bool_)
        if own is not None:
            copies = self._copies(own, found.rows)
            places = np.argsort(copies, axis=1, kind="stable")[:, :c]
            spoilt |= np.take_along_axis(copies, places, axis=1).any(axis=1)
            found = Candidates(
                np.take_along_axis(found.rows, places, axis=1),
                np.take_along_axis(found.distances, places, axis=1),
                n,
            )
        ranked = rerank(
            found,
            replace(self.train, tally=Tally()),
            side,
            self.terms,
            c,
            ties=self.fitted.ties,
            memory=self.memory,
        )
        strangeness = self._strangeness(ranked.rows, ranked.distances, ranked.distances[:, 0])
        return np.where(spoilt, np.nan, strangeness)

    def _copies(self, own: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(m, c) whether a candidate is the image itself or has its content or its vector."""
        vectors, keys = self.fitted.vectors, self.train.keys
        asking = np.repeat(own, rows.shape[1])
        squared = pair_squared(vectors, asking, vectors, rows.ravel()).reshape(rows.shape)
        same: NDArray[np.bool_] = squared == 0
        same |= rows == own[:, None]
        if keys is not None:
            alike = [keys[a] == keys[b] for a, b in zip(asking.tolist(), rows.ravel(), strict=True)]
            same |= np.reshape(alike, rows.shape)
        return same

    def _strangeness(
        self, rows: NDArray[np.int64], distances: NDArray[np.float32], best: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        last = min(NEIGHBOURS, rows.shape[1]) - 1
        product = best.astype(np.float64) * distances[:, last]
        return product / self._spacing(rows)

    def _spacing(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(m,) median distance from the first `NEIGHBOURS` of (m, c) images to the nearest other.

        Copies are no others; 1 where there are none.
        """
        vectors, space = self.fitted.vectors, self.fitted.space
        m, c = rows.shape
        near = min(NEIGHBOURS, c)
        spacing = np.ones(m)
        # three numbers a pair
        for some in blocks(m, 24 * near * c):
            part = rows[some]
            left = np.repeat(part[:, :near], c, axis=1).ravel()
            right = np.tile(part, (1, near)).ravel()
            squared = pair_squared(vectors, left, vectors, right).reshape(-1, near, c)
            nearest = np.where(squared > 0, squared, np.inf).min(axis=2)
            known = np.isfinite(nearest)
            distances = np.where(known, space.distance(np.where(known, nearest, 0)), np.nan)
            any_known = known.any(axis=1)
            spacing[some][any_known] = np.nanmedian(distances[any_known], axis=1)
        return spacing


def leave_one_out(measure: Measure, images: ImageSet | None, level: float) -> Null:
    """The null of training images, each left out in turn; copies of an image are left out with it.

    A sample by content: it does not depend on how the set is listed.

    Args:
        measure: of the training set.
        images: its images; None where they are not at hand.
        level: of the test, which says how many are taken.
    """
    nothing = np.empty(0)
    if measure.compared < 1:
        return Null("leave-one-out", nothing, missing="a single training image has no others")
    if images is None and measure.mirror:
        return Null(
            "leave-one-out",
            nothing,
            missing="the training images, which mirror reads, were in memory",
        )
    sample = measure.fitted.order[: null_size(level)]
    placed = {name: vectors[sample] for name, vectors in measure.train.placed.items()}
    side = Side(measure.train.images, measure.train.rows[sample], placed)
    known = measure.recaller.mirrored(list(placed.values()), side)
    placed = dict(zip(placed, known, strict=True))
    side = replace(side, placed=placed, mirrored=measure.mirror)
    found = measure.of_placed(side, known, own=sample)
    return Null("leave-one-out", np.sort(found[~np.isnan(found)]))


def held_out(
    measure: Measure, images: ImageSet, encoders: Sequence[Encoder], level: float, *, strict: bool
) -> Null:
    """The null of images that are known not to be training images.

    Of many a sample by content is taken; training images among them are left out and counted.

    Args:
        measure: of the training set.
        images: held-out images.
        encoders: of the recall.
        level: of the test, which says how many are taken.
        strict: fail on the first image that cannot be read.

    Raises:
        InputError: no readable image that is not a training image.
    """
    if measure.compared < 1:
        raise InputError("a single training image has no others; pass at least 2 training images")
    listed = _listed(images, encoders[0])
    training = set(measure.fitted.train.keys)
    sample = null_sample(listed, images.ids, training, level)
    in_training = sum(key in training for key in listed.values())
    if listed and not sample:
        raise InputError(
            f"all {in_training} readable images of holdout {images.location or 'in memory'} are "
            "training images; pass images that the model was not trained on"
        )
    embeddings = embed(
        images,
        encoders[0],
        rows=np.asarray(sample, dtype=np.int64),
        strict=strict,
        memory=measure.memory,
        progress=measure.progress,
        stage="embed holdout",
    )
    placed = measure.recaller.place(images, embeddings)
    side = Side(
        images,
        embeddings.rows,
        dict(zip([each.fingerprint for each in encoders], placed, strict=True)),
        mirrored=measure.mirror,
    )
    ids = [images.ids[row] for row in embeddings.rows]
    return Null(
        "holdout",
        np.sort(measure.of_placed(side, placed)),
        in_training=in_training,
        skipped=embeddings.skipped,
        source=images.location,
        fingerprint=set_fingerprint(ids, embeddings.keys),
    )


def null_sample(
    keys: Mapping[int, str], ids: Sequence[str], training: Collection[str], level: float
) -> list[int]:
    """Rows of the held-out images that are taken, by content: however the set is listed.

    Args:
        keys: content key of each row that can be read.
        ids: of all rows.
        training: content keys of the training images, which are left out.
        level: of the test, which says how many are taken.
    """
    known = set(training)
    fresh = sorted((key, ids[row], row) for row, key in keys.items() if key not in known)
    return [row for *_, row in fresh[: null_size(level)]]


def _listed(images: ImageSet, encoder: Encoder) -> dict[int, str]:
    """Content key of each row that can be read; nothing is decoded."""
    found: dict[int, str] = {}
    for batch in images.batches(encoder.preprocessing, known=lambda _: True):
        found.update(zip(batch.rows.tolist(), batch.keys, strict=True))
    return found
