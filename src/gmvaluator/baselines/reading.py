"""The images of a set that can be read, with their pixels in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.generators.data import class_numbers, read_training_data
from gmvaluator.images import ImageSet, Skip
from gmvaluator.images.decoding import Interpolation
from gmvaluator.images.pixels import known_labels
from gmvaluator.progress import Progress


@dataclass(frozen=True, eq=False)
class Pixels:
    """Images as a network takes them. They are equal when the arrays are equal.

    Attributes:
        bytes: (N, C, S, S) uint8.
        labels: (N,) class numbers of a conditional network, else None.
    """

    bytes: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pixels):
            return NotImplemented
        if self.labels is None or other.labels is None:
            return self.labels is other.labels and np.array_equal(self.bytes, other.bytes)
        return np.array_equal(self.labels, other.labels) and np.array_equal(self.bytes, other.bytes)

    # arrays can change, so a hash of them could
    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.bytes)

    def part(self, rows: slice) -> Pixels:
        """The images of these rows."""
        return Pixels(self.bytes[rows], None if self.labels is None else self.labels[rows])


@dataclass(frozen=True)
class ReadSet:
    """A set without the images that cannot be read.

    Attributes:
        images: the readable images.
        pixels: pixels of the readable images, in memory.
        skipped: the other images.
    """

    images: ImageSet
    pixels: Pixels
    skipped: tuple[Skip, ...]


def read_pixels(
    images: ImageSet, size: int, progress: Progress, interpolation: Interpolation
) -> ReadSet:
    """All readable images at `size` × `size` pixels, with 1 channel if all are grey, else 3.

    Raises:
        InputError: no image can be read.
    """
    read = read_training_data(
        images, size, progress, conditional=False, interpolation=interpolation
    )
    bad = {skip.id for skip in read.skipped}
    good = [row for row, name in enumerate(images.ids) if name not in bad]
    return ReadSet(images.select(good), Pixels(read.images), read.skipped)


def read_for_network(
    images: ImageSet,
    shape: tuple[int, int, int],
    classes: Sequence[str],
    progress: Progress,
    interpolation: Interpolation = "bicubic",
) -> ReadSet:
    """All readable images at the size of a network's input, with class numbers.

    Args:
        images: the set.
        shape: (C, H, W) of the input.
        classes: names of the network's classes. Empty: labels are not read.
        progress: receives the progress.
        interpolation: interpolation of the resizing.

    Raises:
        InputError: the input is not square, the images are coloured and the network is grey, no
            image can be read, or a label is missing or not in `classes`.
    """
    channels, height, width = shape
    if height != width:
        raise InputError(f"images of {height} × {width}; pass a network that takes square ones")
    read = read_pixels(images, height, progress, interpolation)
    pixels = read.pixels.bytes
    if channels < pixels.shape[1]:
        raise InputError(
            f"{images!r} has colour images, and the network takes grey ones; pass grey images"
        )
    whole = np.broadcast_to(pixels, (len(pixels), channels, height, width))
    numbers = _class_numbers(read.images, classes) if classes else None
    return replace(read, pixels=Pixels(whole, numbers))


def skipped_of(train: ReadSet, generated: ReadSet) -> list[tuple[str, Skip]]:
    """The skipped images of both sets, in the form of a `Valuation`."""
    return [
        *(("train", skip) for skip in train.skipped),
        *(("generated", skip) for skip in generated.skipped),
    ]


def _class_numbers(images: ImageSet, classes: Sequence[str]) -> NDArray[np.int64]:
    labels = known_labels(images, "images of a conditional network")
    if unknown := set(labels) - set(classes):
        raise InputError(
            f"label {sorted(unknown)[0]!r} is none of the network's classes; it knows "
            f"{', '.join(classes)}"
        )
    return class_numbers(labels, classes)
