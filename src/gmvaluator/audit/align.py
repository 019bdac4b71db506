"""Distance of two images after one is aligned with the other: shifted, mirrored, zoomed, turned.

Pixel by pixel, a copy that was cropped by a few pixels is far from its source. Therefore each image
is laid over each of its candidates in hundreds of placements, and the highest correlation counts.
Pixels that the image does not cover are masked. Correlation ignores brightness and contrast. A
candidate is compared as it is and softened, so that a blurred copy stays near to its source.

Only images with the same detail come close: two photographs of dogs, or two handwritten sevens,
agree in outline and differ in detail.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.images import ImageSet, Preprocessing
from gmvaluator.images.warping import affine_places, inside, resized, sampler
from gmvaluator.progress import Progress, Silent

SIDE = 32  # pixels; shifts are in these pixels
# part of each side that a crop cut off → steps of shifts in each direction, pixels per step
ZOOMS = {
    0.0: (3, 1.0),
    # small crops are the most frequent ones, and have finer steps
    0.025: (2, 0.5),
    0.05: (4, 0.5),
    0.075: (2, 1.0),
    0.1: (3, 1.0),
    0.15: (2, 1.0),
    0.2: (2, 1.0),
}
TURNS = {-5.0: (1, 1.0), 5.0: (1, 1.0)}  # degrees → steps and pixels of shifts, without zoom
SOFT = 1.0  # standard deviation in pixels of the Gaussian that softens candidates
# variance of pixels in 0 … 1: an image with less has no detail to compare
LEAST_VARIANCE = 1e-4
LUMINANCE = (0.299, 0.587, 0.114)  # Rec. 601
DESIGN = 1  # raised when the distances of this file change; kept calibrations hold for one design


@dataclass(frozen=True)
class Placement:
    """One way to lay an image over another: mirrored first, then zoomed or turned, then shifted.

    Attributes:
        mirror: left to right.
        zoom: part of each side that a crop had cut off.
        turn: degrees.
        right, down: pixels, at 32 px.
    """

    mirror: bool
    zoom: float
    turn: float
    right: float
    down: float

    def __str__(self) -> str:
        parts = [
            "mirrored" if self.mirror else "",
            f"cropped by {100 * self.zoom:g} %" if self.zoom else "",
            f"turned by {self.turn:g}°" if self.turn else "",
            f"shifted by ({self.right:g}, {self.down:g}) px" if self.right or self.down else "",
        ]
        return ", ".join(filter(None, parts)) or "as it is"

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 3) from places in the candidate to places in the image, both −1 … 1."""
        angle = math.radians(self.turn)
        cos, sin = math.cos(angle), math.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]]) / (1 - 2 * self.zoom)
        shift = linear @ np.array([self.right, self.down]) * (-2 / SIDE)
        matrix = np.column_stack([linear, shift])
        return matrix * np.array([[-1.0], [1.0]]) if self.mirror else matrix


def _placements() -> Iterator[Placement]:
    """All placements, the simplest first: of equal correlations the first one counts."""
    shapes = [(zoom, 0.0, shifts) for zoom, shifts in ZOOMS.items()]
    shapes += [(0.0, turn, shifts) for turn, shifts in TURNS.items()]
    for mirror, (zoom, turn, (most, step)) in itertools.product((False, True), shapes):
        steps = range(-most, most + 1)
        for right, down in sorted(itertools.product(steps, repeat=2), key=_length):
            yield Placement(mirror, zoom, turn, right * step, down * step)


def _length(shift: tuple[int, ...]) -> int:
    return sum(abs(part) for part in shift)


PLACEMENTS = tuple(_placements())


@cache
def _softener() -> NDArray[np.float32]:
    """(SIDE, SIDE) a Gaussian along one axis, cut off at the edges."""
    at = np.arange(SIDE)
    bell = np.exp(-((at[:, None] - at) ** 2) / (2 * SOFT**2))
    return np.asarray(bell / bell.sum(axis=1, keepdims=True), dtype=np.float32)


@cache
def _sampler() -> tuple[Any, NDArray[np.float32]]:
    """What lays an image over another in all w placements, and where it then is.

    Returns:
        (w·D, D) sparse matrix: times the pixels of the image, those of the placements; (w, D) 1 for
        pixels of the candidate that the image covers, else 0.
    """
    places = affine_places(np.stack([placement.matrix for placement in PLACEMENTS]), SIDE)
    masks = inside(places).reshape(len(PLACEMENTS), -1)
    return sampler(places, SIDE), masks.astype(np.float32)


def _align(
    image: NDArray[np.uint8], candidates: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """`aligned_distances` of one image, (SIDE, SIDE), from its candidates, (k, SIDE, SIDE)."""
    laid, masks = _sampler()
    covered = masks.sum(axis=1, keepdims=True)  # (w, 1) number of pixels
    plain = candidates.astype(np.float32) / np.float32(255)
    soft = _softener() @ plain @ _softener().T
    # (D, 2k): candidates as they are, then softened
    points = np.concatenate([plain, soft]).reshape(-1, SIDE * SIDE).T
    placed = (laid @ (image.astype(np.float32).ravel() / np.float32(255))).reshape(masks.shape)
    placed *= masks
    mean = placed.sum(axis=1, keepdims=True) / covered
    spread = (placed**2).sum(axis=1, keepdims=True) / covered - mean**2
    means = masks @ points / covered
    spreads = masks @ points**2 / covered - means**2
    shared = placed @ points / covered - mean * means
    least = np.float32(LEAST_VARIANCE)
    rho = shared / np.sqrt(np.maximum(spread, least) * np.maximum(spreads, least))
    # two images without detail count as equal
    rho[(spread < least) & (spreads < least)] = 1.0
    places = rho.argmax(axis=0)
    best = np.take_along_axis(rho, places[None], axis=0).reshape(2, -1)
    which = best.argmax(axis=0)[None]
    both = np.take_along_axis(best, which, axis=0)[0]
    places = np.take_along_axis(places.reshape(2, -1), which, axis=0)[0]
    return np.sqrt(np.maximum(2 - 2 * both, 0)), places


class GreyPixels:
    """`grey_pixels` of the images of a set, decoded when they are first used.

    Args:
        images: the set.
        rows: (n,) row of each image in it.
    """

    def __init__(self, images: ImageSet, rows: NDArray[np.int64]) -> None:
        self._images, self._rows = images, rows
        # memory that is not written to is not taken
        self._luminance = np.zeros((len(rows), SIDE, SIDE), dtype=np.uint8)
        self._decoded = np.zeros(len(rows), dtype=np.bool_)

    def __getitem__(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(…, SIDE, SIDE) of some images, in one batch.

        Raises:
            ImageError: one cannot be read (any more).
        """
        missing = np.unique(numbers)
        missing = missing[~self._decoded[missing]]
        if len(missing):
            self._luminance[missing] = grey_pixels(self._images, self._rows[missing])
            self._decoded[missing] = True
        return np.asarray(self._luminance[numbers])


def aligned_distances(
    images: NDArray[np.uint8],
    candidates: NDArray[np.uint8] | GreyPixels,
    rows: NDArray[np.int64],
    *,
    progress: Progress | None = None,
    stage: str = "align",
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Distances of m images from k candidates each, and the best placements.

    Args:
        images, candidates: (m, SIDE, SIDE) and (n, SIDE, SIDE), as `grey_pixels` gives them;
            `GreyPixels` decodes the candidates that occur in `rows`.
        rows: (m, k) candidates of each image.

    Returns:
        (m, k) √(2 − 2ρ) for the highest correlation ρ: 0 for a copy, √2 for unrelated images;
        (m, k) place of that placement in `PLACEMENTS`. Both in the order of `rows`.
    """
    distances = np.empty(rows.shape, dtype=np.float32)
    places = np.empty(rows.shape, dtype=np.int64)
    # all in one batch: image by image, reading would take longer
    used, at = np.unique(rows, return_inverse=True)
    candidates, at = candidates[used], at.reshape(rows.shape)
    with (progress or Silent()).stage(stage, len(images)) as advance:
        for j, image in enumerate(images):
            distances[j], places[j] = _align(image, candidates[at[j]])
            advance(1)
    return distances, places


def laid_over(
    image: NDArray[np.uint8], placement: Placement, side: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """An image as a placement lays it over a candidate, and the pixels that it covers.

    Args:
        image: (H, W, 3).
        side: of the result; the image is squashed to a square.

    Returns:
        (side, side, 3) and (side, side).
    """
    places = affine_places(placement.matrix[None], side)
    pixels = sampler(places, side) @ resized(image, side).reshape(side * side, -1)
    laid = np.clip(np.rint(pixels), 0, 255).astype(np.uint8).reshape(side, side, -1)
    return laid, inside(places[0])


def grey_pixels(images: ImageSet, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(r, SIDE, SIDE) luminance of these images, squashed to a square.

    Raises:
        ImageError: one cannot be read (any more).
    """
    luminance = np.empty((len(rows), SIDE, SIDE), dtype=np.uint8)
    weights = np.array(LUMINANCE, dtype=np.float32)
    done = 0
    batches = images.batches(
        Preprocessing(SIDE, interpolation="bilinear"), rows=rows, on_error="raise"
    )
    for batch in batches:
        grey = np.einsum("c,bcij->bij", weights, batch.pixels)
        luminance[done : done + len(grey)] = np.rint(np.minimum(grey, 255))
        done += len(grey)
    return luminance
