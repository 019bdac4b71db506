"""Placed sets: the readable images of a set, with their vectors in the spaces of a valuation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.embedding import Tally, encode_batches
from gmvaluator.encoders.mirrored import mirrored_of
from gmvaluator.errors import InputError, RunError
from gmvaluator.geometry import Space, Vectors
from gmvaluator.images import Batch, ImageSet, Skip
from gmvaluator.memory import Budget
from gmvaluator.progress import Progress, Silent
from gmvaluator.shown import short_repr

Kind = Literal["train", "generated", "holdout"]


@short_repr
@dataclass(frozen=True, eq=False)
class RecallSpace:
    """A space that candidates are recalled in, and the training images placed in the space.

    Attributes:
        encoder: of the space.
        space: metric, with what the metric learned from the training set.
        vectors: (n, dim) float32, placed training vectors.
    """

    encoder: Encoder
    space: Space
    vectors: Vectors


@short_repr
@dataclass(frozen=True, eq=False)
class PlacedSet:
    """The n readable images of a set, and their placed vectors.

    Attributes:
        images: the set that the images are read from; None where it is not at hand.
        rows: (n,) row of each readable image in `images`.
        keys: n content keys.
        vectors: placed vectors by encoder fingerprint, (n, dim) float32; (2n, dim) if `mirrored`.
        kind: what the images are. Training images must still have their content keys when they are
            read again.
        mirrored: whether the vectors of the n images are followed by those of their mirror images.
        skipped: images of the set that could not be read.
        tally: counts the images that pass through the networks.
    """

    images: ImageSet | None
    rows: NDArray[np.int64]
    keys: tuple[str, ...]
    vectors: Mapping[str, Vectors]
    kind: Kind
    mirrored: bool = False
    skipped: tuple[Skip, ...] = ()
    tally: Tally = field(default_factory=Tally)

    def select(self, numbers: NDArray[np.int64]) -> PlacedSet:
        """Some of the images, with their vectors; the images must not be mirrored."""
        if self.mirrored:
            raise ValueError("the vectors of a mirrored set hold two rows per image")
        return replace(
            self,
            rows=self.rows[numbers],
            keys=tuple(self.keys[number] for number in numbers.tolist()),
            vectors={name: vectors[numbers] for name, vectors in self.vectors.items()},
        )

    def source(self) -> ImageSet:
        """The images.

        Raises:
            InputError: they are not at hand.
        """
        if self.images is None:
            raise InputError(
                "re-ranking reads the training images, and this index was made from images in "
                "memory; pass them: GMValuator.load(path, train=images)"
            )
        return self.images


def place_images(
    encoder: Encoder, space: Space, placed: PlacedSet, budget: Budget, progress: Progress | None
) -> Vectors:
    """Vectors of a set in a space: at hand in `placed`, or encoded now.

    Returns:
        (n, dim) float32; (2n, dim) where the set is mirrored.

    Raises:
        InputError: an image can no longer be read.
        RunError: a training image has changed since it was embedded.
    """
    at_hand = placed.vectors.get(encoder.fingerprint)
    if at_hand is not None:
        return at_hand
    images, n = placed.source(), len(placed.rows)
    encoders = [encoder, *([mirrored_of(encoder)] if placed.mirrored else [])]
    total = n * len(encoders)
    vectors: Vectors | None = None
    start = 0
    with (progress or Silent()).stage(f"{encoder.name}: {placed.kind}", total) as advance:
        for batch, block in chain.from_iterable(
            encode_batches(images, form, rows=placed.rows, strict=True, tally=placed.tally)
            for form in encoders
        ):
            if vectors is None:
                vectors = budget.allocate((total, block.shape[1]))
            check_unchanged(placed, np.arange(start, start + len(block)) % n, batch)
            vectors[start : start + len(block)] = space.place(block, in_place=True)
            start += len(block)
            advance(len(batch.rows))
    if vectors is None:
        raise InputError(f"no {placed.kind} image to compare; pass at least one readable image")
    return vectors


def add_space(
    encoder: Encoder, space: Space, placed: PlacedSet, budget: Budget, progress: Progress
) -> PlacedSet:
    """The same images, placed in one more space."""
    vectors = place_images(encoder, space, placed, budget, progress)
    return replace(placed, vectors={**placed.vectors, encoder.fingerprint: vectors})


def with_mirror_images(
    spaces: Sequence[tuple[Encoder, Space]], placed: PlacedSet, budget: Budget, progress: Progress
) -> PlacedSet:
    """The same images, each followed by its mirror image in every space."""
    both: dict[str, Vectors] = {}
    for encoder, space in spaces:
        vectors = placed.vectors[encoder.fingerprint]
        mirrored = place_images(mirrored_of(encoder), space, placed, budget, progress)
        pair = budget.allocate((2 * len(vectors), vectors.shape[1]))
        np.concatenate([vectors, mirrored], out=pair)
        both[encoder.fingerprint] = pair
    return replace(placed, vectors=both, mirrored=True)


def check_unchanged(placed: PlacedSet, numbers: NDArray[np.int64], batch: Batch) -> None:
    """Raise RunError where a training image that was read again has another content key."""
    if placed.kind != "train":
        return
    for number, key in zip(numbers.tolist(), batch.keys, strict=True):
        if placed.keys[number] != key:
            name = placed.source().ids[placed.rows[number]]
            raise RunError(
                f"training image {name} has changed since it was embedded; fit or make the index "
                "again"
            )
