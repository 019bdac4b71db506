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
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.payout.owners import UNASSIGNED, UNATTRIBUTED, Ownership, Terms
from gmvaluator.payout.settlement import Line, Settlement
from gmvaluator.progress import Progress
from gmvaluator.report.html import data_uri, page_template, write_page
from gmvaluator.runs.folder import Run
from gmvaluator.runs.images import RunSide

STATEMENTS = "statements"
INDEX = "index.html"
EVIDENCE_SHOWN = 6
GENERATED_SHOWN = 3
THUMBNAIL_SIDE = 96
# pictures of generated images in memory: the same ones support many owners
CACHED_PICTURES = 1000
_STATES = {
    "missing": "no longer there",
    "unreadable": "cannot be read",
    "changed": "changed since the run",
    "unknown": "as it is now: the run did not record its content",
}


@dataclass(frozen=True, eq=False)
class Context:
    """What statements are made from; see `Payout` in `payout.record`."""

    run: Run
    ownership: Ownership
    settlement: Settlement
    terms: Terms
    start: int
    made: str
    withdrawn: tuple[str, ...] = ()
    withdrawal: str = ""

    @cached_property
    def by_owner(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of all terms in the order of their owners, and where each owner's terms begin."""
        order = np.argsort(self.terms.groups, kind="stable")
        counts = np.bincount(self.terms.groups, minlength=len(self.ownership.owners) + 1)
        return order, np.concatenate([[0], np.cumsum(counts)])


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


def write_statements(context: Context, folder: Path, progress: Progress) -> None:
    """Write a page for each owner and an index of all lines.

    Args:
        context: the settlement and its run.
        folder: where to write; it must not exist.
        progress: advances by one for each statement.
    """
    folder.mkdir()
    template = page_template(__package__, "statement.html.j2")
    lines = context.settlement.lines
    shared = _shared(context)
    of_generated = lru_cache(CACHED_PICTURES)(partial(_picture, context.run.generated))
    groups = {name: group for group, name in enumerate(context.ownership.owners)}
    owners = [line for line in lines if line.is_owner]
    with progress.stage("statements", len(owners)) as advance:
        for line in owners:
            group = groups.get(line.owner)
            evidence = () if group is None else _evidence(context, group, of_generated)
            html = template.render(
                **shared, part="statement", line=line, evidence=evidence, shown=len(evidence)
            )
            write_page(folder / safe_name(line.owner), html)
            advance(1)
    files = {line.owner: safe_name(line.owner) for line in owners}
    write_page(folder / INDEX, template.render(**shared, part="index", lines=lines, files=files))


def _shared(context: Context) -> dict[str, Any]:
    """What the template needs for every page of a payout."""
    settlement, valuation = context.settlement, context.run.valuation
    rules = settlement.rules
    m = len(valuation.generated_ids)
    origin = context.ownership.origin
    facts = (
        ("Settled on", context.made),
        ("Run", context.run.seal or "not sealed"),
        ("Training images", f"{len(valuation.train_ids):,}"),
        ("Training set", str(valuation.record.inputs.train.fingerprint)),
        ("Generated images settled", f"{context.start + 1:,} to {m:,}"),
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
        "n_settled": m - context.start,
        "total": sum(line.value for line in settlement.lines),
        "unassigned": UNASSIGNED,
        "unattributed": UNATTRIBUTED,
        "bounds": _bounds,
        "withdrawn": context.withdrawn,
        "withdrawal": context.withdrawal,
    }


def _bounds(line: Line, budget: int) -> tuple[int, int]:
    """The interval of a line in minor units."""
    low, high = line.share_low or 0.0, line.share_high or 0.0
    return round(low * budget), round(high * budget)


def _evidence(
    context: Context, group: int, of_generated: Callable[[int], tuple[str | None, str]]
) -> tuple[Evidence, ...]:
    """The owner's most valuable training images, each with those it contributed to most.

    Args:
        of_generated: `_picture` of a generated image, by row.
    """
    train, drawn = context.run.train, context.run.generated
    order, starts = context.by_owner
    terms = order[starts[group] : starts[group + 1]]
    scores, generated = context.terms.scores[terms], context.terms.generated[terms]
    rows, row_of_term = np.unique(context.terms.train[terms], return_inverse=True)
    values = np.bincount(row_of_term, weights=scores, minlength=len(rows))
    evidence = []
    for place in np.argsort(-values, kind="stable")[:EVIDENCE_SHOWN]:
        of_row = np.flatnonzero(row_of_term == place)
        top = of_row[np.argsort(-scores[of_row], kind="stable")[:GENERATED_SHOWN]]
        supported = tuple(
            Picture(drawn.ids[row], *of_generated(row), score)
            for row, score in zip(
                (generated[top] + context.start).tolist(), scores[top].tolist(), strict=True
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
