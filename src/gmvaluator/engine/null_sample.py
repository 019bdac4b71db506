"""How strange generated images are to a training set, and images that are known to be strangers.

The test itself is in `gmvaluator.scoring.conformal`. The null sample is held out by the user or, by
default, made of the training images themselves, each left out in turn. A left-out training image is
compared with n − 1 others, not n: the only difference there is between it and a new image of the
same kind.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.embedding import Tally, embed
from gmvaluator.engine.recalling import Recaller
from gmvaluator.engine.trained import Fitted
from gmvaluator.errors import ImageError, InputError
from gmvaluator.geometry import Vectors, blocks, pair_squared
from gmvaluator.images import ImageSet, Skip, set_fingerprint
from gmvaluator.matching.duplicates.find import ROUNDING
from gmvaluator.matching.recall import Candidates
from gmvaluator.matching.rerank import Contributors, Side, Term, rerank
from gmvaluator.progress import Progress
from gmvaluator.scoring.conformal import Kind, Null, fresh_rows, null_size

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
            copies = self._copies(own, placed, found.rows)
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

    def same(self, placed: Sequence[Vectors], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(m, c) whether a training image has the vector of an image, or of its mirror image.

        Up to what an encoder may place equal pixels apart. A null sample without such images is
        stranger, which makes p-values larger if anything, so they need not be decoded and compared.

        Args:
            placed: as `Recaller.place` gives them.
            rows: (m, c) of the training images.
        """
        own, (m, c) = placed[0], rows.shape
        forms = len(own) // m
        asking = np.repeat(np.arange(len(own)), c)
        squared = pair_squared(own, asking, self.fitted.vectors, np.tile(rows.ravel(), forms))
        lengths = np.einsum("ij,ij->i", own[:m], own[:m])
        near: NDArray[np.bool_] = squared.reshape(forms, m, c).min(axis=0) <= (
            ROUNDING**2 * lengths[:, None]
        )
        return near

    def _copies(
        self, own: NDArray[np.int64], placed: Sequence[Vectors], rows: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """(m, c) whether a candidate is the image itself, or has its content or its vector."""
        same: NDArray[np.bool_] = self.same(placed, rows)
        same |= rows == own[:, None]
        keys = self.train.keys
        if keys is not None:
            asking = np.repeat(own, rows.shape[1]).tolist()
            alike = [keys[a] == keys[b] for a, b in zip(asking, rows.ravel(), strict=True)]
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

    A sample by content: it does not depend on how the set is listed. There is none where a training
    image that it compares can no longer be read.

    Args:
        measure: of the training set.
        images: its images; None where they are not at hand.
        level: of the test, which says how many are taken.

    Raises:
        RunError: a training image is another one than when it was embedded.
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
    keys = measure.train.keys
    side = Side(
        measure.train.images,
        measure.train.rows[sample],
        placed,
        keys=None if keys is None else tuple(keys[row] for row in sample),
    )
    try:
        known = measure.recaller.mirrored(list(placed.values()), side)
        placed = dict(zip(placed, known, strict=True))
        side = replace(side, placed=placed, mirrored=measure.mirror)
        found = measure.of_placed(side, known, own=sample)
    except ImageError as error:
        # values do not need the null sample, so a report of it must not end a run
        missing = f"a training image of the null sample can no longer be read ({error})"
        return Null("leave-one-out", nothing, missing=missing)
    return _telling("leave-one-out", found[~np.isnan(found)], level)


def held_out(
    measure: Measure, images: ImageSet, encoders: Sequence[Encoder], level: float, *, strict: bool
) -> Null:
    """The null of images that are known not to be training images.

    Of many a sample by content is taken. Training images among them are left out and counted: those
    of the same bytes, and among the sample those of the same vector.

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
    listed, skipped = _listed(images, encoders[0], strict=strict)
    fresh = fresh_rows(listed, images.ids, measure.fitted.train.keys)
    in_training, wanted = len(listed) - len(fresh), null_size(level)
    readable = _readable(images, encoders[0], fresh, skipped, strict=strict)
    strangeness: list[float] = []
    kept: list[int] = []
    # as many again as were training images
    while rows := list(islice(readable, wanted - len(kept))):
        taken, found = _held_out(measure, images, encoders, rows)
        new = ~np.isnan(found)
        in_training += int((~new).sum())
        strangeness += found[new].tolist()
        kept += taken[new].tolist()
    readable.close()
    if not kept:
        raise InputError(_none_held_out(images, in_training, skipped))
    return _telling(
        "holdout",
        np.asarray(strangeness),
        level,
        in_training=in_training,
        skipped=tuple(skipped),
        source=images.location,
        fingerprint=set_fingerprint(
            [images.ids[row] for row in kept], [listed[row] for row in kept]
        ),
    )


def _held_out(
    measure: Measure, images: ImageSet, encoders: Sequence[Encoder], rows: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(m,) rows of held-out images, and how strange they are; NaN where one is a training image."""
    embeddings = embed(
        images,
        encoders[0],
        rows=np.asarray(rows, dtype=np.int64),
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
    _, found = measure.recaller.find(placed, measure.compared)
    known = measure.same(placed, found.rows).any(axis=1)
    return embeddings.rows, np.where(known, np.nan, measure.of_placed(side, placed))


def _telling(kind: Kind, strangeness: NDArray[np.float64], level: float, **told: Any) -> Null:
    """The null sample, or none where its threshold is 0: whatever is no copy would be beyond it."""
    null = Null(kind, np.sort(strangeness), **told)
    if null.threshold(level) != 0:
        return null
    n, strange = len(strangeness), int((strangeness > 0).sum())
    missing = f"all but {strange} of the {n} images of the null sample match a training image at 0"
    return replace(null, strangeness=np.empty(0), missing=missing)


def _none_held_out(images: ImageSet, in_training: int, skipped: Sequence[Skip]) -> str:
    where = f"holdout {images.location or 'in memory'}"
    if in_training:
        return (
            f"all {in_training} readable images of {where} are training images; pass images that "
            "the model was not trained on"
        )
    first = f": {skipped[0].id}: {skipped[0].reason}" if skipped else ""
    return (
        f"none of the {len(images)} images of {where} can be read{first}; pass at least one "
        "readable image"
    )


def _listed(
    images: ImageSet, encoder: Encoder, *, strict: bool
) -> tuple[dict[int, str], list[Skip]]:
    """Content key of each row whose content is there, and what is not; nothing is decoded."""
    if strict and images.problems:
        problem = images.problems[0]
        raise InputError(f"{problem.id}: {problem.reason}; repair it or leave strict out")
    found: dict[int, str] = {}
    skipped = list(images.problems)
    on_error: Literal["raise", "skip"] = "raise" if strict else "skip"
    for batch in images.batches(encoder.preprocessing, on_error=on_error, known=lambda _: True):
        found.update(zip(batch.rows.tolist(), batch.keys, strict=True))
        skipped += [skip for _, skip in batch.skipped]
    return found, skipped


def _readable(
    images: ImageSet, encoder: Encoder, rows: Sequence[int], skipped: list[Skip], *, strict: bool
) -> Generator[int, None, None]:
    """Those of `rows` that can be decoded, in their order; others are added to `skipped`."""
    on_error: Literal["raise", "skip"] = "raise" if strict else "skip"
    for batch in images.batches(encoder.preprocessing, rows=rows, on_error=on_error):
        skipped += [skip for _, skip in batch.skipped]
        yield from batch.rows.tolist()
