"""How alike two images are once one is laid over the other: shifted, mirrored, zoomed, turned.

A copy that was cropped by a few pixels is far from its source pixel by pixel. Here each image is
tried in hundreds of placements over each of its candidates, and the best correlation counts. What a
crop cut off is masked out. Correlation ignores brightness and contrast; a candidate is tried as it
is and softened, so that a blurred copy is not told by what it lacks.

Only images that share their detail come close: two photographs of dogs, or two handwritten sevens,
agree in outline and differ in what is left.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from gmvaluator.images import ImageSet, Preprocessing
from gmvaluator.progress import Progress, Silent

SIDE = 32  # pixels; the unit of shifts
# part of each side that a crop cut off → steps of shifts either way, and their pixels
ZOOMS = {
    0.0: (3, 1.0),
    # small crops are the usual ones: finer
    0.025: (2, 0.5),
    0.05: (4, 0.5),
    0.075: (2, 1.0),
    0.1: (3, 1.0),
    0.15: (2, 1.0),
    0.2: (2, 1.0),
}
TURNS = {-5.0: (1, 1.0), 5.0: (1, 1.0)}  # degrees → shifts, without zoom
SOFT = 1.0  # pixels of the Gaussian that candidates are softened by
# of pixels in 0 … 1: an image with less has no detail to be told by
LEAST_VARIANCE = 1e-4
LUMINANCE = (0.299, 0.587, 0.114)  # Rec. 601


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
    """The plainest first: of equals the first counts."""
    shapes = [(zoom, 0.0, shifts) for zoom, shifts in ZOOMS.items()]
    shapes += [(0.0, turn, shifts) for turn, shifts in TURNS.items()]
    for mirror, (zoom, turn, (most, step)) in itertools.product((False, True), shapes):
        steps = range(-most, most + 1)
        for right, down in sorted(itertools.product(steps, repeat=2), key=_length):
            yield Placement(mirror, zoom, turn, right * step, down * step)


def _length(shift: tuple[int, ...]) -> int:
    return sum(abs(part) for part in shift)


PLACEMENTS = tuple(_placements())


class Register:
    """Lays images over candidates.

    Args:
        candidates: (n, SIDE, SIDE) training images, as `grey_pixels` gives them.
    """

    def __init__(self, candidates: NDArray[np.uint8]) -> None:
        self._candidates = torch.from_numpy(candidates)

    def distances(
        self, image: NDArray[np.uint8], rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Distance of one image from each of these candidates, and the placement of each.

        Args:
            image: (SIDE, SIDE).
            rows: (k,) candidates.

        Returns:
            (k,) √(2 − 2ρ), where ρ is the largest correlation: 0 for a copy, √2 for strangers;
            (k,) number of the placement in `PLACEMENTS`.
        """
        plain = self._candidates[torch.from_numpy(rows)].float() / 255
        soft = self._softener @ plain @ self._softener.T
        # (D, 2k): as they are, then softened
        points = torch.cat([plain, soft]).flatten(1).T.contiguous()
        placed = functional.grid_sample(
            (torch.from_numpy(image).float() / 255).expand(len(PLACEMENTS), 1, SIDE, SIDE),
            self._grids,
            padding_mode="border",
            align_corners=False,
        ).flatten(1)
        placed = placed * self._masks
        mean = placed.sum(1, keepdim=True) / self._seen
        spread = (placed**2).sum(1, keepdim=True) / self._seen - mean**2
        means = self._masks @ points / self._seen
        spreads = self._masks @ points**2 / self._seen - means**2
        shared = placed @ points / self._seen - mean * means
        least = LEAST_VARIANCE
        rho = shared / (spread.clamp(min=least) * spreads.clamp(min=least)).sqrt()
        # two images without detail are alike
        rho = torch.where((spread < least) & (spreads < least), 1.0, rho)
        best, places = rho.max(0)
        both, which = best.reshape(2, -1).max(0)
        places = places.reshape(2, -1).gather(0, which[None])[0]
        return (2 - 2 * both).clamp(min=0).sqrt().numpy(), places.numpy()

    @cached_property
    def _softener(self) -> torch.Tensor:
        """(SIDE, SIDE) a Gaussian along one axis; at an edge, of what is within."""
        at = torch.arange(SIDE, dtype=torch.float32)
        bell = torch.exp(-((at[:, None] - at) ** 2) / (2 * SOFT**2))
        return bell / bell.sum(1, keepdim=True)

    @cached_property
    def _grids(self) -> torch.Tensor:
        """(w, SIDE, SIDE, 2) places in the image."""
        matrices = torch.from_numpy(np.stack([each.matrix for each in PLACEMENTS])).float()
        size = [len(matrices), 1, SIDE, SIDE]
        return functional.affine_grid(matrices, size, align_corners=False)

    @cached_property
    def _masks(self) -> torch.Tensor:
        """(w, D) 1 where the image covers the candidate, else 0."""
        return (self._grids.abs() <= 1).all(-1).flatten(1).float()

    @cached_property
    def _seen(self) -> torch.Tensor:
        """(w, 1) pixels covered."""
        return self._masks.sum(1, keepdim=True)


def registered(
    images: NDArray[np.uint8],
    candidates: NDArray[np.uint8],
    rows: NDArray[np.int64],
    *,
    progress: Progress | None = None,
    stage: str = "register",
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Distances of m images from k candidates each, and the placements they were found in.

    Args:
        images, candidates: (m, SIDE, SIDE) and (n, SIDE, SIDE), as `grey_pixels` gives them.
        rows: (m, k) candidates of each image.

    Returns:
        (m, k) each, in the order of `rows`; see `Register.distances`.
    """
    register = Register(candidates)
    distances = np.empty(rows.shape, dtype=np.float32)
    places = np.empty(rows.shape, dtype=np.int64)
    with (progress or Silent()).stage(stage, len(images)) as advance, torch.inference_mode():
        for j, image in enumerate(images):
            distances[j], places[j] = register.distances(image, rows[j])
            advance(1)
    return distances, places


def laid_over(
    image: NDArray[np.uint8], placement: Placement, side: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """An image as a placement lays it over a candidate, and where it covers that.

    Args:
        image: (H, W, 3).
        side: of the result, squashed to a square.

    Returns:
        (side, side, 3) and (side, side).
    """
    matrix = torch.from_numpy(placement.matrix).float()[None]
    grid = functional.affine_grid(matrix, [1, 3, side, side], align_corners=False)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    planes = functional.interpolate(planes, (side, side), mode="bilinear", antialias=True)
    placed = functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)
    pixels = placed[0].round().clamp(0, 255).permute(1, 2, 0).to(torch.uint8).numpy()
    return np.ascontiguousarray(pixels), (grid[0].abs() <= 1).all(-1).numpy()


def grey_pixels(images: ImageSet, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(r, SIDE, SIDE) luminance of these images, squashed to a square.

    Raises:
        ImageError: one cannot be read (any more).
    """
    found = np.empty((len(rows), SIDE, SIDE), dtype=np.uint8)
    weights = np.array(LUMINANCE, dtype=np.float32)
    done = 0
    batches = images.batches(
        Preprocessing(SIDE, interpolation="bilinear"), rows=rows, on_error="raise"
    )
    for batch in batches:
        grey = np.einsum("c,bcij->bij", weights, batch.pixels)
        found[done : done + len(grey)] = np.rint(np.minimum(grey, 255))
        done += len(grey)
    return found
