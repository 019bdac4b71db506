"""`gmvaluator report`: a run as a page to look at."""

from __future__ import annotations

from pathlib import Path

import click

from gmvaluator.cli.help import verb
from gmvaluator.cli.options import (
    GENERATED_IMAGES,
    PIXEL_LIMIT,
    PRINTING,
    RUN,
    TRAIN_IMAGES,
    flag,
    option,
    options,
    out,
)
from gmvaluator.cli.printing import chosen_progress, print_result
from gmvaluator.report import PICTURE_MEGABYTES, TITLE


@verb("report run/ --metadata artist --out page.html")
@options(
    RUN,
    out("HTML file to write. Default: report.html in the run."),
    option(
        "--metadata COLUMN",
        "Metadata column of the training set by which the page also sums values. Default: the "
        "labels only.",
        multiple=True,
    ),
    option("--title", "Heading of the page.", default=TITLE),
    option(
        "--pictures MB",
        "Largest size of all pictures in the page; 0: no pictures.",
        to="megabytes",
        type=click.FloatRange(min=0),
        default=PICTURE_MEGABYTES,
    ),
    flag("--figures", "Also draw PNG and PDF figures into the folder figures of the run."),
    TRAIN_IMAGES,
    GENERATED_IMAGES,
    PIXEL_LIMIT,
    *PRINTING,
)
def report(
    run: Path,
    train_images: str | None,
    generated_images: str | None,
    metadata: tuple[str, ...],
    title: str,
    out: Path | None,
    megabytes: float,
    figures: bool,
    as_json: bool,
) -> None:
    """Write RUN as one HTML page that opens without a network.

    The page marks images that moved or changed since the run and shows no picture of them.
    """
    from gmvaluator.report import figures_run, report_run
    from gmvaluator.runs.folder import open_run

    opened = open_run(run, train=train_images, generated=generated_images)
    page = report_run(
        opened,
        out,
        title=title,
        metadata=metadata,
        megabytes=megabytes,
        progress=chosen_progress(),
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
