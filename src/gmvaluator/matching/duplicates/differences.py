"""Whether two images of a training set differ in a part of the picture, or are copies.

To the networks that compare images, two clock faces or the keys 6 and 9 are nearly the same picture
where the rest of the set is varied. A copy differs from its source everywhere a little: compression
and resizing leave no place that has other content. So a pair counts as near copies only if no part
of the picture differs, after one image is laid over the other. No network is asked.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from gmvaluator.images import ImageSet, Preprocessing

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
    first, second = (torch.from_numpy(image).float() / 255 for image in (one, other))
    with torch.inference_mode():
        # most copies are no crops
        plain = _difference(first[None], second, torch.ones(1, SIDE, SIDE))
        if plain <= MOST_DIFFERENT:
            return plain
        return min(
            plain,
            *(
                _difference(_placed(above), below, _masks())
                for above, below in ((first, second), (second, first))
            ),
        )


@cache
def _grids() -> torch.Tensor:
    """(w, SIDE, SIDE, 2) places in the cropped image, for each placement."""
    matrices = []
    for crop, steps in CROPS.items():
        scale = 1 / (1 - 2 * crop)
        shifts = -2 / SIDE * scale * STEP * torch.arange(-steps, steps + 1)
        for right in shifts.tolist():
            for down in shifts.tolist():
                matrices.append([[scale, 0.0, right], [0.0, scale, down]])
    size = [len(matrices), 1, SIDE, SIDE]
    return functional.affine_grid(torch.tensor(matrices), size, align_corners=False)


@cache
def _masks() -> torch.Tensor:
    """(w, SIDE, SIDE) 1 for pixels that the cropped image covers, else 0."""
    return (_grids().abs() <= 1).all(-1).float()


def _placed(image: torch.Tensor) -> torch.Tensor:
    """(w, 3, SIDE, SIDE) an image in every placement."""
    grids = _grids()
    return functional.grid_sample(
        image.expand(len(grids), *image.shape), grids, padding_mode="border", align_corners=False
    )


def _difference(placed: torch.Tensor, below: torch.Tensor, masks: torch.Tensor) -> float:
    """`difference` in the placement with the highest correlation.

    Args:
        placed: (w, 3, SIDE, SIDE).
        below: (3, SIDE, SIDE).
        masks: (w, SIDE, SIDE).
    """
    weights = masks[:, None] / (3 * masks.sum((1, 2), keepdim=True)[:, None])
    means = (placed * weights).sum((1, 2, 3), keepdim=True)
    below_means = (below * weights).sum((1, 2, 3), keepdim=True)
    centred, below_centred = placed - means, below - below_means
    variances = (centred**2 * weights).sum((1, 2, 3)).clamp(min=LEAST_VARIANCE)
    below_variances = (below_centred**2 * weights).sum((1, 2, 3)).clamp(min=LEAST_VARIANCE)
    shared = (centred * below_centred * weights).sum((1, 2, 3))
    best = int((shared / (variances * below_variances).sqrt()).argmax())
    gain = (shared / variances)[best].clamp(GAIN, 1 / GAIN)
    offset = (below_means[best] - gain * means[best]).clamp(-OFFSET, OFFSET)
    rest = (gain * placed[best] + offset - below) * masks[best]
    return float(functional.avg_pool2d(rest[None], PART, stride=1).abs().max())
