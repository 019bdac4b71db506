"""Results as tables and plots, written as JSON, Markdown, SVG and text."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator import versions
from gmvaluator.certainty.intervals import Interval
from gmvaluator.errors import PlotWarning
from gmvaluator.files.atomic import publish_file
from gmvaluator.runs.plots import new_figure
from gmvaluator.shown import short_repr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = str | float | int | Interval | None
Draw = Callable[["Figure"], None]


@short_repr
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
        """Plain types, with numbers that are not rounded."""
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


@short_repr
@dataclass(frozen=True)
class StudyResult:
    """The result of a study, or of a command that measures a run.

    Attributes:
        name: stem of the file names.
        title: the question, in one line.
        tables: the answers.
        parameters: sizes, seeds and sources: what it takes to repeat the study.
        notes: sentences to write under the tables.
        details: all measured numbers, as JSON.
        plots: name → function that draws the plot on an empty figure.
        marks: further keys of the JSON file, such as the seal of the run.
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
        """The content of the JSON file."""
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
        """Plain text for a terminal."""
        return "\n\n".join([self.title, *(table.as_text() for table in self.tables), *self.notes])

    def as_markdown(self, missing: Collection[str] = ()) -> str:
        """Markdown for a page of the documentation, without the plots of these names."""
        pictures = [
            f"![{self.title}]({self._plot_file(plot)})"
            for plot in self.plots
            if plot not in missing
        ]
        parts = [*(table.as_markdown() for table in self.tables), *self.notes, *pictures]
        return "\n\n".join(parts) + "\n"

    def save(self, folder: str | Path) -> list[Path]:
        """Write NAME.json and NAME.md, then NAME-PLOT.svg for each plot.

        The numbers may have taken hours, so they are on disk before anything is drawn. A plot that
        fails is left out with a `PlotWarning`.

        Returns:
            The files.

        Raises:
            RunError: the folder cannot be written.
        """
        target = Path(folder)
        content = json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n"
        files = [
            _write(target / f"{self.name}.json", content),
            _write(target / f"{self.name}.md", self.as_markdown()),
        ]
        missing = []
        for plot, draw in self.plots.items():
            try:
                drawing = _svg(draw)
            except Exception as error:  # whatever a plot raises, the others are drawn
                missing.append(plot)
                warnings.warn(
                    f"plot {self._plot_file(plot)} is left out, since drawing it failed "
                    f"({type(error).__name__}: {error}); the numbers are in {files[0]}",
                    PlotWarning,
                    stacklevel=2,
                )
            else:
                files.append(_write(target / self._plot_file(plot), drawing))
        if missing:
            _write(files[1], self.as_markdown(missing))
        return files

    def _plot_file(self, plot: str) -> str:
        return f"{self.name}-{plot}.svg"


def _write(file: Path, content: str) -> Path:
    with publish_file(file) as part:
        part.write_text(content, encoding="utf-8")
    return file


def listed(numbers: NDArray[np.float64]) -> list[float | None]:
    """Numbers for JSON, with null for NaN."""
    return [None if np.isnan(number) else float(number) for number in numbers]


def grid(rows: Sequence[Sequence[Cell]]) -> tuple[tuple[Cell, ...], ...]:
    """Rows of cells as a `Table` holds them."""
    return tuple(tuple(row) for row in rows)


def _svg(draw: Draw) -> str:
    """The plot as SVG text; equal numbers give equal text."""
    import io

    figure = new_figure(7, 4.2)
    import matplotlib

    draw(figure)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "gmvaluator", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _plain(value: Any) -> Any:
    """Plain types for JSON: an interval becomes an object, NaN becomes null."""
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
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
