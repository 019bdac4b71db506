"""Training sets with noised images among clean images (C3, Appendix I)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.files.atomic import publish_file
from gmvaluator.files.pieces import Workspace
from gmvaluator.images import ImageSet
from gmvaluator.images.pixels import known_labels, load_pixels

N_NOISED = 100
# The paper gives no level; in units of the pixel range. At 0.8, clipped, a digit is still a digit
# to the eye, and no generator draws one like it.
SIGMA = 0.8


@dataclass(frozen=True)
class NoisedSet:
    """Clean training images followed by noised copies of some of them.

    Attributes:
        images: the whole set, clean images first.
        noised: (n,) bool, whether an image is noised.
        tag: name of the set in keys and files.
    """

    images: ImageSet
    noised: NDArray[np.bool_]
    tag: str


def add_gaussian_noise(images: NDArray[np.uint8], sigma: float, seed: int) -> NDArray[np.uint8]:
    """Images of any shape + N(0, σ²) on every pixel, in units of the range, clipped to it."""
    if not sigma > 0:
        raise InputError(f"sigma={sigma} adds no noise; pass a number above 0")
    noise = np.random.default_rng(seed).normal(0, sigma, images.shape)
    return np.asarray((np.clip(images / 255 + noise, 0, 1) * 255).round(), dtype=np.uint8)


def check_noised(n: int, n_noised: int, sigma: float) -> None:
    """Raises `InputError` unless `n_noised` of n images can be noised, by some noise."""
    if not 1 <= n_noised <= n:
        raise InputError(f"{n_noised} noised of {n} images; pass 1 to {n}")
    if not 0 < sigma < math.inf:
        raise InputError(f"sigma={sigma} adds no noise; pass a number above 0")


def plant_noised(
    train: ImageSet,
    work: Workspace,
    *,
    size: int,
    n_noised: int = N_NOISED,
    sigma: float = SIGMA,
    seed: int = 0,
) -> NoisedSet:
    """The training images and noised copies of `n_noised` of them, stored in one file.

    Args:
        train: labelled clean images. A noised copy keeps the label of its original.
        size: side in pixels to which all images are resized.

    Raises:
        InputError: `n_noised` exceeds the number of images, labels are missing, or the noise is 0.
    """
    check_noised(len(train), n_noised, sigma)
    tag = f"noised{n_noised}-sigma{sigma:g}-n{len(train)}-size{size}-seed{seed}"
    file = work.path("sets", f"{tag}.npz")
    if not file.is_file():
        pixels, labels = load_pixels(train, size), known_labels(train, "training images")
        rows = np.random.default_rng(seed).choice(len(train), n_noised, replace=False)
        noised = add_gaussian_noise(pixels[rows], sigma, seed)
        with publish_file(file) as part, part.open("wb") as handle:
            np.savez_compressed(
                handle,
                images=np.concatenate([pixels, noised]),
                labels=np.concatenate([labels, labels[rows]]).astype(str),
            )
    images = ImageSet.open(file)
    return NoisedSet(images, np.arange(len(images)) >= len(images) - n_noised, tag)
