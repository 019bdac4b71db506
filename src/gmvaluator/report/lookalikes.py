"""Signatures of pictures, by which the page finds those that look alike.

`lookalikes.js` makes the same signature of the picture that a reader looks for.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# cells a side: of brightness, and of two differences of colours, which the eye sees more coarsely
GRID, COLOUR_GRID = 8, 4
# width of a level, in 255ths
STEP, COLOUR_STEP = 4, 8
CELLS = GRID**2 + 2 * COLOUR_GRID**2
# far below a level: a mean that lies between two levels goes to the same one in both languages
NUDGE = 1e-6


def signature(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(CELLS,) levels of brightness (r + g + b)/3, of (r − b)/2 and of (2g − r − b)/4, row by row.

    A cell is the mean of the area that it covers, so that a picture in another size has nearly the
    same signature. The three are orthogonal: where two colours differ in them by a, b and c, the
    mean squared difference of red, green and blue is a² + 2/3·b² + 8/9·c².

    Args:
        pixels: (H, W) grey or (H, W, 3) RGB.
    """
    height, width = pixels.shape[:2]
    rows = _areas(height) @ pixels.reshape(height, -1)
    cells = np.einsum("rwc,bw->rbc", rows.reshape(GRID, width, -1), _areas(width))
    red, green, blue = np.moveaxis(np.broadcast_to(cells, (GRID, GRID, 3)), 2, 0)
    half = GRID // COLOUR_GRID
    colours = np.stack([(red - blue) / 2, (2 * green - red - blue) / 4]) + 128
    coarse = colours.reshape(2, COLOUR_GRID, half, COLOUR_GRID, half).mean(axis=(2, 4))
    brightness = (red + green + blue) / (3 * STEP)
    levels = np.concatenate([brightness.ravel(), coarse.ravel() / COLOUR_STEP])
    return np.floor(levels + 0.5 + NUDGE).astype(np.uint8)


@lru_cache(maxsize=256)
def _areas(length: int) -> NDArray[np.float64]:
    """(GRID, length) part of each cell that each pixel of a side fills."""
    edges = np.arange(GRID + 1) * length / GRID
    pixels = np.arange(length)
    filled = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(np.maximum(filled, 0) * GRID / length)
