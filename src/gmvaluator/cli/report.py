"""`gmvaluator report`: a run as a page to look at."""

from __future__ import annotations

from pathlib import Path

import click

from gmvaluator.cli.options import GENERATED, PRINTING, RUN, TRAIN, options, out
from gmvaluator.cli.printing import print_result
from gmvaluator.report import PICTURE_MEGABYTES, TITLE


@click.command()
@options(RUN, out("File to write (report.html in the run)."))
@click.option(
    "--metadata",
    multiple=True,
    metavar="COLUMN",
    help="Column of the training set to sum values by; its labels come without asking. Repeatable.",
)
@click.option("--title", default=TITLE, show_default=True, help="Heading of the page.")
@click.option(
    "--pictures",
    "megabytes",
    type=click.FloatRange(min=0),
    default=PICTURE_MEGABYTES,
    show_default=True,
    metavar="MB",
    help="What pictures may take; as text they take a third more.",
)
@click.option(
    "--figures",
    is_flag=True,
    help="Also draw PNG and PDF figures into the folder figures of the run.",
)
@options(TRAIN, GENERATED, *PRINTING)
def report(
    run: Path,
    train: str | None,
    generated: str | None,
    metadata: tuple[str, ...],
    title: str,
    out: Path | None,
    megabytes: float,
    figures: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write RUN as one HTML file that opens without a network.

    Pictures come from where the run had its images; those that moved or changed are marked in
    the report and never shown.
    """
    from gmvaluator.report import figures_run, report_run
    from gmvaluator.runs.folder import open_run

    opened = open_run(run, train=train, generated=generated)
    page = report_run(
        opened,
        out,
        title=title,
        metadata=metadata,
        megabytes=megabytes,
        progress=not quiet and not as_json,
    )
    # after the page, which refuses what it cannot show before anything is written
    drawn = figures_run(opened) if figures else ()
    size = page.stat().st_size
    troubles = [side.trouble for side in (opened.train, opened.generated) if side.trouble]
    summary = {
        "report": str(page),
        "bytes": size,
        "figures": [str(file) for file in drawn],
        "troubles": troubles,
    }
    lines = [f"{page} ({size / 1e6:.1f} MB)", *map(str, drawn), *troubles]
    print_result(summary, "\n".join(lines), as_json=as_json)
