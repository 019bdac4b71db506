"""A payout in; out come HTML pages: a statement for each owner, and an index of all lines.

A statement says what its owner's images scored, by which generated images, and what is paid. It
shows training images of its owner only.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.payout.owners import UNASSIGNED, UNATTRIBUTED
from gmvaluator.payout.settlement import Line
from gmvaluator.progress import Progress
from gmvaluator.report.html import data_uri, page_template, write_page
from gmvaluator.runs.images import RunSide
from gmvaluator.scoring.weightings import recorded_weighting

if TYPE_CHECKING:
    from gmvaluator.payout.record import Payout

STATEMENTS = "statements"
INDEX = "index.html"
EVIDENCE_SHOWN = 6
GENERATED_SHOWN = 3
THUMBNAIL_SIDE = 96
# pictures of generated images in memory: the same ones support many owners
CACHED_PICTURES = 1000
NO_TERMS: NDArray[np.int64] = np.empty(0, dtype=np.int64)
_STATES = {
    "missing": "no longer there",
    "unreadable": "cannot be read",
    "changed": "changed since the run",
    "unknown": "as it is now: the run did not record its content",
}


@dataclass(frozen=True)
class Picture:
    """An image on a page: `data` is a data URI, or None for the reason in `note`."""

    id: str
    data: str | None
    note: str
    score: float


@dataclass(frozen=True)
class Evidence:
    """An owner's training image and the generated images it contributed to most.

    `picture.score` is the owner's part of the image's value.
    """

    picture: Picture
    n_supported: int
    supported: tuple[Picture, ...]


def safe_name(owner: str) -> str:
    """A file name for any owner: the plain letters of the name, and 16 digits of its hash.

    It has lower case a-z, 0-9 and hyphens only, and at most 62 characters. So it is never a path
    or a reserved name, and no two differ in case alone.
    """
    ascii_only = unicodedata.normalize("NFKD", owner).encode("ascii", "ignore").decode().lower()
    readable = re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")[:40].strip("-")
    digest = hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{readable or 'owner'}-{digest}.html"


def write_statements(payout: Payout, folder: Path, progress: Progress) -> None:
    """Write a page for each owner and an index of all lines.

    Args:
        payout: the payout.
        folder: where to write; it must not exist.
        progress: advances by one for each statement.
    """
    folder.mkdir()
    template = page_template(__package__, "statement.html.j2")
    lines = payout.settlement.lines
    shared = _shared(payout)
    of_generated = lru_cache(CACHED_PICTURES)(partial(_picture, payout.run.generated))
    terms_of = _terms_of_owners(payout)
    owners = [line for line in lines if line.is_owner]
    with progress.stage("statements", len(owners)) as advance:
        for line in owners:
            evidence = _evidence(payout, terms_of.get(line.owner, NO_TERMS), of_generated)
            html = template.render(
                **shared, part="statement", line=line, evidence=evidence, shown=len(evidence)
            )
            write_page(folder / safe_name(line.owner), html)
            advance(1)
    files = {line.owner: safe_name(line.owner) for line in owners}
    write_page(folder / INDEX, template.render(**shared, part="index", lines=lines, files=files))


def _terms_of_owners(payout: Payout) -> dict[str, NDArray[np.int64]]:
    """Places of each owner's terms among all terms."""
    owners, groups = payout.ownership.owners, payout.terms.groups
    order = np.argsort(groups, kind="stable")
    ends = np.cumsum(np.bincount(groups, minlength=len(owners)))
    return dict(zip(owners, np.split(order, ends), strict=False))


def _shared(payout: Payout) -> dict[str, Any]:
    """What the template needs for every page of a payout."""
    settlement, valuation = payout.settlement, payout.run.valuation
    rules = settlement.rules
    m = len(valuation.generated_ids)
    origin = payout.ownership.origin
    facts = (
        ("Settled on", payout.made),
        ("Run", payout.run.seal or "not sealed"),
        ("Training images", f"{len(valuation.train_ids):,}"),
        ("Training set", str(valuation.record.inputs.train.fingerprint)),
        ("Generated images settled", f"{payout.start + 1:,} to {m:,}"),
        ("Owners by", str(origin.get("column") or Path(str(origin.get("file"))).name)),
        ("Owners' SHA-256", str(origin.get("sha256"))),
        ("Images nobody owns", rules.unowned),
        ("Weighting", str(valuation.record.settings.weighting)),
        ("Interval", f"{rules.resamples} resamples, seed {rules.seed}"),
    )
    return {
        "money": rules.currency.text,
        "rules": rules,
        "settlement": settlement,
        "facts": facts,
        "n_settled": m - payout.start,
        "total": sum(line.value for line in settlement.lines),
        "unassigned": UNASSIGNED,
        "unattributed": UNATTRIBUTED,
        "bounds": _bounds,
        "withdrawn": payout.withdrawn,
        "withdrawal": recorded_weighting(payout.weighting).withdrawal,
    }


def _bounds(line: Line, budget: int) -> tuple[int, int]:
    """The interval of a line in minor units."""
    low, high = line.share_low or 0.0, line.share_high or 0.0
    return round(low * budget), round(high * budget)


def _evidence(
    payout: Payout, terms: NDArray[np.int64], of_generated: Callable[[int], tuple[str | None, str]]
) -> tuple[Evidence, ...]:
    """The owner's most valuable training images, each with those it contributed to most.

    Args:
        terms: places of the owner's terms.
        of_generated: `_picture` of a generated image, by row.
    """
    train, drawn = payout.run.train, payout.run.generated
    scores, generated = payout.terms.scores[terms], payout.terms.generated[terms]
    rows, row_of_term = np.unique(payout.terms.train[terms], return_inverse=True)
    values = np.bincount(row_of_term, weights=scores, minlength=len(rows))
    evidence = []
    for place in np.argsort(-values, kind="stable")[:EVIDENCE_SHOWN]:
        of_row = np.flatnonzero(row_of_term == place)
        top = of_row[np.argsort(-scores[of_row], kind="stable")[:GENERATED_SHOWN]]
        supported = tuple(
            Picture(drawn.ids[row], *of_generated(row), score)
            for row, score in zip(
                (generated[top] + payout.start).tolist(), scores[top].tolist(), strict=True
            )
        )
        row = int(rows[place])
        picture = Picture(train.ids[row], *_picture(train, row), float(values[place]))
        evidence.append(Evidence(picture, len(of_row), supported))
    return tuple(evidence)


def _picture(side: RunSide, row: int) -> tuple[str | None, str]:
    """A data URI and a note; None: the image cannot be shown, for the reason in the note."""
    png = side.png(row, THUMBNAIL_SIDE)
    if png is None:
        return None, _STATES.get(side.state(row), "not available")
    return data_uri(png), _STATES["unknown"] if side.keys is None else ""
