"""Whether two images of a training set differ in a part of the picture, or are copies.

To the networks that compare images, two clock faces or the keys 6 and 9 are nearly the same picture
where the rest of the set is varied. A copy differs from its source everywhere a little: compression
and resizing leave no place that has other content. So a pair counts as near copies only if no part
of the picture differs, after one image is laid over the other. No network is asked.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.images import ImageSet, Preprocessing
from gmvaluator.images.warping import affine_places, inside, sampler

SIDE = 32  # pixels; shifts are in these pixels
PART = 4  # pixels; side of the parts of a picture
MOST_DIFFERENT = 0.085
"""Largest mean difference of a part of two copies, where black to white is 1.

Chosen on digits, where no two of 2,000 differ by less, and tried on photographs, where one pair of
2,000 does (`benchmarks/near_copies.py`): the distance of the pair decides as well.
"""
# part of each side that a crop cut off → steps of shifts in each direction, each half a pixel
CROPS = {0.0: 2, 0.0125: 1, 0.025: 2, 0.05: 3}
STEP = 0.5
GAIN = 0.75  # least contrast of a copy, in parts of the original's; most: 1 / GAIN
OFFSET = 0.1  # most that a copy is lighter or darker, beside its contrast
MOST_KEPT = 16_384  # images whose pixels are held; 3 kB each
LEAST_VARIANCE = 1e-6
"""Variance of an image without detail, so that no contrast is divided by."""

Pixels = NDArray[np.uint8]  # (3, SIDE, SIDE)


class Differences:
    """Compares pairs of images of a set.

    Args:
        images: the set.
        rows: (n,) row of each image in it.
    """

    def __init__(self, images: ImageSet, rows: NDArray[np.int64]) -> None:
        self._images, self._rows = images, rows
        self._pixels: dict[int, Pixels] = {}
        self._alike: dict[tuple[int, int], bool] = {}

    def alike(self, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(p,) whether no part differs, of (p, 2) pairs of images.

        An image that can no longer be read is like no other.
        """
        ordered = [(min(pair), max(pair)) for pair in pairs.tolist()]
        new = sorted({pair for pair in ordered if pair not in self._alike})
        self._read({number for pair in new for number in pair})
        for first, second in new:
            one, other = self._pixels.get(first), self._pixels.get(second)
            self._alike[first, second] = (
                one is not None and other is not None and difference(one, other) <= MOST_DIFFERENT
            )
        return np.array([self._alike[pair] for pair in ordered], dtype=np.bool_)

    def _read(self, numbers: set[int]) -> None:
        missing = np.array(sorted(numbers - self._pixels.keys()), dtype=np.int64)
        if not len(missing):
            return
        if len(self._pixels) + len(missing) > MOST_KEPT:
            self._pixels = {
                number: self._pixels[number] for number in numbers - {*missing.tolist()}
            }
        place_of = dict(zip(self._rows[missing].tolist(), missing.tolist(), strict=True))
        preprocessing = Preprocessing(SIDE, interpolation="bilinear")
        for batch in self._images.batches(preprocessing, rows=self._rows[missing]):
            for row, pixels in zip(batch.rows.tolist(), batch.pixels, strict=True):
                self._pixels[place_of[row]] = pixels


def difference(one: Pixels, other: Pixels) -> float:
    """Largest mean difference of a part of two images, 0 … 1, black to white being 1.

    Either image may be a crop of the other, by up to 5 % a side. Differences of brightness and
    contrast, as far as a copy may have them, do not count.
    """
    first, second = (image.astype(np.float32) / np.float32(255) for image in (one, other))
    # most copies are no crops
    plain = _difference(first[None], second, np.ones((1, SIDE, SIDE), np.float32))
    if plain <= MOST_DIFFERENT:
        return plain
    laid, masks = _sampler()
    crops = []
    for above, below in ((first, second), (second, first)):
        placed = (laid @ above.reshape(3, -1).T).reshape(*masks.shape, 3).transpose(0, 3, 1, 2)
        crops.append(_difference(np.ascontiguousarray(placed), below, masks))
    return min(plain, *crops)


@cache
def _sampler() -> tuple[Any, NDArray[np.float32]]:
    """What lays the cropped image over the other in all w placements, and where it then is.

    Returns:
        (w·SIDE², SIDE²) sparse matrix; (w, SIDE, SIDE) 1 for pixels that the image covers, else 0.
    """
    matrices = []
    for crop, steps in CROPS.items():
        scale = 1 / (1 - 2 * crop)
        shifts = -2 / SIDE * scale * STEP * np.arange(-steps, steps + 1)
        for right in shifts.tolist():
            for down in shifts.tolist():
                matrices.append([[scale, 0.0, right], [0.0, scale, down]])
    places = affine_places(np.asarray(matrices), SIDE)
    return sampler(places, SIDE), inside(places).astype(np.float32)


def _difference(
    placed: NDArray[np.float32], below: NDArray[np.float32], masks: NDArray[np.float32]
) -> float:
    """`difference` in the placement with the highest correlation.

    Args:
        placed: (w, 3, SIDE, SIDE).
        below: (3, SIDE, SIDE).
        masks: (w, SIDE, SIDE).
    """
    weights = np.tile(masks.reshape(len(masks), -1), 3)
    weights /= weights.sum(axis=1, keepdims=True)
    above, under = placed.reshape(weights.shape), below.reshape(1, -1)
    means = (above * weights).sum(axis=1, keepdims=True)
    under_means = (under * weights).sum(axis=1, keepdims=True)
    centred, under_centred = above - means, under - under_means
    weighted, under_weighted = centred * weights, under_centred * weights
    variances = np.maximum((weighted * centred).sum(axis=1), LEAST_VARIANCE)
    shared = np.multiply(weighted, under_centred, out=weighted).sum(axis=1)
    under_variances = np.multiply(under_weighted, under_centred, out=under_weighted).sum(axis=1)
    under_variances = np.maximum(under_variances, LEAST_VARIANCE)
    best = int((shared / np.sqrt(variances * under_variances)).argmax())
    gain = np.clip(shared[best] / variances[best], GAIN, 1 / GAIN)
    offset = np.clip(under_means[best, 0] - gain * means[best, 0], -OFFSET, OFFSET)
    rest = (gain * placed[best] + offset - below) * masks[best]
    parts = np.lib.stride_tricks.sliding_window_view(rest, (PART, PART), axis=(1, 2))
    return float(np.abs(parts.mean(axis=(3, 4))).max())
