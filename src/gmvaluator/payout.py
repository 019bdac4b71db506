"""Paying owners by a run: from its folder and a budget to files that can be checked."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator import ledger_writing, versions
from gmvaluator.bootstrap import DEFAULT_LEVEL, DEFAULT_RESAMPLES
from gmvaluator.errors import InputError
from gmvaluator.ledger import Ledger, read_ledger
from gmvaluator.money import Currency
from gmvaluator.owners import Ownership, Terms, deal, owners_by, plain, read_owners
from gmvaluator.progress import Progress, Silent
from gmvaluator.publishing import check_into, publish_into, sync_files
from gmvaluator.report.statements import STATEMENTS, Context, write_statements
from gmvaluator.runs import Run, open_run
from gmvaluator.sealing import RUN_SEAL, SEAL, sealed
from gmvaluator.settlement import Change, Line, Rules, Settlement, Unowned, changes, settle
from gmvaluator.values import Contributions
from gmvaluator.withdrawal import Withdrawal, meaning_of, withdraw

MARKER, TABLE, DIFFERENCE = "payout.json", "payout.csv", "payout_difference.csv"
OWNED = (TABLE, DIFFERENCE, STATEMENTS)
FORMAT = 1
COLUMNS = ("owner", "value", "share", "share_low", "share_high", "amount")
# what a spreadsheet takes for the start of a formula, also in full width
_FORMULA = re.compile("^'*[=+\\-@\t\r\n＝＋－＠]")


@dataclass(frozen=True, eq=False)
class Payout:
    """A settlement of a run, and what it was made from.

    Attributes:
        run: that was settled.
        ownership: of its training images.
        settlement: the budget divided.
        terms: scores dealt out to owners, of the images that were settled.
        before: without the withdrawal; None where nobody withdrew.
        withdrawn: owners whose images left.
        ledger: before this settlement; None where none is kept.
        start: first generated image settled; those before are settled in the ledger.
        made: when, UTC.
        again: entry of the ledger that this is: its payout was lost, and is made again.
    """

    run: Run
    ownership: Ownership
    settlement: Settlement
    terms: Terms
    before: Settlement | None
    withdrawn: tuple[str, ...]
    ledger: Ledger | None
    start: int
    made: str
    again: dict[str, Any] | None = None

    @property
    def changes(self) -> tuple[Change, ...]:
        """What the withdrawal changed."""
        return changes(self.before, self.settlement) if self.before is not None else ()

    @property
    def keeps_balances(self) -> bool:
        """Whether what is paid now may differ from the amounts."""
        return self.ledger is not None or self.settlement.rules.minimum > 0

    @property
    def weighting(self) -> str:
        return str(self.run.valuation.info.get("settings", {}).get("weighting", ""))

    def as_json(self) -> dict[str, Any]:
        """What `payout.json` holds, but for the hashes of the files beside it."""
        rules, valuation = self.settlement.rules, self.run.valuation
        inputs = valuation.info.get("inputs", {})
        m = len(valuation.generated_ids)
        return {
            "format": FORMAT,
            "made": self.made,
            RUN_SEAL: self.run.seal,
            "run": {
                "train": inputs.get("train", {}).get("fingerprint"),
                "generated": inputs.get("generated", {}).get("fingerprint"),
                "n_train": len(valuation.train_ids),
                "n_generated": m,
                "weighting": self.weighting,
                "settled": [self.start, m],
            },
            "owners": self.ownership.origin | {"rows_skipped": self.ownership.n_skipped},
            "options": {
                "budget": self._text(rules.budget),
                "currency": rules.currency.code,
                "digits": rules.currency.digits,
                "minimum": self._text(rules.minimum),
                "unowned": rules.unowned,
                "withdraw": list(self.withdrawn),
                "level": rules.level,
                "resamples": rules.resamples,
                "seed": rules.seed,
            },
            "totals": {
                "value": float(sum(line.value for line in self.settlement.lines)),
                "budget": self._text(sum(line.amount for line in self.settlement.lines)),
                "carried_before": self._text(self.settlement.carried_before),
                "paid": self._text(self.settlement.paid),
                "carried": self._text(self.settlement.carried),
                "stays_with_payer": self._text(self.settlement.kept),
            },
            "lines": [self._line(line) for line in self.settlement.lines],
            "difference": [self._change(change) for change in self.changes],
            "withdrawal": meaning_of(self.weighting) if self.withdrawn else None,
            "versions": versions.installed(),
        }

    def save(
        self,
        folder: str | Path | None = None,
        *,
        overwrite: bool = False,
        statements: bool = True,
        progress: Progress | None = None,
    ) -> Path:
        """Write payout.csv, payout.json and the statements: all or nothing.

        With a ledger, its new entry is written once all files are on the disk, just before they
        are moved to where they belong. Killed in between, the settlement is in the ledger and has
        no files: the same call to `pay` makes these again and adds no entry.

        Args:
            folder: where to; None: into the run.
            overwrite: replace an earlier payout.
            statements: write a page for each owner and an index of them.
            progress: hears how far it is.

        Raises:
            RunError: an earlier payout is there, the ledger lost the entry of that, or something
                cannot be written.
        """
        out = self.run.folder if folder is None else Path(folder)
        if self.ledger is not None:
            now = read_ledger(self.ledger.path)
            _check_earlier(now, out, self.run, self.settlement.rules.currency)
        with publish_into(out, MARKER, overwrite=overwrite, owned=OWNED) as scratch:
            _write_table(self, scratch / TABLE)
            if self.before is not None:
                _write_difference(self, scratch / DIFFERENCE)
            if statements:
                context = Context(
                    self.run,
                    self.ownership,
                    self.settlement,
                    self.terms,
                    self.start,
                    self.made,
                    self.withdrawn,
                    meaning_of(self.weighting),
                )
                write_statements(context, scratch / STATEMENTS, progress or Silent())
            record = self.as_json()
            if self.ledger is not None:
                with ledger_writing.locked(self.ledger.path):
                    entry = self.again or self._entry(self.ledger)
                    record["ledger"] = {
                        "file": str(self.ledger.path),
                        "entry": entry["entry"],
                        SEAL: entry[SEAL],
                    }
                    text = json.dumps(sealed(record, scratch), indent=2, ensure_ascii=False)
                    (scratch / MARKER).write_text(text + "\n", encoding="utf-8")
                    # what can fail fails before the ledger says that it is paid
                    sync_files(scratch)
                    check_into(out, MARKER, overwrite=overwrite, owned=OWNED)
                    if self.again is None:
                        ledger_writing.append(self.ledger, entry)
                    else:
                        ledger_writing.check_head(self.ledger, entry[SEAL])
            else:
                text = json.dumps(sealed(record, scratch), indent=2, ensure_ascii=False)
                (scratch / MARKER).write_text(text + "\n", encoding="utf-8")
        return out

    def _entry(self, ledger: Ledger) -> dict[str, Any]:
        record = self.as_json()
        kept = {name: record[name] for name in ("made", RUN_SEAL, "run", "owners", "options")}
        return ledger_writing.entry_of(ledger, self.settlement, self.run.valuation, kept)

    def _text(self, units: int) -> str:
        return f"{self.settlement.rules.currency.amount(units):f}"

    def _line(self, line: Line) -> dict[str, Any]:
        return {
            "owner": line.owner,
            "value": line.value,
            "share": line.share,
            "share_low": line.share_low,
            "share_high": line.share_high,
            "amount": self._text(line.amount),
            "carried_before": self._text(line.carried_before),
            "paid": self._text(line.paid),
            "carried": self._text(line.carried),
            "n_images": line.n_images,
            "n_supported": line.n_supported,
        }

    def _change(self, change: Change) -> dict[str, Any]:
        return {
            "owner": change.owner,
            "value_before": change.value_before,
            "value_after": change.value_after,
            "share_before": change.share_before,
            "share_after": change.share_after,
            "amount_before": self._text(change.amount_before),
            "amount_after": self._text(change.amount_after),
            "amount_change": self._text(change.amount_after - change.amount_before),
        }


def pay(
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
    level: float = DEFAULT_LEVEL,
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
        _check_earlier(book, opened.folder, opened, money)
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
        ownership = ownership.without(leaving)
        terms = deal(ownership, left.contributions, representatives=leaders)
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
    )
    if again is not None and book is not None:
        other = ledger_writing.differences(again, payout._entry(book))
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
    told = _record(run.folder).get("ledger")
    known = isinstance(told, dict) and told.get(SEAL) == book.head
    if not last or known or last.get(RUN_SEAL) != run.seal:
        raise book.all_settled()
    return last


def _check_earlier(book: Ledger, folder: Path, run: Run, currency: Currency) -> None:
    info = run.valuation.info | {SEAL: run.seal}
    book.check_payout(_record(folder), info, currency)


def _record(folder: Path) -> dict[str, Any]:
    """What the payout in a folder recorded; nothing where there is none that can be read."""
    try:
        found = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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


def spreadsheet_safe(name: str) -> str:
    """An owner's name as `payout.csv` has it: never a formula.

    A name that begins with = + - @ (or their full-width forms), a tab or a line break gets an
    apostrophe before it, which spreadsheets do not calculate; so does one that begins with
    apostrophes before such a character, so that taking one off gives every name back.
    `payout.json` has names as they are.
    """
    return f"'{name}" if _FORMULA.match(name) else name


def _write_table(payout: Payout, file: Path) -> None:
    columns = [*COLUMNS, *(("paid", "carried") if payout.keeps_balances else ())]
    _write_rows(file, columns, [payout._line(line) for line in payout.settlement.lines])


def _write_difference(payout: Payout, file: Path) -> None:
    rows = [payout._change(change) for change in payout.changes]
    _write_rows(file, list(rows[0]), rows)


def _write_rows(file: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        for row in rows:
            safe = row | {"owner": spreadsheet_safe(row["owner"])}
            writer.writerow(["" if safe[name] is None else safe[name] for name in columns])
