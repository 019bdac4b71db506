"""Self-contained HTML pages of an audit's evidence: no script, no network, no other file.

It is handed plain strings, numbers and PNG bytes and knows nothing of how copies are found.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from gmvaluator.errors import RunError
from gmvaluator.files.atomic import publish_folder

TEMPLATE = "evidence.html.j2"
FIRST = "index.html"
PER_PAGE = 50
BINS = 60
TINY = 64  # pixels of the longer side
_LATER = re.compile(r"page-\d+\.html")


@dataclass(frozen=True)
class Sample:
    """One image of a pair; `png` None = it is not available, `sha256` of its file likewise."""

    id: str
    png: bytes | None
    sha256: str | None
    label: str | None = None


@dataclass(frozen=True)
class PairCard:
    """A generated image beside the training image it is most like, and their difference."""

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
        n_audited, n_generated, n_train, n_copies: how many.
        threshold: distances up to it are those of copies.
        stated: what the threshold promises.
        calibration: distances that it was taken from.
        found: the least distance of every generated image looked at.
        copies: pairs called copies, nearest first, as many as are to be shown.
        others: the nearest pairs that were not.
    """

    run: str
    seal: str | None
    n_audited: int
    n_generated: int
    n_train: int
    n_copies: int
    threshold: float
    stated: str
    calibration: tuple[float, ...]
    found: tuple[float, ...]
    copies: tuple[PairCard, ...]
    others: tuple[PairCard, ...]


@dataclass(frozen=True)
class Histogram:
    """Two distributions of distances on one axis, drawn 300 wide and 60 high.

    Attributes:
        most: the distance at the right edge.
        calibration, found: SVG paths.
    """

    most: float
    calibration: str
    found: str

    @staticmethod
    def of(calibration: Sequence[float], found: Sequence[float], threshold: float) -> Histogram:
        """Each as high as its fullest bin."""
        most = 1.05 * max([threshold, *calibration, *found])
        return Histogram(most, *(_outline(each, most) for each in (calibration, found)))

    def x(self, distance: float) -> str:
        """Where a distance is, from the left."""
        return f"{300 * min(1.0, distance / self.most):.1f}"


def write_evidence_pages(data: EvidenceData, folder: Path) -> list[Path]:
    """Write `index.html`, `page-2.html`, … and return them.

    Raises:
        RunError: the folder cannot be written.
    """
    parts = [data.copies[at : at + PER_PAGE] for at in range(0, len(data.copies), PER_PAGE)] or [()]
    names = [FIRST, *(f"page-{number}.html" for number in range(2, len(parts) + 1))]
    with publish_folder(folder, FIRST, overwrite=True) as scratch:
        for number, part in enumerate(parts, start=1):
            text = _page(data, part, number, names)
            # ids of files whose names are not UTF-8 may hold lone surrogates
            (scratch / names[number - 1]).write_text(text, "utf-8", errors="backslashreplace")
    drop_pages(folder, keep=names)
    return [folder / name for name in names]


def drop_pages(folder: Path, keep: Sequence[str] = ()) -> None:
    """Delete the pages of an earlier audit but for those to keep; an empty folder goes with them.

    Raises:
        RunError: they cannot be deleted.
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
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["inline"] = _inline
    environment.filters["tiny"] = _tiny
    source = (resources.files(__name__.rpartition(".")[0]) / TEMPLATE).read_text("utf-8")
    return environment.from_string(source).render(
        data=data,
        part=part,
        before=PER_PAGE * (number - 1),
        number=number,
        names=names,
        histogram=Histogram.of(data.calibration, data.found, data.threshold),
    )


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _tiny(png: bytes) -> bool:
    """Whether smoothing would blur its pixels away when it is enlarged."""
    return max(int.from_bytes(png[at : at + 4], "big") for at in (16, 20)) <= TINY


def _outline(distances: Sequence[float], most: float) -> str:
    """Steps of a histogram as a closed SVG path."""
    counts, edges = np.histogram(distances, bins=BINS, range=(0, most))
    highest = max(1, int(counts.max(initial=0)))
    steps = [
        f"L{300 * left / most:.1f} {60 - 56 * count / highest:.1f}"
        f"L{300 * right / most:.1f} {60 - 56 * count / highest:.1f}"
        for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True)
    ]
    return f"M0 60{''.join(steps)}L300 60Z"
