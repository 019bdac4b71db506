"""`gmvaluator uncertainty`: how certain the values of a run are."""

from __future__ import annotations

from pathlib import Path

import click

from gmvaluator.cli.options import PRINTING, RUN, options


@click.command()
@options(RUN)
@click.option(
    "--level",
    type=float,
    default=0.95,
    show_default=True,
    help="Nominal coverage of the intervals, between 0 and 1.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the resampling.",
)
@options(*PRINTING)
def uncertainty(run: Path, level: float, seed: int, as_json: bool, quiet: bool) -> None:
    """Say how certain the values of RUN are, and how many generated images would be enough.

    Writes intervals.parquet (train_id, value, low, high, few), uncertainty.json, uncertainty.md
    and a plot into the run. The images are not needed: everything is in the run.
    """
    from gmvaluator.certainty.uncertainty import assess
    from gmvaluator.cli.printing import print_result
    from gmvaluator.progress import as_progress
    from gmvaluator.runs.record import read_record
    from gmvaluator.runs.valuation import Valuation

    progress = as_progress(not quiet and not as_json)
    seal = read_record(run).seal
    found = assess(Valuation.load(run), level=level, seed=seed, progress=progress)
    files = found.save(run, run_seal=seal)
    result = found.result(seal)
    written = f"written: {', '.join(file.name for file in files)} in {run}"
    print_result(result.as_json(), f"{result.as_text()}\n\n{written}", as_json=as_json)
