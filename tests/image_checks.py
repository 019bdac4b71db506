"""Checks of image sets, and six images that every kind of source can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gmvaluator.images import Batch, ImageSet, Preprocessing
from image_makers import encode, random_images

IMAGES = random_images(6)
PNGS = [encode(image) for image in IMAGES]


def only(batches: Any) -> Batch:
    """The one batch of an iterator."""
    (batch,) = batches
    assert isinstance(batch, Batch)
    return batch


def check_pixels(images: ImageSet, rows: Sequence[int] = range(6)) -> None:
    """The set holds IMAGES[rows], by item and in batches."""
    assert len(images) == len(images.ids) == len(rows)
    for at, row in enumerate(rows):
        np.testing.assert_array_equal(images[at], IMAGES[row])
    (batch,) = images.batches(Preprocessing(8), on_error="raise")
    np.testing.assert_array_equal(batch.pixels, IMAGES[list(rows)].transpose(0, 3, 1, 2))
    assert list(batch.keys) == [images.content_key(at) for at in range(len(rows))]


def sample(rows: Sequence[int], prefix: str = "") -> dict[str, bytes]:
    """PNGS[rows] as the files of a WebDataset shard."""
    return {f"{prefix}{row:03d}.png": PNGS[row] for row in rows}
