"""Figures for notebooks and papers: from values or a run to a matplotlib figure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import MissingPackageError
from gmvaluator.runs.distribution import Concentration, histogram, n_below
from gmvaluator.runs.formatting import format_number
from gmvaluator.runs.images import RunSide
from gmvaluator.scoring.scores import Contributions
from gmvaluator.versions import how_to_install

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOUR = "#3451d1"
_SOFT = "#8a93a3"
_SIDE = 128
_CELL = 0.95  # inches


def new_figure(width: float, height: float, *, solve: bool = True) -> Figure:
    """An empty figure that no window manager keeps alive.

    Args:
        width, height: of the figure, in inches.
        solve: let matplotlib choose the margins, which takes seconds for a hundred axes.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"plots need matplotlib, which is not installed: {how_to_install('plots')}"
        ) from error
    return Figure(figsize=(width, height), layout="constrained" if solve else None)


def plot_values(values: NDArray[np.float64]) -> Figure:
    """A histogram of the (n,) values and the curve of their cumulative share."""
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    draw_histogram(left, values)
    draw_cumulative(right, values)
    return figure


def draw_histogram(axes: Axes, values: NDArray[np.float64]) -> None:
    """A histogram of the values above 0; the title counts the others."""
    counted = histogram(values)
    n_without, below = int((values == 0).sum()), n_below(values)
    counts = f"{n_without:,} of {len(values):,} images without value"
    axes.set_title(f"{counts}, {below:,} below 0" if below else counts, fontsize=9)
    axes.set_xlabel("value above 0" if below else "value")
    axes.set_ylabel("training images")
    _plain(axes)
    if counted is None:
        return
    axes.stairs(counted.counts, counted.edges, fill=True, color=COLOUR)
    if counted.log_values:
        axes.set_xscale("log")
    if counted.log_counts:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)


def draw_cumulative(axes: Axes, values: NDArray[np.float64]) -> None:
    """The share of all value that the most valuable images hold; a note if a value is below 0."""
    if below := n_below(values):
        axes.set_title("no share of all value", fontsize=9)
        note = f"{below:,} of {len(values):,} values are below 0,\nso there is no whole to share"
        axes.text(0.5, 0.5, note, ha="center", va="center", fontsize=9, color=_SOFT)
        axes.set_axis_off()
        return
    curve = Concentration(values)
    points = 100 * curve.points()
    axes.fill_between(points[:, 0], points[:, 1], color=COLOUR, alpha=0.12, linewidth=0)
    axes.plot(points[:, 0], points[:, 1], color=COLOUR)
    axes.plot([0, 100], [0, 100], color=_SOFT, linewidth=0.8, linestyle="--")
    held = 100 * curve.held_by(0.1)
    axes.set_title(f"the {curve.named(0.1)} hold {held:.0f} % of all value", fontsize=9)
    axes.set_xlabel("% of training images, most valuable first")
    axes.set_ylabel("% of all value")
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 102)
    _plain(axes)


def plot_contributors(
    contributions: Contributions,
    quality: NDArray[np.float64],
    rows: Sequence[int],
    train: RunSide,
    generated: RunSide,
    *,
    top: int = 10,
) -> Figure:
    """A sheet with one row per generated image: the image, then its contributors, best first.

    Args:
        contributions: (m, k) rows, distances, scores.
        quality: (m,) quality of the generated images.
        rows: rows of the generated images to show.
        train, generated: the images of the run. Images that are gone or changed are marked.
        top: number of contributors to show.
    """
    top = max(1, min(top, contributions.rows.shape[1]))
    lines = max(1, len(rows))
    figure = new_figure(_CELL * (top + 1), lines * _CELL * 1.45, solve=False)
    grid = figure.subplots(lines, top + 1, squeeze=False)
    figure.subplots_adjust(
        left=0.01, right=0.99, bottom=0.14 / lines, top=1 - 0.22 / lines, wspace=0.12, hspace=0.5
    )
    for axes in grid.ravel():
        axes.set_axis_off()
    for line, j in zip(grid, rows, strict=False):
        _draw_picture(line[0], generated, j)
        _title(line[0], f"quality {format_number(float(quality[j]))}", 7)
        for place, axes in enumerate(line[1:]):
            score, distance = contributions.scores[j, place], contributions.distances[j, place]
            _draw_picture(axes, train, int(contributions.rows[j, place]))
            _title(axes, f"{format_number(float(score))}\nd {format_number(float(distance))}", 6)
    return figure


def _title(axes: Axes, text: str, size: float) -> None:
    # y=1: else matplotlib makes and measures the ticks that are hidden, a third of all the time
    axes.set_title(text, fontsize=size, y=1)


def _draw_picture(axes: Axes, side: RunSide, row: int) -> None:
    from matplotlib.image import imread

    png = side.png(row, _SIDE)
    if png is None:
        state = side.state(row)
        axes.text(0.5, 0.5, state, ha="center", va="center", fontsize=7, color=_SOFT)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
    else:
        axes.imshow(imread(io.BytesIO(png), format="png"), cmap="gray", vmin=0, vmax=1)
    # parse_math=False: an id with dollar signs is no formula
    axes.text(
        0.5,
        -0.04,
        _short(side.ids[row]),
        transform=axes.transAxes,
        ha="center",
        va="top",
        fontsize=5.5,
        color="#596273",
        parse_math=False,
    )


def _short(name: str, most: int = 16) -> str:
    # fonts have no glyphs for line breaks, and cannot encode lone surrogates
    shown = name.encode("utf-8", "replace").decode("utf-8").replace("\n", " ")
    return shown if len(shown) <= most else f"…{shown[1 - most :]}"


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
