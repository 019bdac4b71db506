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
    from gmvaluator.certainty import uncertainty_run
    from gmvaluator.cli.printing import print_result
    from gmvaluator.progress import as_progress

    progress = as_progress(not quiet and not as_json)
    found = uncertainty_run(run, level=level, seed=seed, progress=progress)
    files, result = found.save(run), found.result()
    written = f"written: {', '.join(file.name for file in files)} in {run}"
    print_result(result.as_json(), f"{result.as_text()}\n\n{written}", as_json=as_json)
