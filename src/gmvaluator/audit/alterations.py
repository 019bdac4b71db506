"""Training images altered on purpose: copies whose source is known, to learn which are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from gmvaluator.audit.align import SIDE, grey_pixels
from gmvaluator.images import ImageSet
from gmvaluator.images.decoding import encode_jpeg

Pixels = NDArray[np.uint8]  # (H, W, 3)


def _compressed(image: Pixels) -> bytes:
    return encode_jpeg(image, 50)


def _shifted(image: Pixels) -> Pixels:
    """The image moved right and down by a sixteenth; the edge is repeated."""
    height, width = image.shape[:2]
    down, right = (max(1, round(side / 16)) for side in (height, width))
    return np.pad(image, ((down, 0), (right, 0), (0, 0)), mode="edge")[:height, :width]


def _cropped(image: Pixels) -> Pixels:
    height, width = image.shape[:2]
    down, right = (max(1, round(side / 20)) if side > 2 else 0 for side in (height, width))
    return image[down : height - down, right : width - right]


ALTERATIONS: Mapping[str, Callable[[Pixels], Pixels | bytes]] = {
    "saved as JPEG of quality 50": _compressed,
    "shifted by 2 of 32 pixels": _shifted,
    "cropped by 5 % on each side": _cropped,
}


def altered_pixels(images: ImageSet, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(a, s, SIDE, SIDE) `grey_pixels` of s images of a set, altered in each way.

    Raises:
        ImageError: an image cannot be read (any more).
    """
    luminance = np.empty((len(ALTERATIONS), len(rows), SIDE, SIDE), dtype=np.uint8)
    every = np.arange(len(ALTERATIONS))
    # image by image, since each has its full size
    for place, row in enumerate(rows.tolist()):
        image = images[row]
        made = ImageSet.open([alter(image) for alter in ALTERATIONS.values()])
        luminance[:, place] = grey_pixels(made, every)
    return luminance
