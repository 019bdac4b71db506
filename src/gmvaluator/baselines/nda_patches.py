"""The patches that NDA compares, by region (Zhao et al. 2025, arXiv 2510.14269).

In the paper, a patch over the border has a large mask value at its places outside the image. So a
patch only matches patches that overhang in the same way. Positions therefore fall into regions:
one region of all patches inside the image, one per row or column of patches over one side, and one
per position of patches over a corner. Places outside the image are not compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEPS = 1000
FIRST_BETA, LAST_BETA = 1e-4, 0.02
# below this variance exponents grow until float32 would round weights in their fourth digit
_SINGLE_PRECISION = 0.02

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class NoiseLevel:
    """x_t = signal · x + √variance · ε at a step of DDPM's linear schedule (Ho et al. 2020).

    Attributes:
        signal: √ᾱ_t.
        variance: 1 − ᾱ_t.
    """

    signal: float
    variance: float

    @staticmethod
    def at(t: int) -> NoiseLevel:
        """The noise of step t, 0 to 999. ᾱ_t is the product of 1 − β over steps 0 to t."""
        signal_power = float(np.prod(1 - np.linspace(FIRST_BETA, LAST_BETA, STEPS)[: t + 1]))
        return NoiseLevel(signal_power**0.5, 1 - signal_power)

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """float32 if it is exact enough for weights of this variance, else float64."""
        return np.dtype(np.float32 if self.variance >= _SINGLE_PRECISION else np.float64)


@dataclass(frozen=True)
class Region:
    """Positions of patches that overhang alike, as spans of rows and of columns."""

    rows: slice
    columns: slice

    @property
    def positions(self) -> int:
        """Number of positions."""
        spans = (self.rows, self.columns)
        return math.prod(int(span.stop) - int(span.start) for span in spans)


@dataclass(frozen=True)
class Window:
    """Square patches at all positions.

    Attributes:
        patch: side of a patch, in numbers.
        step: 1 for pixels, 2 for a half-size copy. A number of the copy is half of the sum of 2 × 2
            pixels, so that independent noise keeps its variance.
    """

    patch: int
    step: int = 1

    @property
    def padding(self) -> int:
        """Zeros put around an image."""
        return (self.patch * self.step - 1) // 2

    def regions(self, side: int) -> tuple[Region, ...]:
        """All regions of square images of that side."""
        reach = self.patch * self.step
        first, last = self.padding, side + self.padding - reach  # rows of patches wholly inside
        spans = [
            slice(row, row + 1)
            for row in range(side + 2 * self.padding - reach + 1)
            if not first <= row <= last
        ]
        if first <= last:
            spans.append(slice(first, last + 1))
        return tuple(Region(rows, columns) for rows in spans for columns in spans)

    def patches(self, images: Floats, region: Region) -> Floats:
        """(B, C, S, S) → (B, P, C · patch²), the P patches of a region."""
        around = (self.padding, self.padding)
        padded = np.pad(images, ((0, 0), (0, 0), around, around))
        if self.step == 2:
            pairs = padded[:, :, :-1] + padded[:, :, 1:]
            padded = (pairs[..., :-1] + pairs[..., 1:]) / 2
        span = (self.patch - 1) * self.step + 1
        windows = np.lib.stride_tricks.sliding_window_view(padded, (span, span), axis=(2, 3))
        in_region = windows[:, :, region.rows, region.columns, :: self.step, :: self.step]
        return in_region.transpose(0, 2, 3, 1, 4, 5).reshape(len(images), region.positions, -1)


def signed(pixels: NDArray[np.uint8], dtype: np.dtype[np.floating]) -> Floats:
    """uint8 → [−1, 1]."""
    return (pixels / np.asarray(127.5, dtype) - 1).astype(dtype, copy=False)
