"""Distance between a generated image and the same image drawn by a retrained generator."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.embedding import embed
from gmvaluator.errors import InputError
from gmvaluator.evaluation.metrics import Interval
from gmvaluator.evaluation.truth.likeness import fixed_encoder
from gmvaluator.geometry import Space
from gmvaluator.images import ImageSet
from gmvaluator.images.pixels import random_subset
from gmvaluator.memory import once

PIXELS = "pixels"
ENCODERS = ("st-lpips:alex@32", "efficientnet-lite0@96")
DISTANCES = (PIXELS, *ENCODERS)
CENTRE = 1_000  # training images whose mean is the centre of an encoder's space


class Movement:
    """Distances of redrawn images from the originals.

    Args:
        originals: (m, H, W[, 3]) uint8.
        train: training images, all readable. Their mean is the centre of the encoders' spaces.
    """

    def __init__(self, originals: NDArray[np.uint8], train: ImageSet) -> None:
        self._originals = originals
        self._train = train

    def of(self, redrawn: NDArray[np.uint8]) -> dict[str, list[float]]:
        """m distances by name of the distance. `redrawn` is (m, H, W[, 3]) uint8.

        `pixels` is the root of the mean squared difference of pixels in [0, 1].

        Raises:
            InputError: the shape differs from that of the originals.
        """
        if redrawn.shape != self._originals.shape:
            raise InputError(
                f"{redrawn.shape} redrawn images of {self._originals.shape}; pass as many"
            )
        difference = (redrawn.astype(np.float64) - self._originals.astype(np.float64)) / 255
        distances = {
            PIXELS: np.sqrt(
                np.square(difference).reshape(len(difference), -1).mean(axis=1)
            ).tolist()
        }
        for name, (encoder, space, originals) in self._spaces.items():
            placed = space.place(embed(ImageSet.open(list(redrawn)), encoder).vectors)
            squared = np.square(placed - originals).sum(axis=1, dtype=np.float64)
            distances[name] = space.distance(squared).tolist()
        return distances

    @property
    @once
    def _spaces(self) -> dict[str, tuple[Encoder, Space, NDArray[np.float32]]]:
        """(encoder, space, originals placed in the space) by name of the encoder."""
        spaces = {}
        for name in ENCODERS:
            encoder = fixed_encoder(name)
            space = Space(encoder.metric)
            if encoder.metric == "centred-cosine":
                centre = embed(random_subset(self._train, CENTRE), encoder).vectors
                space = Space.fit(encoder.metric, centre)
            originals = embed(ImageSet.open(list(self._originals)), encoder).vectors
            spaces[name] = (encoder, space, space.place(originals))
        return spaces


def ratio_interval(numerators: ArrayLike, denominators: ArrayLike, level: float = 0.95) -> Interval:
    """Ratio of the means of two measurements of the same items, and its confidence interval.

    The interval comes from the residuals of the ratio estimator (Cochran, Sampling Techniques,
    1977, chapter 6) and Student's t. Unlike a mean of ratios, the ratio of means bears single
    denominators near 0. The ratio is NaN if the denominators are 0. Low and high are NaN for a
    single item.

    Raises:
        InputError: there is no item, or the two numbers of items differ.
    """
    from scipy.stats import t

    above, below = (np.asarray(numbers, dtype=np.float64) for numbers in (numerators, denominators))
    n = len(above)
    if n == 0 or above.shape != below.shape:
        raise InputError(f"ratio of {above.shape} and {below.shape} numbers; pass two of (n,)")
    nothing = float("nan")
    if not below.mean():
        return Interval(nothing, nothing, nothing, n)
    ratio = float(above.mean() / below.mean())
    if n == 1:
        return Interval(ratio, nothing, nothing, 1)
    error = (above - ratio * below).std(ddof=1) / (math.sqrt(n) * below.mean())
    half = float(t.ppf((1 + level) / 2, n - 1) * error)
    return Interval(ratio, ratio - half, ratio + half, n)
