"""The image itself as its vector: RGB in [0, 1] at a common size, Euclidean distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.base import Network
from gmvaluator.errors import InputError
from gmvaluator.images import Preprocessing
from gmvaluator.weights import Weights

DEFAULT_SIZE = 32


def flatten(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(B, 3, H, W) uint8 → (B, 3·H·W) float32 in [0, 1]."""
    return pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255)


def build(variant: str | None, size: int | None, weights: Weights) -> Network:
    """`pixels[@size]`; the size is the side both are squashed to (default 32)."""
    if variant is not None:
        raise InputError(f"encoder 'pixels' has no variant {variant!r}; write pixels or pixels@28")
    side = size or DEFAULT_SIZE
    return Network(
        name=f"pixels@{side}",
        module=flatten,
        preprocessing=Preprocessing(side, interpolation="bilinear"),
        metric="euclidean",
    )
