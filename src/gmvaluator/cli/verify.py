"""`gmvaluator verify`: whether a run is intact, and whose inputs it belongs to."""

from __future__ import annotations

from pathlib import Path

import click

from gmvaluator.cli.help import verb
from gmvaluator.cli.options import (
    GENERATED_IMAGES,
    HOLDOUT,
    PIXEL_LIMIT,
    PRINTING,
    RUN,
    TRAIN_IMAGES,
    flag,
    option,
    options,
)


@verb("verify run/ --train-images train/ --generated-images generated/")
@options(
    RUN,
    TRAIN_IMAGES,
    GENERATED_IMAGES,
    HOLDOUT,
    PIXEL_LIMIT,
    option(
        "--seal HEX",
        "The seal that verify printed earlier; the run must still have it. Default: compare "
        "with no earlier seal.",
    ),
    flag("--quick", "Compare the names of the images only; do not read the images."),
    *PRINTING,
)
def verify(
    run: Path,
    train_images: str | None,
    generated_images: str | None,
    holdout: str | None,
    seal: str | None,
    quick: bool,
    as_json: bool,
) -> None:
    """Check that RUN and its images are unchanged.

    Checks the files against their hashes, the values against the laws that every valuation obeys,
    and the images against those that were valued. Exit code 0: no check failed; 1: a check failed.

    Someone who rewrites a whole run also rewrites its seal: keep a copy of the seal elsewhere and
    pass the copy as --seal.
    """
    from gmvaluator.cli.printing import chosen_progress, print_result
    from gmvaluator.runs.verify import verify_run

    verification = verify_run(
        run,
        train=train_images,
        generated=generated_images,
        holdout=holdout,
        seal=seal,
        quick=quick,
        progress=chosen_progress(),
    )
    print_result(verification.as_json(), verification.as_text(), as_json=as_json)
    click.get_current_context().exit(0 if verification.intact else 1)
