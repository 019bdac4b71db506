"""What commands print: a text for people, or JSON for machines."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, TextIO

import click

from gmvaluator.cli.options import QUIET_GIVEN
from gmvaluator.errors import AddedWarning, CacheWarning, PlotWarning
from gmvaluator.progress import Progress, as_progress
from gmvaluator.runs.derived import remaining_records
from gmvaluator.runs.formatting import shortened

if TYPE_CHECKING:
    from gmvaluator.files.prune import Holding
    from gmvaluator.matching.duplicates.clusters import Clusters
    from gmvaluator.runs.record import Unattributed
    from gmvaluator.runs.valuation import Valuation

NO_WIDTH = 10_000
"""Columns of the console that tables are laid out for: numbers are never cut off."""


def chosen_progress() -> Progress:
    """The progress of the running command, on standard error; none with --quiet or --json."""
    context = click.get_current_context()
    return as_progress(not (context.meta.get(QUIET_GIVEN) or context.params.get("as_json")))


def skipped_text(n: int) -> str:
    return f"\n{n} images were skipped (see skipped.parquet)" if n else ""


def copies_text(clusters: Clusters | None) -> str:
    """The number of copies in the training set, and the file that lists them; "" without copies."""
    if clusters is None or not clusters.copies:
        return ""
    near = int(clusters.near.sum())
    nearly = f", {near} of them near ones," if near else ""
    return (
        f"\n{clusters.copies} training images are copies{nearly} and count once with their "
        f"originals: {clusters.groups} clusters (see duplicates.parquet)"
    )


def unattributed_text(test: Unattributed, n_generated: int, measure: str) -> str:
    """The result of a run's test for images without a close match, for a terminal.

    Args:
        n_generated: number of generated images.
        measure: the run's `null_measure`.
    """
    if test.reason:
        return f"images without a close match in the training set: not tested; {test.reason}"
    kind = {"leave-one-out": "training images left out", "holdout": "held-out images"}[test.null]
    fate = (
        "their scores went to no contributor"
        if test.applied
        else "they kept their scores; --null withhold takes them away"
    )
    worst = f"the worst {100 * test.level:g} % of {test.n_null} {kind}"
    strange = (
        f"lie outside the domain of the training images, no nearer to it than {worst}"
        if measure == "domain"
        else f"match the training set no better than {worst} do"
    )
    text = (
        f"{test.images} of {n_generated} generated images {strange}; they have "
        f"{100 * test.share:.1f} % of the quality ({fate})"
    )
    if test.holdout_in_training:
        text += (
            f"; {test.holdout_in_training} held-out images are training images and were left out"
        )
    return text


def shared_text(valuation: Valuation, shared: int) -> str:
    """That generated images are training images as well, and why, as far as that is known."""
    inputs, n = valuation.record.inputs, len(valuation.generated_ids)
    train, generated = inputs.train.source, inputs.generated.source
    where = ""
    if isinstance(train, str) and isinstance(generated, str):
        if train == generated:
            where = ": both sets are the same"
        elif Path(generated).is_relative_to(train):
            where = f": {generated} lies in {train}"
    return f"{shared} of {n} generated images are training images, byte for byte{where}"


def print_valuation(
    valuation: Valuation,
    out: Path,
    *,
    as_json: bool,
    report: Path | None = None,
    class_agreement: float | None = None,
) -> None:
    from gmvaluator.runs.hubs import Hubs
    from gmvaluator.runs.ranking import idle_text

    frame = valuation.to_pandas().sort_values("rank", kind="stable")
    n_skipped = len(valuation.skipped)
    # those that contributed to nothing are equal: ten of them would be the first by name
    contributed = frame[frame["n_supported"] > 0]
    best, worst = contributed.head(10), contributed.tail(10).iloc[::-1]
    idle = idle_text(valuation.n_supported, valuation.ranks)
    hubs = Hubs.of(valuation.contributions)
    summary: dict[str, Any] = {
        "out": str(out),
        "report": None if report is None else str(report),
        "n_train": len(valuation.train_ids),
        "n_generated": len(valuation.generated_ids),
        "skipped": n_skipped,
        "copies": valuation.clusters.copies if valuation.clusters else None,
        "seconds": dict(valuation.record.seconds),
        "most_valuable": json.loads(best.to_json(orient="records")),
        "least_valuable": json.loads(worst.to_json(orient="records")),
        "contributed_to_nothing": len(frame) - len(contributed),
        "hubs": [valuation.train_ids[row] for row in hubs.rows],
    }
    # the seconds of a run that was weighed again are those of its fit
    spent = f" in {sum(valuation.record.seconds.values()):.1f} s"
    if valuation.record.reweighed:
        spent = ", weighed again by their recorded distances"
    lines = [
        f"{summary['n_train']} training images valued by {summary['n_generated']} generated ones"
        f"{spent}{copies_text(valuation.clusters)}",
    ]
    if len(contributed):
        lines.append(f"most valuable:\n{_values(best)}")
        others = " of those that contributed" if idle else ""
        lines.append(f"least valuable{others}:\n{_values(worst)}")
    if idle:
        lines.append(idle)
    if named := hubs.text(valuation.train_ids):
        lines.append(named)
    training = set(valuation.train_keys or ())
    if shared := sum(key in training for key in valuation.generated_keys or ()):
        summary["generated_in_train"] = shared
        lines.append(shared_text(valuation, shared))
    if (test := valuation.record.unattributed) is not None:
        summary["unattributed"] = test.as_json()
        measure = valuation.record.settings.null_measure
        lines.append(unattributed_text(test, summary["n_generated"], measure))
    if class_agreement is not None:
        summary["class_agreement"] = class_agreement
        lines.append(f"class agreement of the contributors: {100 * class_agreement:.1f} %")
    lines.append(f"run saved in {out}{skipped_text(n_skipped)}")
    if left := remaining_records(out):
        summary["of_the_run_before"] = [str(file) for file in left]
        lines += [
            f"{file} is of the run that was here before and stays; move it and its files away, or "
            "`gmvaluator verify` calls it another run's"
            for file in left
        ]
    if report is not None:
        lines.append(f"look at it: {report}")
    print_result(summary, "\n".join(lines), as_json=as_json)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: Collection[str]) -> str:
    """Columns side by side, as plain text.

    Args:
        columns: headings.
        rows: cells of each row.
        left: columns of names: aligned at the left, long names shortened in the middle. Numbers in
            the other columns are aligned at the right and never shortened.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False)
    for column in columns:
        grid.add_column(column, justify="left" if column in left else "right", no_wrap=True)
    for row in rows:
        cells = (
            shortened(cell) if column in left else cell
            for column, cell in zip(columns, row, strict=True)
        )
        # Text: square brackets in a name are no markup
        grid.add_row(*map(Text, cells))
    console = Console(file=StringIO(), width=NO_WIDTH, color_system=None)
    with console.capture() as captured:
        console.print(grid)
    return "\n".join(line.rstrip() for line in captured.get().rstrip().split("\n"))


def _values(frame: Any) -> str:
    shown = ("train_id", "value", "rank", "n_supported", "label")
    columns = [name for name in shown if not frame[name].isna().all()]
    rows = [
        [_value(cell) if isinstance(cell, float) else str(cell) for cell in row]
        for row in frame[columns].itertuples(index=False)
    ]
    return table(columns, rows, left=("train_id", "label"))


def _value(value: float) -> str:
    """Five decimals. A value that they would show as 0 is no 0 in the tables and statements."""
    text = f"{value:.5f}"
    return "< 0.00001" if value > 0 and float(text) == 0 else text


def print_cache(folder: Path, holdings: Sequence[Holding], *, as_json: bool) -> None:
    total = sum(holding.bytes for holding in holdings)
    summary = {
        "folder": str(folder),
        "bytes": total,
        "holdings": [asdict(holding) for holding in holdings],
    }
    rows = [
        (
            holding.kind,
            f"{holding.items:,}",
            f"{holding.bytes / 1e6:.1f}",
            time.strftime("%Y-%m-%d", time.localtime(holding.used)),
            holding.name,
        )
        for holding in holdings
    ]
    text = f"{folder}: {total / 1e6:.1f} MB"
    if rows:
        text += "\n" + table(
            ("kind", "items", "MB", "last used", "name"), rows, left=("kind", "name")
        )
    print_result(summary, text, as_json=as_json)


def warn_plainly() -> None:
    """Warnings of this package as one line on standard error, without where in the code."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *details: Any) -> None:
        if issubclass(category, AddedWarning | CacheWarning | PlotWarning):
            print_note(f"Warning: {message}")
        else:
            usual(message, category, *details)

    warnings.showwarning = show  # type: ignore[assignment]


@contextmanager
def log_to_stderr(level: str) -> Iterator[None]:
    """Write the log of this package to standard error meanwhile, from a level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log = logging.getLogger("gmvaluator")
    before = log.level
    log.addHandler(handler)
    log.setLevel(level.upper())
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def print_result(summary: Any, text: str, *, as_json: bool) -> None:
    """Print the result of a command: `summary` as JSON, or `text`."""
    # the escapes of a stream that lacks a letter are none of JSON; a closed stream is None
    encoding = getattr(sys.stdout, "encoding", None) or ""
    ascii_only = encoding.lower().replace("-", "") != "utf8"
    click.echo(json.dumps(summary, indent=2, ensure_ascii=ascii_only) if as_json else text)


def print_note(text: str) -> None:
    """Print a line on standard error. Where it cannot be written, the command goes on."""
    with suppress(OSError):
        click.echo(text, err=True)


def raised_by_printing(error: OSError) -> bool:
    """Whether `click.echo` raised an error: it prints results, help, the version, completions."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    return frame.f_code is click.echo.__code__


def drop_unwritten(stream: TextIO) -> None:
    """Drop what a stream cannot write. Python would try again when it ends, and fail."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
