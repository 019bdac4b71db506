"""Several encoders as one: their vectors side by side, each divided by its scale.

A weighted mean of squared distances is the squared distance of the vectors side by side, each
times the root of its weight; so a mixture is a space like any other, to recall and to weigh in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmvaluator.arguments import real_number
from gmvaluator.encoders.base import Encoder, arithmetic_of
from gmvaluator.errors import InputError
from gmvaluator.geometry import Metric, Space, evenly_spread, neighbour_scale
from gmvaluator.images import ImageSet, ImageSource, Preprocessing
from gmvaluator.images.decoding import refit
from gmvaluator.weights import WeightFile

SAMPLE = 1_024  # training images that the scales are learned of


@dataclass(frozen=True, eq=False)
class Part:
    """An encoder of a mixture.

    Attributes:
        encoder: gives the vectors.
        space: places the vectors.
        factor: multiplies the placed vectors.
    """

    encoder: Encoder
    space: Space
    factor: float


class Mixture:
    """An encoder that `fit` makes of others; Euclidean distance.

    Images are decoded at the largest input size of the parts, and scaled down for the other parts.
    """

    metric: Metric = "euclidean"

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        names = [f"{part.factor:.6g} {part.encoder.name}" for part in self.parts]
        self.name = f"mixture({' + '.join(names)})"
        largest = max((part.encoder.preprocessing for part in self.parts), key=lambda p: p.size)
        self.preprocessing: Preprocessing = largest
        self.weights: tuple[WeightFile, ...] = tuple(
            file for part in self.parts for file in part.encoder.weights
        )
        arithmetics = {arithmetic_of(part.encoder) for part in self.parts} - {None}
        self.arithmetic = "+".join(sorted(map(str, arithmetics))) or None
        digest = hashlib.sha256()
        for part in self.parts:
            description = (part.encoder.fingerprint, part.encoder.metric, part.factor.hex())
            digest.update(repr(description).encode())
            digest.update(b"" if part.space.mean is None else part.space.mean.tobytes())
        self.fingerprint = digest.hexdigest()

    @classmethod
    def fit(
        cls, train: ImageSource, encoders: Mapping[Encoder, float] | Sequence[Encoder]
    ) -> Mixture:
        """Learn the scale of each encoder on training images.

        A scale is the median squared distance of an image to its nearest other one, among at most
        `SAMPLE` of them: with equal weights, neighbours are as far apart in every part.

        Args:
            train: any source of `ImageSet`.
            encoders: at least two, with weights of their squared distances or equal ones.

        Raises:
            InputError: fewer than two encoders, one that crops where another squashes, a weight
                that is not positive, or training images that an encoder does not tell apart.
        """
        weights = dict(encoders) if isinstance(encoders, Mapping) else dict.fromkeys(encoders, 1.0)
        if len(weights) < 2:
            raise InputError(f"a mixture of {len(weights)} encoders; pass at least 2 different")
        _check(weights)
        images = ImageSet.open(train)
        rows = evenly_spread(len(images), SAMPLE)
        return cls([_part(part, weight, images, rows) for part, weight in weights.items()])

    def prepare(self) -> None:
        """Compile what the parts need."""
        for part in self.parts:
            part.encoder.prepare()

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, 3, S, S) uint8 → (B, sum of the parts' dims) float32."""
        vectors = []
        for part in self.parts:
            seen = part.encoder.encode(refit(pixels, part.encoder.preprocessing))
            vectors.append(part.space.place(seen) * np.float32(part.factor))
        return np.concatenate(vectors, axis=1)


def _check(weights: Mapping[Encoder, float]) -> None:
    for encoder, weight in weights.items():
        if not 0 < real_number(f"weight of {encoder.name}", weight, "a number above 0") < np.inf:
            raise InputError(f"{encoder.name} has weight {weight}; pass a number above 0")
    fits = {encoder.preprocessing.fit: encoder.name for encoder in weights}
    if len(fits) > 1:
        raise InputError(
            f"{fits['crop']} crops images and {fits['squash']} squashes them; mix encoders that "
            "see the same part"
        )


def _part(encoder: Encoder, weight: float, images: ImageSet, rows: NDArray[np.int64]) -> Part:
    encoder.prepare()
    batches = images.batches(encoder.preprocessing, rows=rows, on_error="raise")
    vectors = np.concatenate([encoder.encode(batch.pixels) for batch in batches])
    space = Space.fit(encoder.metric, vectors)
    placed = space.place(vectors, in_place=True)
    scale = neighbour_scale(placed, placed)
    if scale is None:
        raise InputError(
            f"{encoder.name} does not tell the training images apart; leave it out of the mixture"
        )
    return Part(encoder, space, float(np.sqrt(weight / scale)))
