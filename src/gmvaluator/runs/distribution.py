"""How value is spread over training images: who holds which share, and how many hold how much."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

N_BINS = 40
# positive values that span more than this are counted in bins of equal ratio
LOG_SPAN = 100.0
# counts that span more than this are drawn on a logarithmic axis
LOG_COUNTS = 200.0


def n_below(values: NDArray[np.float64]) -> int:
    """How many values are below 0; with any, values have no shares of a whole."""
    return int((values < 0).sum())


@dataclass(frozen=True, eq=False)
class Concentration:
    """The share of all value that the most valuable images hold together.

    Attributes:
        values: (n,) of every training image, ≥ 0.
    """

    values: NDArray[np.float64]

    @cached_property
    def cumulated(self) -> NDArray[np.float64]:
        """(n + 1,) share held by the first 0 … n images, the most valuable first; 0 without any."""
        running = np.concatenate([[0.0], np.cumsum(np.sort(self.values)[::-1])])
        return np.asarray(running / running[-1] if running[-1] > 0 else running, dtype=np.float64)

    def count(self, top: float) -> int:
        """Whole images nearest to the part `top` (0 … 1) of all; one at least, unless it is 0."""
        n = len(self.values)
        return min(n, max(1, round(top * n))) if top > 0 else 0

    def held_by(self, top: float) -> float:
        """Share of all value (0 … 1) held by the `count(top)` most valuable images."""
        return float(self.cumulated[self.count(top)])

    def named(self, top: float) -> str:
        """What part of all images `count(top)` are, as "top 10 %"; of 25 images as "top 8 %"."""
        part = 100 * self.count(top) / max(1, len(self.values))
        return f"top {f'{part:.1f}'.removesuffix('.0')} %"

    @property
    def n_zero(self) -> int:
        """Training images without any value."""
        return int((self.values == 0).sum())

    def points(self, most: int = 400) -> NDArray[np.float64]:
        """(p, 2) of the curve: share of the images, share of all value; at most 2 · `most`.

        Evenly spread along both axes, so that a steep beginning keeps its shape.
        """
        n = len(self.values)
        across = np.linspace(0, n, most + 1).round().astype(np.int64)
        upward = np.searchsorted(self.cumulated, np.linspace(0, self.cumulated[-1], most - 1))
        rows = np.unique(np.concatenate([across, np.minimum(upward, n)]))
        return np.column_stack([rows / max(1, n), self.cumulated[rows]])


@dataclass(frozen=True, eq=False)
class Histogram:
    """How many training images have how much value, those without any left out.

    Attributes:
        edges: (b + 1,) ascending.
        counts: (b,) images from one edge to the next.
        log_values: edges have equal ratios, not equal steps.
        log_counts: counts differ so much that their axis should be logarithmic.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    log_values: bool
    log_counts: bool


def histogram(values: NDArray[np.float64], bins: int = N_BINS) -> Histogram | None:
    """Counts of the values above 0 in `bins` bins; None where there is none.

    Bins have equal ratios where the values span more than a factor of `LOG_SPAN`, from the
    smallest value, but not below a billionth of the largest: what is less is counted in the first.
    """
    positive = values[values > 0]
    if not len(positive):
        return None
    high = float(positive.max())
    low = max(float(positive.min()), high * 1e-9)
    log_values = high > LOG_SPAN * low
    start = low if log_values else 0.0
    edges = (np.geomspace if log_values else np.linspace)(start, high, bins + 1)
    # rounding may put an end a hair inside
    edges[0], edges[-1] = start, high
    counts = np.histogram(np.clip(positive, low, high), edges)[0].astype(np.int64)
    least = int(counts[counts > 0].min())
    return Histogram(edges, counts, log_values, bool(counts.max() > LOG_COUNTS * least))
