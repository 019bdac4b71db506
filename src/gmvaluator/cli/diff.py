"""`gmvaluator diff`: what differs between two runs."""

from __future__ import annotations

from pathlib import Path

import click

from gmvaluator.cli.help import verb
from gmvaluator.cli.options import JSON, PATH, RUN, option, options


@verb("diff run/ run-of-another-version/")
@options(
    RUN,
    click.argument("other", type=PATH),
    option(
        "--tolerance",
        "Largest change of a value that counts as none, as a part of the largest value.",
        default=1e-6,
    ),
    option(
        "--largest",
        "Number of training images to list whose values change most.",
        type=click.IntRange(min=0),
        default=10,
    ),
    JSON,
)
def diff(run: Path, other: Path, tolerance: float, largest: int, as_json: bool) -> None:
    """Compare the settings, images and values of two runs.

    RUN and OTHER are run folders. Compares settings, versions and weights, the agreement of ranks,
    the values that change most and the images without a close match. Reads no image and writes
    nothing.
    Exit code 0: both runs value the same images alike; 1: they do not.
    """
    from gmvaluator.certainty import diff_runs
    from gmvaluator.cli.printing import print_result

    difference = diff_runs(run, other, tolerance=tolerance, largest=largest)
    print_result(difference.as_json(), difference.as_text(), as_json=as_json)
    click.get_current_context().exit(0 if difference.equal else 1)
