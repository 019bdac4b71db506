"""Paying owners by a run: from its folder and a budget to a settlement."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.certainty.intervals import DEFAULT_COVERAGE, DEFAULT_RESAMPLES
from gmvaluator.errors import InputError
from gmvaluator.files.seals import RUN_SEAL, SEAL
from gmvaluator.payout.contested import contested
from gmvaluator.payout.ledger import Ledger, differences, read_ledger
from gmvaluator.payout.money import Currency
from gmvaluator.payout.owners import Ownership, deal, owners_by, plain, read_owners
from gmvaluator.payout.record import Payout, check_earlier, record_in
from gmvaluator.payout.settlement import Rules, Unowned, settle
from gmvaluator.payout.withdrawal import Withdrawal, withdraw
from gmvaluator.runs.folder import Run, open_run
from gmvaluator.scoring.scores import Contributions


def payout_run(
    run: str | Path | Run,
    *,
    budget: str | int,
    currency: str = "EUR",
    owners: str | Path | None = None,
    by: str | None = None,
    digits: int | None = None,
    minimum: str | int = 0,
    unowned: Unowned = "keep",
    withdrawn: Sequence[str] = (),
    ledger: str | Path | None = None,
    level: float = DEFAULT_COVERAGE,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Payout:
    """Divide a budget among the owners of a run's training images by their values.

    Args:
        run: folder, or one that `runs.open_run` opened.
        budget: the money to divide, in the currency; text keeps cents exact.
        currency: ISO 4217 code.
        owners: CSV or Parquet file with columns train_id, owner and optionally share.
        by: instead, a metadata column of the training set (or `label`) to group by.
        digits: decimals of a currency that ISO 4217 does not list.
        minimum: owners who are due less are not paid now; what they are due is carried.
        unowned: what becomes of the part of images that nobody owns; see `Rules`.
        withdrawn: owners whose images leave: every image that one of them has any share of.
            Remaining contributors of each generated image share its score; see `withdrawal`.
        ledger: file of earlier settlements: only generated images that it does not hold are
            settled now. It need not exist yet; `Payout.save` adds to it. Where its last entry is
            this very settlement and the run has no payout of it, that is made again.
        level, resamples, seed: of the bootstrap intervals; 0 resamples: none.

    Raises:
        InputError: an argument, the owners' file or the run's scores cannot be used.
        RunError: no run, a damaged one, one that the ledger does not fit, or a ledger without the
            entry that the run's `payout.json` names.
    """
    if (owners is None) == (by is None):
        raise InputError(
            "pass either a file of owners (--owners FILE, owners=…) or a column to group by "
            "(--by COLUMN, by=…)"
        )
    money = Currency.named(currency, digits)
    rules = Rules(
        budget=money.units(budget, "budget"),
        currency=money,
        minimum=money.units(minimum, "minimum", zero=True),
        unowned=unowned,
        level=level,
        resamples=resamples,
        seed=seed,
    )
    opened = run if isinstance(run, Run) else open_run(run)
    ownership = _ownership(opened, owners, by)
    leaving = ownership.images_of(withdrawn) if withdrawn else None
    book = None if ledger is None else read_ledger(ledger)
    again = None
    if book is not None:
        book.check_run(opened.valuation, money)
        again = _lost(book, opened)
        check_earlier(book, opened.folder, opened, money)
        book = book if again is None else book.without_last
    start = book.settled if book else 0
    whole, lost = _open_part(opened, start)
    carried = book.carried if book else {}
    leaders = _representatives(opened)
    terms = deal(ownership, whole, representatives=leaders)
    before = None
    if leaving is not None:
        plain_rules = replace(rules, resamples=0)
        before = settle(ownership, terms, lost, plain_rules, carried=carried)
        left = _withdrawn(opened, whole, _counting(leaving, leaders))
        ownership, whole = ownership.without(leaving), left.contributions
        terms = deal(ownership, whole, representatives=leaders)
        if lost is not None or left.released.any():
            lost = left.released + (0 if lost is None else lost)
    settlement = settle(ownership, terms, lost, rules, carried=carried)
    payout = Payout(
        run=opened,
        ownership=ownership,
        settlement=settlement,
        terms=terms,
        before=before,
        withdrawn=tuple(dict.fromkeys(plain(name) for name in withdrawn)),
        ledger=book,
        start=start,
        made=str(again["made"]) if again else datetime.now(UTC).isoformat(timespec="seconds"),
        again=again,
        contested=None if leaders is None else contested(ownership, whole, leaders),
    )
    if again is not None and book is not None:
        other = differences(again, payout.entry(book))
        if other:
            full = Ledger(book.path, (*book.entries, again))
            raise full.all_settled(f" (with other {', '.join(other)})")
    return payout


def _lost(book: Ledger, run: Run) -> dict[str, Any] | None:
    """The last entry, where it settled all images of this very run and the run has no payout of it.

    None where there are images to settle.

    Raises:
        RunError: there are none, and no payout is lost.
    """
    if book.settled < len(run.valuation.generated_ids):
        return None
    last = book.entries[-1] if book.entries else {}
    told = record_in(run.folder).get("ledger")
    known = isinstance(told, dict) and told.get(SEAL) == book.head
    if not last or known or last.get(RUN_SEAL) != run.seal:
        raise book.all_settled()
    return last


def _ownership(run: Run, owners: str | Path | None, by: str | None) -> Ownership:
    valuation = run.valuation
    if owners is not None:
        skipped = [skip.id for side, skip in valuation.skipped if side == "train"]
        return read_owners(owners, valuation.train_ids, skipped=skipped)
    column = str(by)
    entries = run.train.whole_column(column)
    found = owners_by(column, entries, len(valuation.train_ids))
    text = json.dumps([str(entry) for entry in entries]).encode()
    digest = hashlib.sha256(text).hexdigest()
    return replace(found, origin=found.origin | {"sha256": digest})


def _open_part(run: Run, start: int) -> tuple[Contributions, NDArray[np.float64] | None]:
    """Contributions and unattributed parts of the generated images that are not settled yet."""
    whole = run.valuation.contributions
    part = replace(
        whole,
        rows=whole.rows[start:],
        distances=whole.distances[start:],
        scores=whole.scores[start:],
    )
    asked = run.valuation.info.get("unattributed", {}).get("applied")
    return part, run.valuation.unattributed[start:] if asked else None


def _representatives(run: Run) -> NDArray[np.int64] | None:
    """(n,) the image that stands for each, where copies count once in this run."""
    clusters = run.valuation.clusters
    return None if clusters is None else clusters.representatives


def _counting(
    leaving: NDArray[np.bool_], representatives: NDArray[np.int64] | None
) -> NDArray[np.bool_]:
    """(n,) images whose score leaves: of copies that count once, when all of them leave."""
    if representatives is None:
        return leaving
    left = np.bincount(representatives, weights=~leaving, minlength=len(leaving))
    return np.asarray(left[representatives] == 0)


def _withdrawn(run: Run, part: Contributions, leaving: NDArray[np.bool_]) -> Withdrawal:
    settings = run.valuation.info.get("settings", {})
    return withdraw(
        part,
        leaving,
        weighting=str(settings.get("weighting", "")),
        temperature=settings.get("temperature_used", settings.get("temperature", 1.0)),
    )
