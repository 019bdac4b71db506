"""Statement pages: what each owner's images scored, by which images, and what is paid for it.

A statement shows its owner's training images and generated images, and nobody else's.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.payout.owners import UNASSIGNED, UNATTRIBUTED, Ownership, Terms
from gmvaluator.payout.settlement import Line, Settlement
from gmvaluator.progress import Progress
from gmvaluator.runs.folder import Run, RunSide
from gmvaluator.runs.formatting import format_number

STATEMENTS = "statements"
INDEX = "index.html"
TEMPLATE = "statement.html.j2"
EVIDENCE_SHOWN = 6
GENERATED_SHOWN = 3
THUMBNAIL_SIDE = 96
# generated images kept ready: the same ones support many owners
KEPT_PICTURES = 1000
_STATES = {
    "missing": "no longer there",
    "unreadable": "cannot be read",
    "changed": "changed since the run",
    "unknown": "as it is now: the run did not record its content",
}


@dataclass(frozen=True, eq=False)
class Context:
    """What statements are made from; see `payout_record.Payout`."""

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
        """Terms ordered by owner, and where each owner's begin and end."""
        order = np.argsort(self.terms.groups, kind="stable")
        counts = np.bincount(self.terms.groups, minlength=len(self.ownership.owners) + 1)
        return order, np.concatenate([[0], np.cumsum(counts)])


@dataclass(frozen=True)
class Picture:
    """An image of a page: `data` is a data URI, or None with the reason in `note`."""

    id: str
    data: str | None
    note: str
    score: float


@dataclass(frozen=True)
class Evidence:
    """A training image, what of its value is the owner's, and whom it supported most."""

    picture: Picture
    n_supported: int
    supported: tuple[Picture, ...]


def safe_name(owner: str) -> str:
    """A file name for any owner: letters that are left of the name, and 16 digits of its hash.

    Lower case, a-z, 0-9 and hyphens only, at most 62 characters: never a path, a reserved name or
    one that differs from another in case alone.
    """
    ascii_only = unicodedata.normalize("NFKD", owner).encode("ascii", "ignore").decode().lower()
    readable = re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")[:40].strip("-")
    digest = hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{readable or 'owner'}-{digest}.html"


def write_statements(context: Context, folder: Path, progress: Progress) -> None:
    """Write a page for each owner and an index of all lines.

    Args:
        context: what was settled.
        folder: to make; it must not exist.
        progress: hears how many pages are written.
    """
    folder.mkdir()
    template = _template()
    lines = context.settlement.lines
    shared = _shared(context)
    pictures = _Pictures(context.run)
    place = {name: group for group, name in enumerate(context.ownership.owners)}
    owners = [line for line in lines if line.is_owner]
    with progress.stage("statements", len(owners)) as advance:
        for line in owners:
            group = place.get(line.owner)
            evidence = () if group is None else _evidence(context, group, pictures)
            html = template.render(
                **shared, part="statement", line=line, evidence=evidence, shown=len(evidence)
            )
            _write(folder / safe_name(line.owner), html)
            advance(1)
    files = {line.owner: safe_name(line.owner) for line in owners}
    _write(folder / INDEX, template.render(**shared, part="index", lines=lines, files=files))


def _write(file: Path, html: str) -> None:
    # names may hold lone surrogates where a file system's are not UTF-8
    file.write_text(html, encoding="utf-8", errors="backslashreplace")


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = format_number
    environment.filters["percent"] = _percent
    source = (resources.files(__name__.rpartition(".")[0]) / TEMPLATE).read_text("utf-8")
    return environment.from_string(source)


def _percent(share: float) -> str:
    """Two decimals, and never 0 for what is more than nothing."""
    if 0 < share < 0.00005:
        return "< 0.01 %"
    return f"{100 * share:.2f} %"


def _shared(context: Context) -> dict[str, Any]:
    """What all pages of a payout say."""
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


def _evidence(context: Context, group: int, pictures: _Pictures) -> tuple[Evidence, ...]:
    """The owner's most valuable training images, each with what it supported most."""
    order, ends = context.by_owner
    own = order[ends[group] : ends[group + 1]]
    train, scores = context.terms.train[own], context.terms.scores[own]
    generated = context.terms.generated[own]
    rows, places = np.unique(train, return_inverse=True)
    values = np.bincount(places, weights=scores, minlength=len(rows))
    found = []
    for best in np.argsort(-values, kind="stable")[:EVIDENCE_SHOWN]:
        terms = np.flatnonzero(places == best)
        top = terms[np.argsort(-scores[terms], kind="stable")[:GENERATED_SHOWN]]
        supported = tuple(
            pictures.generated(int(generated[t]) + context.start, float(scores[t])) for t in top
        )
        picture = pictures.train(int(rows[best]), float(values[best]))
        found.append(Evidence(picture, len(terms), supported))
    return tuple(found)


@dataclass(eq=False)
class _Pictures:
    """Images of a run as data URIs; those of generated images are kept for the next owner."""

    run: Run
    _kept: dict[int, tuple[str | None, str]] = field(default_factory=dict)

    def train(self, row: int, score: float) -> Picture:
        return Picture(self.run.train.ids[row], *_picture(self.run.train, row), score)

    def generated(self, row: int, score: float) -> Picture:
        if row not in self._kept:
            if len(self._kept) >= KEPT_PICTURES:
                self._kept.clear()
            self._kept[row] = _picture(self.run.generated, row)
        return Picture(self.run.generated.ids[row], *self._kept[row], score)


def _picture(side: RunSide, row: int) -> tuple[str | None, str]:
    png = side.png(row, THUMBNAIL_SIDE)
    if png is None:
        return None, _STATES.get(side.state(row), "not available")
    note = _STATES["unknown"] if side.keys is None else ""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii"), note
