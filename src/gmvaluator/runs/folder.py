"""A saved run with the images it was made from, as far as these can still be had."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gmvaluator.files.seals import SEAL, broken
from gmvaluator.runs.images import RunSide, State
from gmvaluator.runs.tables import MARKER, read_marker
from gmvaluator.runs.valuation import Valuation

__all__ = ["Run", "RunSide", "State", "check_files", "open_run"]


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder that was opened.

    Attributes:
        folder: where it is.
        valuation: what it holds.
        seal: of the run; None: an older one without.
        train, generated: its images.
    """

    folder: Path
    valuation: Valuation
    seal: str | None
    train: RunSide
    generated: RunSide


def open_run(path: str | Path, *, train: object = None, generated: object = None) -> Run:
    """Open a run folder and, where they can be had, the images it was made from.

    Args:
        path: of the run.
        train, generated: any source of `ImageSet`, where images are no longer where the run had
            them. What is given must open; what the run recorded need not.

    Raises:
        RunError: no run is there, or it is not as it was saved.
        InputError: a set that was given cannot be opened.
    """
    folder = Path(path)
    valuation = Valuation.load(folder)
    return Run(
        folder=folder,
        valuation=valuation,
        seal=read_marker(folder, MARKER, "run").get(SEAL),
        train=valuation.open_images("train", train),
        generated=valuation.open_images("generated", generated),
    )


def check_files(path: str | Path) -> list[str]:
    """What of a run's files is missing or was changed since it was saved, a sentence each.

    Raises:
        RunError: no run is there, or its record cannot be read.
    """
    folder = Path(path)
    return broken(read_marker(folder, MARKER, "run"), folder)
