"""`gmvaluator curate`: training images to look at again, for FiftyOne and Hugging Face datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gmvaluator.cli.claims import claim_folder
from gmvaluator.cli.help import verb
from gmvaluator.cli.options import (
    CACHE,
    OVERWRITE,
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


@verb("curate run/ --out to-check/ --lowest 2%")
@options(
    RUN,
    out("Folder to write the list and the images to.", required=True),
    OVERWRITE,
    option(
        "--lowest SHARE|NUMBER",
        "How many images of the lowest value to export. Of equal values those that came less near "
        "to a generated image come first; what is still equal at the end is exported as well.",
        default="5%",
    ),
    option(
        "--off-manifold SHARE|NUMBER",
        "How many images to export that are farthest from all other training images; 0 saves "
        "the time to find them.",
        default="1%",
    ),
    flag("--no-images", "Write the list (curation.parquet) only and copy no images."),
    TRAIN_IMAGES,
    PIXEL_LIMIT,
    CACHE,
    *PRINTING,
)
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
) -> None:
    """Export training images that a person should check.

    These are the images of RUN of the lowest value, those far from all others, and copies. FiftyOne
    reads the folder as a CSVDataset, Hugging Face datasets as an imagefolder.
    """
    from gmvaluator import curation

    claim_folder(out, curation.MARKER, overwrite=overwrite)
    changes: dict[str, Any] = {} if cache is None else {"cache": cache}
    lists = curation.curate_run(
        run,
        lowest=lowest,
        off_manifold=off_manifold,
        train=train_images,
        progress=chosen_progress(),
        **changes,
    )
    summary = curation.export_curation(lists, out, images=not no_images, overwrite=overwrite)
    text = (
        f"{summary['listed']} of {summary['n_train']} training images listed in {out}: "
        f"{summary['lowest_value']} of the lowest value, {summary['off_manifold']} off the "
        f"manifold, {summary['duplicate']} copies of others"
    )
    if summary["left_out"]:
        text += f"; {summary['left_out']} are missing or changed and have no image there"
        if lists.run.train.trouble:
            text += f" ({lists.run.train.trouble})"
    text = "\n".join((text, *lists.notes()))
    print_result({"out": str(out), **summary}, text, as_json=as_json)
