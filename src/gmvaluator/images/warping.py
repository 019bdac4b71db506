"""Images as arrays, moved and resized: affine maps, bilinear sampling, smooth resizing.

Places are −1 … 1 along each axis, from the left or upper edge of the first pixel to the right or
lower edge of the last. They are `grid_sample`'s and `interpolate`'s of torch, without its corners
aligned.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def affine_places(matrices: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """(w, 2, 3) maps (x, y, 1) → (x, y) as (w, side, side, 2) places of the pixels of a square."""
    centres = (2 * np.arange(side) + 1) / side - 1
    x, y = np.meshgrid(centres, centres)
    points = np.stack([x, y, np.ones_like(x)], axis=-1)
    return np.asarray(np.einsum("wab,ijb->wija", matrices, points))


def inside(places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(…, 2) → (…): which places lie in the image."""
    return np.asarray((np.abs(places) <= 1).all(axis=-1))


def sampler(places: NDArray[np.float64], side: int) -> Any:
    """A sparse matrix (n, side²): times the pixels of a square, its values at (…, 2) n places.

    Between four pixels by their nearness; beyond the edge the nearest pixel's.
    """
    from scipy.sparse import csr_array

    at = np.clip((places.reshape(-1, 2) + 1) * (side / 2) - 0.5, 0, side - 1)
    first = np.minimum(np.floor(at).astype(np.int32), max(side - 2, 0))
    last = np.minimum(first + 1, side - 1)
    (right, down), ((left, top), (other, bottom)) = (at - first).T, (first.T, last.T)
    columns = np.stack([top * side + left, top * side + other, bottom * side + left,
                        bottom * side + other], axis=1)  # fmt: skip
    weights = np.stack([(1 - right) * (1 - down), right * (1 - down), (1 - right) * down,
                        right * down], axis=1)  # fmt: skip
    starts = np.arange(0, 4 * len(at) + 1, 4)
    return csr_array(
        (weights.astype(np.float32).ravel(), columns.ravel(), starts), shape=(len(at), side * side)
    )


def resized(image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """(H, W, C) → (side, side, C) by a triangle as wide as a pixel of the smaller of the two."""
    height, width = image.shape[:2]
    rows = np.einsum("ih,hwc->iwc", _triangles(height, side), image, dtype=np.float32)
    return np.asarray(np.einsum("jw,iwc->ijc", _triangles(width, side), rows, dtype=np.float32))


def _triangles(length: int, side: int) -> NDArray[np.float32]:
    """(side, length) weight of each pixel of a line in each pixel of the resized line."""
    step = length / side
    centres = (np.arange(side)[:, None] + 0.5) * step
    distance = np.abs(np.arange(length) + 0.5 - centres) / max(step, 1.0)
    weights = np.maximum(1 - distance, 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)
