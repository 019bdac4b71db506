"""Tables and line plots, laid out alike for all studies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gmvaluator.certainty.tables import Draw, Table, grid
from gmvaluator.evaluation.metrics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS_A_ROW = 3


def table(
    title: str, columns: Iterable[str], rows: Iterable[Sequence[Any]], digits: int = 3
) -> Table:
    """A table of rows that are still to be computed."""
    return Table(title, tuple(columns), grid(list(rows)), digits)


@dataclass(frozen=True)
class Line:
    """One line of a plot.

    Attributes:
        label: in the legend.
        x: places.
        y: heights; intervals are drawn with error bars.
        style: further arguments of matplotlib's `errorbar`.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float | Interval]
    style: Mapping[str, Any] = field(default_factory=dict)


def curves(
    figure: Figure,
    panels: Mapping[str, Sequence[Line]],
    x_label: str,
    y_label: str,
    *,
    log: str = "",
    share_y: bool = True,
) -> list[Axes]:
    """Draw lines, a panel for each title; `log` names the axes with a logarithmic scale."""
    axes = titled_panels(figure, list(panels), share_y=share_y)
    for panel, lines in zip(axes, panels.values(), strict=True):
        for line in lines:
            means, halves = zip(*map(_height, line.y), strict=True)
            panel.errorbar(
                line.x,
                means,
                yerr=halves if any(halves) else None,
                **{"marker": "o", "capsize": 3, "label": line.label, **line.style},
            )
        if "x" in log:
            panel.set_xscale("log")
        if "y" in log:
            panel.set_yscale("log")
    figure.supxlabel(x_label, fontsize="medium")
    figure.supylabel(y_label, fontsize="medium")
    axes[0].legend(fontsize="x-small")
    return axes


def plot(
    panels: Mapping[str, Sequence[Line]], x_label: str, y_label: str, *, log: str = ""
) -> Draw:
    """A function that draws these lines by `curves`."""

    def draw(figure: Figure) -> None:
        curves(figure, panels, x_label, y_label, log=log)

    return draw


def titled_panels(
    figure: Figure, titles: Sequence[str], *, share_y: bool = True, wide: int = PANELS_A_ROW
) -> list[Axes]:
    """Empty panels with a title and a grid each, at most `wide` of them beside each other."""
    columns = min(wide, len(titles))
    rows = -(-len(titles) // columns)
    axes = figure.subplots(rows, columns, sharex=True, sharey=share_y, squeeze=False).ravel()
    for panel, title in zip(axes, titles, strict=False):
        panel.set_title(title, fontsize="medium")
        panel.grid(alpha=0.3)
    for empty in axes[len(titles) :]:
        empty.remove()
    return list(axes[: len(titles)])


def legend_above(figure: Figure, panel: Axes, columns: int = 4) -> None:
    """One legend for all panels, from the labels of one panel."""
    handles, names = panel.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=columns, fontsize="small")


def _height(y: float | Interval) -> tuple[float, float]:
    return (y.mean, (y.high - y.low) / 2) if isinstance(y, Interval) else (y, 0.0)
