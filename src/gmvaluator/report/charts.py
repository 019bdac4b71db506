"""The two curves of the report as SVG: it takes its colours from the page."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gmvaluator.runs.distribution import Concentration, Histogram
from gmvaluator.runs.formatting import format_number

# the plot area within the picture, in its own units
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 440, 280, 60, 12, 24, 44
_ACROSS, _DOWN = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM


def cumulative_chart(curve: Concentration) -> str:
    """Share of all value (up) held by the most valuable images (across)."""
    points = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in curve.points())
    ticks = [(share, f"{100 * share:.0f} %") for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    label = (
        f"Share of all value held by the most valuable training images: the {curve.named(0.1)} "
        f"hold {100 * curve.held_by(0.1):.0f} %, the {curve.named(0.5)} "
        f"{100 * curve.held_by(0.5):.0f} %."
    )
    marks = (
        f'<path class="area" d="M{_x(0):.1f} {_y(0):.1f}L{points.replace(" ", "L")}'
        f'L{_x(1):.1f} {_y(0):.1f}Z"/>'
        f'<path class="even" d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}"/>'
        f'<polyline class="line" points="{points}"/>'
    )
    return _frame(
        label, marks, ticks, ticks, "training images, most valuable first", "of all value"
    )


def histogram_chart(counted: Histogram) -> str:
    """Training images (up) by their value (across), those without any left out."""
    shares = _heights(counted)
    low, high = float(counted.edges[0]), float(counted.edges[-1])
    bars = []
    places = [_place(edge, low, high, counted.log_values) for edge in counted.edges]
    for i, count in enumerate(counted.counts):
        if not count:
            continue
        left, right = _x(places[i]), _x(places[i + 1])
        top = _y(shares[i])
        title = (
            f"{format_number(float(counted.edges[i]))} to "
            f"{format_number(float(counted.edges[i + 1]))}: {count:,} images"
        )
        bars.append(
            f'<rect class="col" x="{left + 0.5:.1f}" y="{top:.1f}" '
            f'width="{max(0.5, right - left - 1):.1f}" height="{_y(0) - top:.1f}">'
            f"<title>{title}</title></rect>"
        )
    values = _ticks(low, high, counted.log_values)
    across = [(_place(v, low, high, counted.log_values), f"{v:g}") for v in values]
    label = (
        f"Histogram of {int(counted.counts.sum()):,} training images with a value above 0, from "
        f"{format_number(low)} to {format_number(high)}."
    )
    named = "value (logarithmic)" if counted.log_values else "value"
    images = "images (logarithmic)" if counted.log_counts else "images"
    return _frame(label, "".join(bars), across, _count_ticks(counted), named, images)


def _heights(counted: Histogram) -> NDArray[np.float64]:
    """(b,) height of each bar, 0 … 1."""
    counts = counted.counts.astype(np.float64)
    if counted.log_counts:
        # one image is a tenth of a decade high, or it would be no bar
        return np.asarray(np.log10(1 + 9 * counts) / math.log10(1 + 9 * counts.max()))
    return np.asarray(counts / counts.max())


def _count_ticks(counted: Histogram) -> list[tuple[float, str]]:
    highest = int(counted.counts.max())
    if counted.log_counts:
        whole = [10**p for p in range(math.floor(math.log10(highest)) + 1)]
        top = math.log10(1 + 9 * highest)
        return [(math.log10(1 + 9 * count) / top, f"{count:,}") for count in whole]
    steps = [tick for tick in _ticks(0.0, float(highest), logarithmic=False) if tick.is_integer()]
    return [(tick / highest, f"{tick:,.0f}") for tick in steps]


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Round numbers from low to high."""
    if logarithmic:
        first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
        step = max(1, math.ceil((last - first + 1) / 6))
        return [10.0**power for power in range(first, last + 1, step)] or [low, high]
    if high <= low:
        return [low]
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step_size = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough)
    first = math.ceil(low / step_size)
    return [i * step_size for i in range(first, math.floor(high / step_size) + 1)]


def _place(value: float, low: float, high: float, logarithmic: bool) -> float:
    if high <= low:
        return 0.5
    if logarithmic:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _x(share: float) -> float:
    return LEFT + share * _ACROSS


def _y(share: float) -> float:
    return TOP + (1 - share) * _DOWN


def _frame(
    label: str,
    marks: str,
    across: list[tuple[float, str]],
    upward: list[tuple[float, str]],
    named_across: str,
    named_upward: str,
) -> str:
    """The picture around the marks: grid, axes, their ticks and names."""
    grid = "".join(f'<path class="grid" d="M{LEFT} {_y(y):.1f}h{_ACROSS}"/>' for y, _ in upward)
    texts = "".join(
        f'<text x="{_x(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{text}</text>'
        for x, text in across
    ) + "".join(
        f'<text x="{LEFT - 7}" y="{_y(y) + 4:.1f}" text-anchor="end">{text}</text>'
        for y, text in upward
    )
    names = (
        f'<text class="name" x="{_x(0.5):.1f}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{named_across}</text>"
        f'<text class="name" transform="translate(13 {_y(0.5):.1f}) rotate(-90)" '
        f'text-anchor="middle">{named_upward}</text>'
    )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"{grid}{marks}{texts}{names}</svg>"
    )
