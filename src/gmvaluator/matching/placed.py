"""Placed sets: the readable images of a set, with their vectors in the spaces of a valuation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.embedding import Tally, encode_batches
from gmvaluator.encoders.mirrored import mirrored_of
from gmvaluator.errors import InputError, RunError
from gmvaluator.geometry import Space, Vectors
from gmvaluator.images import ImageSet, Skip
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
                "the re-rank or quality 'domain' reads the training images, and this index was "
                "made from images in memory; pass them: GMValuator.load(path, train=images)"
            )
        return self.images


def place_images(
    encoder: Encoder, space: Space, placed: PlacedSet, budget: Budget, progress: Progress | None
) -> Vectors:
    """Vectors of a set in a space: at hand in `placed`, or encoded now.

    Of a mirrored set, the vectors of the images alone may be at hand.

    Returns:
        (n, dim) float32; (2n, dim) where the set is mirrored.

    Raises:
        InputError: an image can no longer be read.
        RunError: a training image has changed since it was embedded.
    """
    n = len(placed.rows)
    forms = [encoder, mirrored_of(encoder)] if placed.mirrored else [encoder]
    at_hand = placed.vectors.get(encoder.fingerprint)
    if at_hand is not None and len(at_hand) == n * len(forms):
        return at_hand
    vectors: Vectors | None = None
    with (progress or Silent()).stage(f"{encoder.name}: {placed.kind}", n * len(forms)) as advance:
        for number, form in enumerate(forms):
            plain = placed.vectors.get(form.fingerprint)
            batches = placed_batches(form, space, placed, np.arange(n))
            for part, block in batches if plain is None else [(slice(n), plain)]:
                if vectors is None:
                    vectors = budget.allocate((n * len(forms), block.shape[1]))
                vectors[number * n :][part] = block
                advance(len(block))
    if vectors is None:
        raise InputError(f"no {placed.kind} image to compare; pass at least one readable image")
    return vectors


def placed_batches(
    encoder: Encoder, space: Space, placed: PlacedSet, numbers: NDArray[np.int64]
) -> Iterator[tuple[slice, Vectors]]:
    """Vectors of some images of a set in a space, encoded now.

    Args:
        numbers: (s,) of the images within the set.

    Yields:
        Which part of `numbers` a batch is, and its vectors, (b, dim) float32.

    Raises:
        InputError: an image can no longer be read.
        RunError: a training image has changed since it was embedded.
    """
    images, rows, start = placed.source(), placed.rows[numbers], 0
    for batch, block in encode_batches(images, encoder, rows=rows, strict=True, tally=placed.tally):
        part = slice(start, start + len(block))
        if placed.kind == "train":
            for number, key in zip(numbers[part].tolist(), batch.keys, strict=True):
                if placed.keys[number] != key:
                    raise RunError(
                        f"training image {images.ids[placed.rows[number]]} has changed since it "
                        "was embedded; fit or make the index again"
                    )
        yield part, space.place(block, in_place=True)
        start = part.stop


def add_spaces(
    spaces: Iterable[tuple[Encoder, Space]],
    placed: PlacedSet,
    budget: Budget,
    progress: Progress,
    *,
    mirror: bool = False,
) -> PlacedSet:
    """The same images, placed in each of the spaces; vectors at hand are used.

    Args:
        mirror: the images are followed by their mirror images in each of the spaces.
    """
    images = replace(placed, mirrored=mirror)
    placed_in = {
        encoder.fingerprint: place_images(encoder, space, images, budget, progress)
        for encoder, space in spaces
    }
    return replace(images, vectors={**placed.vectors, **placed_in})
