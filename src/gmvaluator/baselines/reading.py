"""The images of a set that can be read, with their pixels in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmvaluator.decoding import Interpolation
from gmvaluator.generators.data import read_training_data
from gmvaluator.images import ImageSet, Skip
from gmvaluator.progress import Progress


@dataclass(frozen=True, eq=False)
class ReadSet:
    """A set without the images that cannot be read.

    Attributes:
        images: those that can.
        pixels: (N, C, S, S) uint8; C is 1 if every image is grey, else 3.
        skipped: the others.
    """

    images: ImageSet
    pixels: NDArray[np.uint8]
    skipped: tuple[Skip, ...]


def read_pixels(
    images: ImageSet, size: int, progress: Progress, interpolation: Interpolation
) -> ReadSet:
    """All readable images at `size` × `size` pixels.

    Raises:
        InputError: none can be read.
    """
    read = read_training_data(
        images, size, progress, conditional=False, interpolation=interpolation
    )
    bad = {skip.id for skip in read.skipped}
    good = [row for row, name in enumerate(images.ids) if name not in bad]
    return ReadSet(images.select(good), read.images, read.skipped)
