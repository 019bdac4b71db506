"""Curves of HTML pages as SVG; they take their colours from the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gmvaluator.runs.distribution import Concentration, Histogram
from gmvaluator.runs.formatting import format_number

# the plot area within the picture, in its own units
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 440, 280, 60, 12, 24, 44
_ACROSS, _DOWN = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

Tick = tuple[float, str]  # place on the axis (0 … 1), text


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
    return _chart(
        label, marks, ticks, ticks, "training images, most valuable first", "of all value"
    )


def histogram_chart(counted: Histogram) -> str:
    """Training images (up) by their value (across), those without any left out."""
    low, high = float(counted.edges[0]), float(counted.edges[-1])
    counts = counted.counts.astype(np.float64)
    # on a logarithmic axis one image is a tenth of a decade high, or it would have no bar
    scaled = np.log10(1 + 9 * counts) if counted.log_counts else counts
    width = _ACROSS / len(counts)
    bars = [
        f'<rect class="col" x="{LEFT + i * width + 0.5:.1f}" y="{_y(height):.1f}" '
        f'width="{max(0.5, width - 1):.1f}" height="{_y(0) - _y(height):.1f}">'
        f"<title>{format_number(float(counted.edges[i]))} to "
        f"{format_number(float(counted.edges[i + 1]))}: {counted.counts[i]:,} images</title></rect>"
        for i, height in enumerate(scaled / scaled.max())
        if counted.counts[i]
    ]
    if counted.log_values:
        span = math.log(high / low)
        across = [(math.log(value / low) / span, f"{value:g}") for value in _decades(low, high)]
    else:
        across = [((value - low) / (high - low), f"{value:g}") for value in _steps(low, high)]
    label = (
        f"Histogram of {int(counted.counts.sum()):,} training images with a value above 0, from "
        f"{format_number(low)} to {format_number(high)}."
    )
    return _chart(
        label,
        "".join(bars),
        across,
        _count_ticks(int(counted.counts.max()), counted.log_counts),
        "value (logarithmic)" if counted.log_values else "value",
        "images (logarithmic)" if counted.log_counts else "images",
    )


def outline(counts: NDArray[np.int64], width: float, height: float) -> str:
    """A histogram of equal bins as a closed SVG path in a box, the fullest bin as high as it."""
    highest = max(1, int(counts.max(initial=0)))
    step = width / len(counts)
    tops = [height * (1 - count / highest) for count in counts]
    corners = [
        f"L{i * step:.1f} {top:.1f}L{(i + 1) * step:.1f} {top:.1f}" for i, top in enumerate(tops)
    ]
    return f"M0 {height:g}{''.join(corners)}L{width:g} {height:g}Z"


def _count_ticks(highest: int, logarithmic: bool) -> list[Tick]:
    if logarithmic:
        top = math.log10(1 + 9 * highest)
        return [
            (math.log10(1 + 9 * count) / top, f"{count:,.0f}") for count in _decades(1, highest)
        ]
    counts = [count for count in _steps(0.0, highest) if count.is_integer()]
    return [(count / highest, f"{count:,.0f}") for count in counts]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten from low to high, about six at most; both ends where there is none."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    every = max(1, math.ceil((last - first + 1) / 6))
    return [10.0**power for power in range(first, last + 1, every)] or [low, high]


def _steps(low: float, high: float) -> list[float]:
    """About five round numbers from low to high > low, in equal steps."""
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _x(share: float) -> float:
    return LEFT + share * _ACROSS


def _y(share: float) -> float:
    return TOP + (1 - share) * _DOWN


def _chart(
    label: str,
    marks: str,
    across: Sequence[Tick],
    upward: Sequence[Tick],
    name_across: str,
    name_upward: str,
) -> str:
    """The picture around the marks: grid, ticks and names of the axes."""
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
        f"{name_across}</text>"
        f'<text class="name" transform="translate(13 {_y(0.5):.1f}) rotate(-90)" '
        f'text-anchor="middle">{name_upward}</text>'
    )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"{grid}{marks}{texts}{names}</svg>"
    )
