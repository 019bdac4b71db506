"""`gmvaluator verify`: whether a run is intact, and whose inputs it belongs to."""

from __future__ import annotations

from pathlib import Path

import click

from gmvaluator.cli.options import PRINTING, RUN, options


@click.command()
@options(RUN)
@click.option("--train", help="Are these the training images? (Those where the run had them.)")
@click.option("--generated", help="Are these the generated images? (Likewise.)")
@click.option("--holdout", help="Are these the images of --holdout, if the run had them?")
@click.option("--seal", metavar="HEX", help="The run's seal, if a copy was kept elsewhere.")
@click.option("--quick", is_flag=True, help="Compare ids of images only; contents are not read.")
@options(*PRINTING)
def verify(
    run: Path,
    train: str | None,
    generated: str | None,
    holdout: str | None,
    seal: str | None,
    quick: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Is RUN as it was saved, does it obey the laws, and are its images those that were valued?

    Exit code 0: nothing that could be checked is wrong (what could not is said); 1: something is.

    Hashes show accidents and clumsy edits. Someone who rewrites a whole run rewrites its seal as
    well: keep a copy of the seal elsewhere and pass it as --seal.
    """
    from gmvaluator.cli.printing import print_result
    from gmvaluator.runs.verify import verify_run

    found = verify_run(
        run,
        train=train,
        generated=generated,
        holdout=holdout,
        seal=seal,
        quick=quick,
        progress=not quiet and not as_json,
    )
    print_result(found.as_json(), found.as_text(), as_json=as_json)
    click.get_current_context().exit(0 if found.intact else 1)
