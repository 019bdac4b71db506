"""The payout of a run: from its folder, its owners and a budget to a settlement."""

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
from gmvaluator.errors import InputError, either
from gmvaluator.files.seals import RUN_SEAL
from gmvaluator.payout.contested import contested
from gmvaluator.payout.ledger import Ledger, differences, read_ledger
from gmvaluator.payout.money import Currency
from gmvaluator.payout.owners import Ownership, deal, owners_by, plain, read_owners
from gmvaluator.payout.record import Payout, check_earlier
from gmvaluator.payout.settlement import Rules, Unowned, settle
from gmvaluator.payout.withdrawal import Withdrawal, withdraw
from gmvaluator.runs.folder import Run, as_run
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
        run: run folder, or a run from `runs.folder.open_run`.
        budget: money to divide, in the currency. Text keeps cents exact.
        currency: ISO 4217 code.
        owners: CSV or Parquet file with the columns train_id, owner and optionally share.
        by: instead of `owners`, a metadata column of the training set (or `label`) to group by.
        digits: decimals of a currency that ISO 4217 does not list.
        minimum: an owner who is due less is not paid now, and the sum is carried.
        unowned: where the part of images without an owner goes; see `Rules`.
        withdrawn: owners whose images leave. Every image that one of them has a share of leaves.
            The remaining contributors of each generated image share its score; see `withdrawal`.
        ledger: file of earlier settlements. Only generated images that are not in the ledger are
            settled now. A ledger that does not exist yet is empty; `Payout.save` writes it. If the
            last entry is this settlement, the payout is made again.
        level, resamples, seed: of the bootstrap intervals. 0 resamples: no intervals.

    Raises:
        InputError: an argument, the owners' file or the run's scores cannot be used.
        RunError: no run there, a damaged run, a ledger of another run, or a ledger without the
            entry that the run's `payout.json` names.
    """
    if (owners is None) == (by is None):
        raise InputError(
            f"pass either a file of owners ({either('owners=…', '--owners FILE')}) or a column to "
            f"group by ({either('by=…', '--by COLUMN')})"
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
    opened = as_run(run)
    ownership = _ownership(opened, owners, by)
    leaving = ownership.images_of(withdrawn) if withdrawn else None
    book, again = (None, None) if ledger is None else _book(Path(ledger), opened, money)
    start, carried = (book.settled, book.carried) if book else (0, {})
    contributions, lost = _open_part(opened, start)
    clusters = opened.valuation.clusters
    leaders = None if clusters is None else clusters.representatives
    terms = deal(ownership, contributions, representatives=leaders)
    before = None
    if leaving is not None:
        without_intervals = replace(rules, resamples=0)
        before = settle(ownership, terms, lost, without_intervals, carried=carried)
        withdrawal = _withdrawn(opened, contributions, _counting(leaving, leaders))
        ownership, contributions = ownership.without(leaving), withdrawal.contributions
        terms = deal(ownership, contributions, representatives=leaders)
        if lost is not None or withdrawal.released.any():
            lost = withdrawal.released + (0 if lost is None else lost)
    payout = Payout(
        run=opened,
        ownership=ownership,
        settlement=settle(ownership, terms, lost, rules, carried=carried),
        terms=terms,
        before=before,
        withdrawn=tuple(dict.fromkeys(plain(name) for name in withdrawn)),
        ledger=book,
        start=start,
        made=str(again["made"]) if again else datetime.now(UTC).isoformat(timespec="seconds"),
        again=again,
        contested=None if leaders is None else contested(ownership, contributions, leaders),
    )
    if again is not None and book is not None:
        changed = differences(again, payout.entry(book))
        if changed:
            whole = Ledger(book.path, (*book.entries, again))
            raise whole.all_settled(f" (with other {', '.join(changed)})")
    return payout


def _book(path: Path, run: Run, currency: Currency) -> tuple[Ledger, dict[str, Any] | None]:
    """The ledger to settle in, and the entry whose payout is to be made again.

    The entry is None, unless the last entry settled all images of this run. The entry is then
    left out of the ledger.

    Raises:
        RunError: the ledger does not fit the run, or the run has no new generated images.
    """
    book = read_ledger(path)
    book.check_run(run.valuation, currency)
    again = None
    if book.settled == len(run.valuation.generated_ids):
        again = book.entries[-1] if book.entries else {}
        if again.get(RUN_SEAL) != run.seal:
            raise book.all_settled()
    check_earlier(book, run.folder, run, currency)
    return (book if again is None else book.without_last), again


def _ownership(run: Run, owners: str | Path | None, by: str | None) -> Ownership:
    valuation = run.valuation
    if owners is not None:
        skipped = [skip.id for side, skip in valuation.skipped if side == "train"]
        return read_owners(owners, valuation.train_ids, skipped=skipped)
    column = str(by)
    entries = run.train.whole_column(column)
    ownership = owners_by(column, entries, len(valuation.train_ids))
    text = json.dumps([str(entry) for entry in entries]).encode()
    digest = hashlib.sha256(text).hexdigest()
    return replace(ownership, origin=ownership.origin | {"sha256": digest})


def _open_part(run: Run, start: int) -> tuple[Contributions, NDArray[np.float64] | None]:
    """Contributions and unattributed parts of the generated images from `start` on."""
    part = run.valuation.contributions.select(slice(start, None))
    test = run.valuation.record.unattributed
    return part, run.valuation.unattributed[start:] if test and test.applied else None


def _counting(
    leaving: NDArray[np.bool_], representatives: NDArray[np.int64] | None
) -> NDArray[np.bool_]:
    """(n,) training images whose score leaves: copies that count once leave if all of them do."""
    if representatives is None:
        return leaving
    staying = np.bincount(representatives, weights=~leaving, minlength=len(leaving))
    return np.asarray(staying[representatives] == 0)


def _withdrawn(run: Run, part: Contributions, leaving: NDArray[np.bool_]) -> Withdrawal:
    settings = run.valuation.record.settings
    return withdraw(
        part,
        leaving,
        weighting=settings.weighting or "",
        temperature=1.0 if settings.temperature_used is None else settings.temperature_used,
    )
