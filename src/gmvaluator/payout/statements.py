"""A payout in; out come HTML pages: a statement for each owner, and an index of all lines.

A statement is a letter to somebody who made images: what is paid, by whom, for what, and what the
amount comes from. It shows training images of its owner only. A CSV file beside it has the amount
of each image.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.payout.language import Language
from gmvaluator.payout.money import largest_remainder
from gmvaluator.payout.owners import UNASSIGNED
from gmvaluator.payout.settled import SettledRun
from gmvaluator.payout.settlement import Line
from gmvaluator.payout.tables import spreadsheet_safe, write_csv
from gmvaluator.progress import Progress
from gmvaluator.report.html import data_uri, page_template, write_page
from gmvaluator.runs.formatting import shortened
from gmvaluator.runs.images import RunSide
from gmvaluator.shown import short_repr

STATEMENTS = "statements"
INDEX = "index.html"
EVIDENCE_SHOWN = 6
GENERATED_SHOWN = 3
THUMBNAIL_SIDE = 96
# pictures of generated images in memory: the same ones support many owners
CACHED_PICTURES = 1000
NO_TERMS: NDArray[np.int64] = np.empty(0, dtype=np.int64)
UNAVAILABLE = ("missing", "unreadable", "changed")
"""States of an image that cannot be shown, each a sentence of the catalogue."""


@dataclass(frozen=True)
class Letter:
    """What statements say beside the settlement. A text that is empty is not shown.

    Attributes:
        payer: who pays.
        model: name of the model that produced the images.
        period: that the settlement is for. A month such as `2026-01` is written out.
        language: of the statements.
    """

    payer: str = ""
    model: str = ""
    period: str = ""
    language: Language = field(default_factory=Language.named)

    def as_json(self) -> dict[str, str]:
        return {
            "payer": self.payer,
            "model": self.model,
            "period": self.period,
            "language": self.language.name,
        }


@dataclass(frozen=True)
class Picture:
    """An image on a page.

    Attributes:
        id: of the image.
        data: a data URI; None where the image cannot be shown.
        note: the sentence of the catalogue that says why, or what to know; "" for none.
        credit: what the image earned, or which part of its credit is the owner's, as text.
    """

    id: str
    data: str | None
    note: str
    credit: str


@dataclass(frozen=True)
class Evidence:
    """An owner's training image and the produced images it has most credit for."""

    picture: Picture
    n_supported: int
    supported: tuple[Picture, ...]


@short_repr
@dataclass(frozen=True, eq=False)
class Earnings:
    """What each of an owner's images earned: n images with a score, the most valuable first.

    Attributes:
        rows: (n,) training images.
        values: (n,) the owner's part of their values.
        amounts: n amounts in minor units; their sum is the amount of the owner.
        n_supported: (n,) number of generated images that each contributed to.
        terms: for each image, the places of its terms among all terms, the highest score first.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float64]
    amounts: list[int]
    n_supported: NDArray[np.int64]
    terms: list[NDArray[np.int64]]


def safe_name(owner: str) -> str:
    """A file name for any owner: the plain letters of the name, and 16 digits of its hash.

    It has lower case a-z, 0-9 and hyphens only, and at most 62 characters. So it is never a path
    or a reserved name, and no two differ in case alone.
    """
    ascii_only = unicodedata.normalize("NFKD", owner).encode("ascii", "ignore").decode().lower()
    readable = re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")[:40].strip("-")
    digest = hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{readable or 'owner'}-{digest}.html"


def write_statements(payout: SettledRun, folder: Path, letter: Letter, progress: Progress) -> None:
    """Write a page and a table of images for each owner, and an index of all lines.

    Args:
        payout: the payout.
        folder: where to write; it must not exist.
        letter: what the pages say beside the settlement, and their language.
        progress: advances by one for each statement.
    """
    folder.mkdir()
    template = page_template(__package__, "statement.html.j2")
    lines = payout.settlement.lines
    shared = _shared(payout, letter)
    of_generated = lru_cache(CACHED_PICTURES)(partial(_picture, payout.run.generated))
    terms_of = _terms_of_owners(payout)
    credit: NDArray[np.float64] = np.bincount(
        payout.terms.generated, weights=payout.terms.scores, minlength=payout.terms.n_generated
    ).astype(np.float64)
    paid = {} if payout.ledger is None else payout.ledger.paid
    owners = [line for line in lines if line.is_owner]
    with progress.stage("statements", len(owners)) as advance:
        for line in owners:
            page = folder / safe_name(line.owner)
            earnings = earned(payout, terms_of.get(line.owner, NO_TERMS), line.amount)
            if len(earnings.rows):
                _write_earnings(payout, earnings, letter.language, page.with_suffix(".csv"))
            before = payout.before.line(line.owner) if payout.before is not None else None
            html = template.render(
                **shared,
                part="statement",
                line=line,
                evidence=_evidence(payout, earnings, credit, letter.language, of_generated),
                list_file=page.with_suffix(".csv").name,
                left_out=0 if before is None else before.n_images,
                paid_before=None if payout.ledger is None else paid.get(line.owner, 0),
            )
            write_page(page, html)
            advance(1)
    files = {line.owner: safe_name(line.owner) for line in owners}
    write_page(folder / INDEX, template.render(**shared, part="index", lines=lines, files=files))


def earned(payout: SettledRun, terms: NDArray[np.int64], amount: int) -> Earnings:
    """An owner's amount divided among the owner's images, by largest remainder.

    Args:
        payout: the payout.
        terms: places of the owner's terms.
        amount: of the owner, in minor units.
    """
    whole = payout.terms
    rows, image_of_term = np.unique(whole.train[terms], return_inverse=True)
    values: NDArray[np.float64] = np.bincount(
        image_of_term, weights=whole.scores[terms], minlength=len(rows)
    ).astype(np.float64)
    # terms by image, the highest score first
    sorted_terms = np.lexsort((-whole.scores[terms], image_of_term))
    counts = np.bincount(image_of_term, minlength=len(rows))
    of_image = np.split(terms[sorted_terms], np.cumsum(counts)[:-1]) if len(rows) else []
    order = np.argsort(-values, kind="stable")
    values = values[order]
    return Earnings(
        rows[order],
        values,
        largest_remainder(values.tolist(), amount) if len(rows) else [],
        counts[order],
        [of_image[place] for place in order.tolist()],
    )


def _write_earnings(payout: SettledRun, earnings: Earnings, language: Language, file: Path) -> None:
    """The table of an owner's images, as Excel of the language's countries opens it."""
    currency, sign = payout.settlement.rules.currency, language.decimal_sign
    percents = 100 * earnings.values / earnings.values.sum()
    rows = zip(
        (spreadsheet_safe(payout.run.train.ids[row]) for row in earnings.rows.tolist()),
        earnings.n_supported.tolist(),
        (f"{percent:.4f}".replace(".", sign) for percent in percents.tolist()),
        (f"{currency.amount(units):f}".replace(".", sign) for units in earnings.amounts),
        strict=True,
    )
    columns = [
        language.text("csv_image"),
        language.text("csv_produced"),
        language.text("csv_share"),
        language.text("csv_amount", currency=currency.code),
    ]
    delimiter = ";" if sign == "," else ","
    write_csv(file, columns, rows, delimiter=delimiter, for_excel=True)


def _terms_of_owners(payout: SettledRun) -> dict[str, NDArray[np.int64]]:
    """Places of each owner's terms among all terms."""
    owners, groups = payout.ownership.owners, payout.terms.groups
    order = np.argsort(groups, kind="stable")
    ends = np.cumsum(np.bincount(groups, minlength=len(owners)))
    return dict(zip(owners, np.split(order, ends), strict=False))


def _shared(payout: SettledRun, letter: Letter) -> dict[str, Any]:
    """What the template needs for every page of a payout."""
    settlement, valuation = payout.settlement, payout.run.valuation
    rules, language = settlement.rules, letter.language
    m = len(valuation.generated_ids)
    origin = payout.ownership.origin
    owners_name = str(origin.get("column") or Path(str(origin.get("file"))).name)
    covered = {"first": language.count(payout.start + 1), "last": language.count(m)}
    record = (
        ("record_run", payout.run.seal or ""),
        ("record_owners", f"{owners_name} {origin.get('sha256')}"),
        ("record_images", language.text("record_range", **covered)),
    )
    return {
        "t": language.text,
        "short": shortened,
        "lang": language.code,
        "direction": language.direction,
        "money": partial(language.money, rules.currency),
        "count": language.count,
        "percent": language.percent,
        "level": language.level(rules.level),
        "letter": letter,
        "period": language.period(letter.period),
        "number": "" if payout.number is None else language.count(payout.number),
        "date": language.date(payout.made),
        "rules": rules,
        "settlement": settlement,
        "record": [(name, text) for name, text in record if text],
        "n_settled": m - payout.start,
        "unassigned": UNASSIGNED,
        "bounds": _bounds,
        "withdrawn": payout.withdrawn,
        "copies": valuation.clusters is not None and valuation.clusters.copies > 0,
    }


def _bounds(line: Line, budget: int) -> tuple[int, int]:
    """The interval of a line in minor units."""
    low, high = line.share_low or 0.0, line.share_high or 0.0
    return round(low * budget), round(high * budget)


def _evidence(
    payout: SettledRun,
    earnings: Earnings,
    credit: NDArray[np.float64],
    language: Language,
    of_generated: Callable[[int], tuple[str | None, str]],
) -> tuple[Evidence, ...]:
    """The owner's most valuable training images, each with those it contributed to most.

    Args:
        payout: the payout.
        earnings: of the owner.
        credit: (m,) sum of the scores of each generated image that is settled.
        language: of amounts and shares.
        of_generated: `_picture` of a generated image, by row.
    """
    train, drawn, terms = payout.run.train, payout.run.generated, payout.terms
    currency = payout.settlement.rules.currency
    evidence = []
    for place, row in enumerate(earnings.rows[:EVIDENCE_SHOWN].tolist()):
        top = earnings.terms[place][:GENERATED_SHOWN]
        shares = terms.scores[top] / credit[terms.generated[top]]
        supported = tuple(
            Picture(drawn.ids[of], *of_generated(of), language.percent(share))
            for of, share in zip(
                (terms.generated[top] + payout.start).tolist(), shares.tolist(), strict=True
            )
        )
        amount = language.money(currency, earnings.amounts[place])
        picture = Picture(train.ids[row], *_picture(train, row), amount)
        evidence.append(Evidence(picture, int(earnings.n_supported[place]), supported))
    return tuple(evidence)


def _picture(side: RunSide, row: int) -> tuple[str | None, str]:
    """A data URI, or None, and the note of a `Picture`."""
    png = side.png(row, THUMBNAIL_SIDE)
    if png is None:
        state = side.state(row)
        return None, state if state in UNAVAILABLE else "unavailable"
    return data_uri(png), "unknown" if side.keys is None else ""
