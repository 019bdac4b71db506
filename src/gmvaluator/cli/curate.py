"""`gmvaluator curate`: training images to look at again, for FiftyOne and Hugging Face datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gmvaluator.cli.options import CACHE, PRINTING, RUN, TRAIN_IMAGES, options, out, overwrite
from gmvaluator.cli.printing import print_result


@click.command()
@options(RUN, out("Folder to write.", required=True), overwrite("the export"))
@click.option("--lowest", default="5%", show_default=True, help="Lowest values: a share or number.")
@click.option(
    "--off-manifold",
    default="1%",
    show_default=True,
    help="Images farthest from all others: a share or number; 0 leaves the fitting out.",
)
@click.option("--no-images", is_flag=True, help="Lists only (curation.parquet), no copied images.")
@options(TRAIN_IMAGES, CACHE, *PRINTING)
def curate(
    run: Path,
    out: Path,
    lowest: str,
    off_manifold: str,
    no_images: bool,
    train_images: str | None,
    cache: Path | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Export the training images of RUN that are worth another look.

    Those of the lowest value, those far from all others, and copies of others. FiftyOne reads the
    folder as a CSVDataset, Hugging Face datasets as an imagefolder.
    """
    from gmvaluator import curation

    curation.check_curation_output(out, overwrite=overwrite)
    changes: dict[str, Any] = {} if cache is None else {"cache": cache}
    found = curation.curate_run(
        run,
        lowest=lowest,
        off_manifold=off_manifold,
        train=train_images,
        progress=not quiet and not as_json,
        **changes,
    )
    told = curation.export_curation(found, out, images=not no_images, overwrite=overwrite)
    text = (
        f"{told['listed']} of {told['n_train']} training images listed in {out}: "
        f"{told['lowest_value']} of the lowest value, {told['off_manifold']} off the manifold, "
        f"{told['duplicate']} copies of others"
    )
    if told["left_out"]:
        text += f"; {told['left_out']} are missing or changed and have no image there"
    print_result({"out": str(out), **told}, text, as_json=as_json)
