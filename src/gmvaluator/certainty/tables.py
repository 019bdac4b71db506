"""What a study found: tables and plots, as JSON, Markdown, SVG and text."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator import versions
from gmvaluator.certainty.intervals import Interval
from gmvaluator.errors import RunError
from gmvaluator.files.atomic import publish_file
from gmvaluator.runs.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = str | float | int | Interval | None
Draw = Callable[["Figure"], None]


@dataclass(frozen=True)
class Table:
    """Rows under column heads; a cell is text, a number, a mean with its interval, or empty."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    digits: int = 3

    def as_markdown(self) -> str:
        """A pipe table under its title in bold."""
        lines = [f"| {' | '.join(self.columns)} |", "|---" * len(self.columns) + "|"]
        lines += [f"| {' | '.join(self._text(cell) for cell in row)} |" for row in self.rows]
        return f"**{self.title}**\n\n" + "\n".join(lines)

    def as_text(self) -> str:
        """Columns of equal width under the title."""
        cells = [list(self.columns), *([self._text(cell) for cell in row] for row in self.rows)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(self.columns))]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
            for line in cells
        ]
        return "\n".join([self.title, *lines])

    def as_json(self) -> dict[str, Any]:
        """Numbers as they are, not as shown."""
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [[_plain(cell) for cell in row] for row in self.rows],
        }

    def _text(self, cell: Cell) -> str:
        if cell is None:
            return ""
        if isinstance(cell, Interval):
            return "" if math.isnan(cell.mean) else cell.shown(self.digits)
        if isinstance(cell, float):
            return "" if math.isnan(cell) else f"{cell:.{self.digits}f}"
        return str(cell).replace("|", "\\|")


@dataclass(frozen=True)
class StudyResult:
    """A study's outcome, written by `save`.

    Attributes:
        name: of the files.
        title: one line on what was asked.
        tables: what was found.
        parameters: sizes, seeds, sources: what another needs to repeat it.
        notes: sentences that belong under the tables.
        details: everything measured, as JSON.
        plots: name → what draws it on an empty figure.
        marks: further keys of the JSON file, such as the seal of the run it was made of.
    """

    name: str
    title: str
    tables: tuple[Table, ...]
    parameters: dict[str, Any]
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    plots: dict[str, Draw] = field(default_factory=dict)
    marks: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """What the JSON file holds."""
        return {
            "name": self.name,
            "title": self.title,
            "parameters": self.parameters,
            "tables": [table.as_json() for table in self.tables],
            "notes": list(self.notes),
            "details": _plain(self.details),
            "cores": len(os.sched_getaffinity(0)),
            "versions": versions.installed(),
            **self.marks,
        }

    def as_text(self) -> str:
        """For a terminal."""
        return "\n\n".join([self.title, *(table.as_text() for table in self.tables), *self.notes])

    def as_markdown(self) -> str:
        """For a page of the documentation."""
        pictures = [f"![{self.title}]({self._plot_file(plot)})" for plot in self.plots]
        parts = [*(table.as_markdown() for table in self.tables), *self.notes, *pictures]
        return "\n\n".join(parts) + "\n"

    def save(self, folder: str | Path) -> list[Path]:
        """Write NAME.json, NAME.md and a NAME-PLOT.svg a plot; returns the files.

        Raises:
            RunError: the folder cannot be written.
            MissingPackageError: matplotlib is needed for a plot and not installed.
        """
        target = Path(folder)
        files = {
            f"{self.name}.json": json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n",
            f"{self.name}.md": self.as_markdown(),
        }
        drawn = {self._plot_file(plot): _svg(draw) for plot, draw in self.plots.items()}
        try:
            target.mkdir(parents=True, exist_ok=True)
            for name, content in (files | drawn).items():
                with publish_file(target / name) as part:
                    part.write_text(content, encoding="utf-8")
        except OSError as error:
            raise RunError(
                f"{target} cannot be written ({error.strerror or error}); choose another folder"
            ) from error
        return [target / name for name in (*files, *drawn)]

    def _plot_file(self, plot: str) -> str:
        return f"{self.name}-{plot}.svg"


def listed(numbers: NDArray[np.float64]) -> list[float | None]:
    """As JSON keeps them: NaN is null."""
    return [None if np.isnan(number) else float(number) for number in numbers]


def plots_at_hand() -> bool:
    """Whether plots can be drawn: matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def grid(rows: Sequence[Sequence[Cell]]) -> tuple[tuple[Cell, ...], ...]:
    """Lists of cells as a table holds them."""
    return tuple(tuple(row) for row in rows)


def _svg(draw: Draw) -> str:
    """The plot as text: the same numbers give the same file."""
    import io

    figure = new_figure(7, 4.2)
    import matplotlib

    draw(figure)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "gmvaluator", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _plain(value: Any) -> Any:
    """As JSON: intervals as objects, NaN as null."""
    if isinstance(value, Interval):
        return {
            "mean": _plain(value.mean),
            "low": _plain(value.low),
            "high": _plain(value.high),
            "n": value.n,
        }
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
