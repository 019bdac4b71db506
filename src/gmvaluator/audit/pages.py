"""Strings, numbers and PNG bytes of an audit in; out come its evidence pages.

Each page is one HTML file: no script, no network, no other file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gmvaluator.errors import RunError
from gmvaluator.files.atomic import publish_folder
from gmvaluator.report.charts import outline
from gmvaluator.report.html import page_template, write_page

FIRST = "index.html"
PER_PAGE = 50
BINS = 60
WIDTH, HEIGHT = 300, 60  # of the distances drawn, in units of the picture
_LATER = re.compile(r"page-\d+\.html")


@dataclass(frozen=True)
class Sample:
    """One image of a pair. `png` and `sha256` (of its file) are None where it is not available."""

    id: str
    png: bytes | None
    sha256: str | None
    label: str | None = None


@dataclass(frozen=True)
class PairCard:
    """A generated image, the training image most like it, and their difference."""

    generated: Sample
    train: Sample
    difference: bytes | None
    distance: float  # in units of the surroundings
    placement: str


@dataclass(frozen=True)
class EvidenceData:
    """Everything the pages show.

    Attributes:
        run: name of the run's folder.
        seal: of the run; None: an older one without.
        n_audited, n_generated, n_train, n_copies: numbers of images.
        threshold: pairs up to this distance count as copies.
        promise: what the threshold promises.
        warnings: what keeps the threshold from being of use, in sentences.
        calibration: distances that the threshold was taken from.
        nearest: the least distance of every audited generated image.
        copies: pairs that count as copies, nearest first, at most as many as the user wants.
        others: the nearest pairs that do not count as copies.
    """

    run: str
    seal: str | None
    n_audited: int
    n_generated: int
    n_train: int
    n_copies: int
    threshold: float
    promise: str
    warnings: tuple[str, ...]
    calibration: tuple[float, ...]
    nearest: tuple[float, ...]
    copies: tuple[PairCard, ...]
    others: tuple[PairCard, ...]


def write_evidence_pages(data: EvidenceData, folder: Path) -> list[Path]:
    """Write `index.html`, `page-2.html`, … and return them.

    Raises:
        RunError: the folder cannot be written.
    """
    parts = [data.copies[at : at + PER_PAGE] for at in range(0, len(data.copies), PER_PAGE)] or [()]
    names = [FIRST, *(f"page-{number}.html" for number in range(2, len(parts) + 1))]
    with publish_folder(folder, FIRST, overwrite=True) as scratch:
        for number, part in enumerate(parts, start=1):
            write_page(scratch / names[number - 1], _page(data, part, number, names))
    drop_pages(folder, keep=names)
    return [folder / name for name in names]


def drop_pages(folder: Path, keep: Sequence[str] = ()) -> None:
    """Delete the pages of an earlier audit but `keep`, and the folder if it is then empty.

    Raises:
        RunError: a page cannot be deleted.
    """
    if not folder.is_dir():
        return
    try:
        for file in list(folder.iterdir()):
            if (file.name == FIRST or _LATER.fullmatch(file.name)) and file.name not in keep:
                file.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise RunError(
            f"{error.filename or folder} is of an earlier audit and cannot be deleted "
            f"({error.strerror or error}); delete it"
        ) from error


def _page(data: EvidenceData, part: tuple[PairCard, ...], number: int, names: list[str]) -> str:
    most = 1.05 * max([data.threshold, *data.calibration, *data.nearest])
    return page_template(__package__, "evidence.html.j2").render(
        data=data,
        part=part,
        before=PER_PAGE * (number - 1),
        number=number,
        names=names,
        calibration=_outline(data.calibration, most),
        nearest=_outline(data.nearest, most),
        x=lambda distance: f"{WIDTH * min(1.0, distance / most):.1f}",
    )


def _outline(distances: Sequence[float], most: float) -> str:
    """How often the distances from 0 to `most` occur, as an SVG path."""
    return outline(np.histogram(distances, bins=BINS, range=(0, most))[0], WIDTH, HEIGHT)
