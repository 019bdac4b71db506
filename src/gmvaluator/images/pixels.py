"""Whole image sets as arrays of pixels and labels, for training on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.images.decoding import Preprocessing
from gmvaluator.images.imageset import ImageSet

DRAW_SEED = 0  # of `random_subset`


def load_pixels(images: ImageSet, size: int) -> NDArray[np.uint8]:
    """All images, squashed to `size`: (n, size, size) if all are grey, else (n, size, size, 3).

    Raises:
        ImageError: an image cannot be read.
    """
    stack = np.empty((len(images), 3, size, size), dtype=np.uint8)
    for batch in images.batches(Preprocessing(size, interpolation="bilinear"), on_error="raise"):
        stack[batch.rows] = batch.pixels
    if len(stack) and all(np.array_equal(stack[:, 0], stack[:, band]) for band in (1, 2)):
        return np.ascontiguousarray(stack[:, 0])
    return np.ascontiguousarray(stack.transpose(0, 2, 3, 1))


def random_subset(images: ImageSet, n: int, seed: int = DRAW_SEED) -> ImageSet:
    """n images drawn at random, in the order of the set; the set itself if it has at most n images.

    The images of a smaller n are among those of a larger n.
    """
    if n >= len(images):
        return images
    return images.select(np.sort(np.random.default_rng(seed).permutation(len(images))[:n]))


def known_labels(images: ImageSet, what: str) -> NDArray[np.object_]:
    """(n,) labels of a set that has one for each image.

    Args:
        what: names the set in the error.

    Raises:
        InputError: labels are missing.
    """
    labels = images.labels
    if labels is None or any(label is None for label in labels):
        missing = len(images) if labels is None else sum(label is None for label in labels)
        raise InputError(
            f"{missing} of the {len(images)} {what} have no label; pass a set with a label for "
            "each image"
        )
    return np.asarray(labels, dtype=object)
