"""The distribution of value over training images: values go in, shares and counts come out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmvaluator.memory import once
from gmvaluator.shown import short_repr

N_BINS = 40
# values above 0 whose largest ratio exceeds this are counted in bins of equal ratio
LOG_SPAN = 100.0
# counts whose largest ratio exceeds this are drawn on a logarithmic axis
LOG_COUNTS = 200.0


def n_below(values: NDArray[np.float64]) -> int:
    """Number of values below 0; if there is one, values are no shares of a whole."""
    return int((values < 0).sum())


@short_repr
@dataclass(frozen=True, eq=False)
class Concentration:
    """Shares of all value that the most valuable images hold together.

    Attributes:
        values: (n,) value of every training image, ≥ 0.
    """

    values: NDArray[np.float64]

    @property
    @once
    def cumulated(self) -> NDArray[np.float64]:
        """(n + 1,) share of the 0 … n most valuable images together; 0 if all values are 0."""
        running = np.concatenate([[0.0], np.cumsum(np.sort(self.values)[::-1])])
        return np.asarray(running / running[-1] if running[-1] > 0 else running, dtype=np.float64)

    def count(self, top: float) -> int:
        """Number of images nearest to the part `top` (0 … 1) of all; at least 1 unless it is 0."""
        n = len(self.values)
        return min(n, max(1, round(top * n))) if top > 0 else 0

    def held_by(self, top: float) -> float:
        """Share (0 … 1) of all value that the `count(top)` most valuable images hold."""
        return float(self.cumulated[self.count(top)])

    def named(self, top: float) -> str:
        """Name of the `count(top)` most valuable images: "top 10 %", or of 25 images "top 8 %"."""
        part = 100 * self.count(top) / max(1, len(self.values))
        return f"top {f'{part:.1f}'.removesuffix('.0')} %"

    @property
    def n_zero(self) -> int:
        """Number of training images whose value is 0."""
        return int((self.values == 0).sum())

    def points(self, most: int = 400) -> NDArray[np.float64]:
        """(p, 2) points of the curve: share of the images, share of all value; p ≤ 2 · `most`.

        The points are evenly spread along both axes, so that a steep start keeps its shape.
        """
        n = len(self.values)
        across = np.linspace(0, n, most + 1).round().astype(np.int64)
        upward = np.searchsorted(self.cumulated, np.linspace(0, self.cumulated[-1], most - 1))
        rows = np.unique(np.concatenate([across, np.minimum(upward, n)]))
        return np.column_stack([rows / max(1, n), self.cumulated[rows]])


@short_repr
@dataclass(frozen=True, eq=False)
class Histogram:
    """Number of training images by value; images whose value is not above 0 are left out.

    Attributes:
        edges: (b + 1,) ascending edges of the bins.
        counts: (b,) number of images per bin.
        log_values: the edges have equal ratios, not equal steps.
        log_counts: the counts differ so much that their axis should be logarithmic.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    log_values: bool
    log_counts: bool


def histogram(values: NDArray[np.float64], bins: int = N_BINS) -> Histogram | None:
    """Counts of the values above 0 in `bins` bins; None if no value is above 0.

    Bins have equal ratios where the largest value exceeds the smallest by more than `LOG_SPAN`.
    They start at the smallest value, but not below a billionth of the largest; smaller values are
    counted in the first bin.
    """
    positive = values[values > 0]
    if not len(positive):
        return None
    high = float(positive.max())
    low = max(float(positive.min()), high * 1e-9)
    log_values = high > LOG_SPAN * low
    start = low if log_values else 0.0
    edges = (np.geomspace if log_values else np.linspace)(start, high, bins + 1)
    # rounding may move the outer edges inwards
    edges[0], edges[-1] = start, high
    counts = np.histogram(np.clip(positive, low, high), edges)[0].astype(np.int64)
    least = int(counts[counts > 0].min())
    return Histogram(edges, counts, log_values, bool(counts.max() > LOG_COUNTS * least))
