"""A run folder and its images: a path goes in, an opened `Run` comes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gmvaluator.files.seals import broken
from gmvaluator.images import ImageSource
from gmvaluator.places import RUN_FOLDER
from gmvaluator.runs.images import VALUED, RunSide, warn_of_added
from gmvaluator.runs.record import read_marker, read_record
from gmvaluator.runs.valuation import Valuation
from gmvaluator.shown import short_repr


@short_repr
@dataclass(frozen=True, eq=False)
class Run:
    """An opened run folder.

    Attributes:
        folder: absolute path of the folder.
        valuation: content of the folder.
        seal: of the run; None: an older run without a seal.
        train, generated: the images of the run.
    """

    folder: Path
    valuation: Valuation
    seal: str | None
    train: RunSide
    generated: RunSide


def open_run(
    path: str | Path, *, train: ImageSource | None = None, generated: ImageSource | None = None
) -> Run:
    """Open a run folder and its images.

    Args:
        path: of the run folder.
        train, generated: any source of `ImageSet` that has the images now; it must open. Default:
            the recorded source, which need not open (`RunSide.trouble` says why it does not).

    Raises:
        RunError: no run is there, or a file was changed since the run was saved.
        InputError: `train` or `generated` cannot be opened.
    """
    folder = Path(path).absolute()
    valuation = Valuation.load(folder)
    opened = Run(
        folder=folder,
        valuation=valuation,
        seal=read_record(folder).seal,
        train=valuation.open_images("train", train),
        generated=valuation.open_images("generated", generated),
    )
    for side in VALUED:
        images = getattr(opened, side).images
        if images is not None and getattr(opened, side).trouble is None:
            warn_of_added(side, images, valuation.known_ids(side), f"run {folder}")
    return opened


def as_run(run: str | Path | Run) -> Run:
    """An opened run as it is; of a folder, the run with the images that it recorded."""
    return run if isinstance(run, Run) else open_run(run)


def check_files(path: str | Path) -> list[str]:
    """One sentence for each file that is missing or was changed since the run was saved.

    Raises:
        RunError: no run is there, or `run.json` cannot be read.
    """
    folder = Path(path)
    return broken(read_marker(folder, RUN_FOLDER), folder)
