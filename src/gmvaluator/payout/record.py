"""A payout and its files: a table, a record, statements, an entry of the ledger."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmvaluator import versions
from gmvaluator.files.atomic import check_into, publish_into, sync_files
from gmvaluator.files.records import UNREADABLE, write_record
from gmvaluator.files.seals import RUN_SEAL, SEAL, sealed
from gmvaluator.payout.contested import Contested
from gmvaluator.payout.ledger import (
    Ledger,
    append_entry,
    check_head,
    entry_of,
    hold,
    read_ledger,
)
from gmvaluator.payout.money import Currency
from gmvaluator.payout.owners import Ownership, Terms
from gmvaluator.payout.settlement import Change, Line, Settlement, changes
from gmvaluator.payout.statements import STATEMENTS, write_statements
from gmvaluator.progress import Progress, Silent
from gmvaluator.runs.folder import Run
from gmvaluator.scoring.weightings import recorded_weighting
from gmvaluator.shown import short_repr

PAYOUT_RECORD, PAYOUT_TABLE, DIFFERENCE = "payout.json", "payout.csv", "payout_difference.csv"
CONTESTED = "payout_contested.csv"
OWNED = (PAYOUT_TABLE, DIFFERENCE, CONTESTED, STATEMENTS)
PAYOUT_FORMAT = 1
PAYOUT_COLUMNS = ("owner", "value", "share", "share_low", "share_high", "amount")
# a spreadsheet takes these characters for the start of a formula, also in full width
_FORMULA = re.compile("^'*[=+\\-@\t\r\n＝＋－＠]")


@short_repr
@dataclass(frozen=True, eq=False)
class Payout:
    """A settlement of a run, and its sources.

    Attributes:
        run: the run.
        ownership: owners of its training images.
        settlement: the budget divided.
        terms: scores by owner, of the generated images that are settled.
        before: the settlement without the withdrawal; None if nobody withdrew.
        withdrawn: owners whose images left.
        ledger: the ledger before this settlement; None without a ledger.
        start: first generated image that is settled; the ledger settled those before it.
        made: time, UTC.
        again: entry of the ledger whose payout was lost and is made again; None otherwise.
        contested: clusters of copies with different owners, the most valuable first; None if the
            run counts every copy by itself, and so has no clusters.
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
    contested: tuple[Contested, ...] | None = None

    @property
    def changes(self) -> tuple[Change, ...]:
        """Changes by the withdrawal."""
        return changes(self.before, self.settlement) if self.before is not None else ()

    @property
    def keeps_balances(self) -> bool:
        """Whether the sums paid now may differ from the amounts."""
        return self.ledger is not None or self.settlement.rules.minimum > 0

    @property
    def value(self) -> float:
        """The value that the budget is divided by: the sum of all lines."""
        return float(sum(line.value for line in self.settlement.lines))

    @property
    def contested_share(self) -> float:
        """Share of the value that belongs to copies with different owners."""
        return sum(cluster.value for cluster in self.contested or ()) / self.value

    @property
    def weighting(self) -> str:
        return self.run.valuation.record.settings.weighting or ""

    def as_json(self) -> dict[str, Any]:
        """The content of `payout.json`, without the hashes of the files beside it."""
        rules, valuation = self.settlement.rules, self.run.valuation
        inputs = valuation.record.inputs
        m = len(valuation.generated_ids)
        return {
            "format": PAYOUT_FORMAT,
            "made": self.made,
            RUN_SEAL: self.run.seal,
            "run": {
                "train": inputs.train.fingerprint,
                "generated": inputs.generated.fingerprint,
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
                "value": self.value,
                "budget": self._text(sum(line.amount for line in self.settlement.lines)),
                "carried_before": self._text(self.settlement.carried_before),
                "paid": self._text(self.settlement.paid),
                "carried": self._text(self.settlement.carried),
                "stays_with_payer": self._text(self.settlement.kept),
            },
            "lines": [self._line(line) for line in self.settlement.lines],
            "contested": None
            if self.contested is None
            else {
                "clusters": len(self.contested),
                "images": sum(len(cluster.rows) for cluster in self.contested),
                "share": self.contested_share,
            },
            "difference": [self._change(change) for change in self.changes],
            "withdrawal": recorded_weighting(self.weighting).withdrawal if self.withdrawn else None,
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
        """Write payout.csv, payout.json and the statements, all or nothing.

        The ledger gets its new entry when all files are on the disk, just before they move to
        their places. If the process is killed between the two, the ledger has the settlement and
        its files are missing: the same call of `payout_run` makes the files again and adds no
        entry.

        Args:
            folder: folder to write to. Default: the run.
            overwrite: replace an earlier payout.
            statements: write a page for each owner, and an index of the pages.
            progress: receives how many pages are written.

        Raises:
            RunError: an earlier payout is in the folder, the ledger lost the entry of that payout,
                or a file cannot be written.
        """
        out = self.run.folder if folder is None else Path(folder)
        if self.ledger is not None:
            ledger = read_ledger(self.ledger.path)
            check_earlier(ledger, out, self.run, self.settlement.rules.currency)
        with publish_into(out, PAYOUT_RECORD, overwrite=overwrite, owned=OWNED) as scratch:
            _write_table(self, scratch / PAYOUT_TABLE)
            if self.before is not None:
                _write_difference(self, scratch / DIFFERENCE)
            if self.contested:
                _write_contested(self, scratch / CONTESTED)
            if statements:
                write_statements(self, scratch / STATEMENTS, progress or Silent())
            if self.ledger is None:
                write_record(sealed(self.as_json(), scratch), scratch / PAYOUT_RECORD)
            else:
                self._write_into_ledger(self.ledger, scratch, out, overwrite=overwrite)
        return out

    def _write_into_ledger(
        self, ledger: Ledger, scratch: Path, out: Path, *, overwrite: bool
    ) -> None:
        """Write the record and then the ledger's entry; whatever can fail fails before the entry.

        Raises:
            RunError: see `save`.
        """
        with hold(ledger.path):
            entry = self.again or self.entry(ledger)
            settled = {"file": str(ledger.path), "entry": entry["entry"], SEAL: entry[SEAL]}
            record = sealed(self.as_json() | {"ledger": settled}, scratch)
            write_record(record, scratch / PAYOUT_RECORD)
            sync_files(scratch)
            check_into(out, PAYOUT_RECORD, overwrite=overwrite, owned=OWNED)
            if self.again is None:
                append_entry(ledger, entry)
            else:
                check_head(ledger, entry[SEAL])

    def entry(self, ledger: Ledger) -> dict[str, Any]:
        """The next entry of a ledger, for this settlement."""
        record = self.as_json()
        entry = {name: record[name] for name in ("made", RUN_SEAL, "run", "owners", "options")}
        return entry_of(ledger, self.settlement, self.run.valuation, entry)

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


def check_earlier(book: Ledger, folder: Path, run: Run, currency: Currency) -> None:
    """Refuse a ledger that lost the entry of the payout in a folder.

    Raises:
        RunError: see `Ledger.check_payout`.
    """
    seals = (*(run.valuation.record.earlier_seals or ()), run.seal)
    book.check_payout(record_in(folder), seals, currency)


def record_in(folder: Path) -> dict[str, Any]:
    """The record of the payout in a folder; empty if there is none that can be read."""
    try:
        record = json.loads((folder / PAYOUT_RECORD).read_text(encoding="utf-8"))
    except UNREADABLE:
        return {}
    return record if isinstance(record, dict) else {}


def spreadsheet_safe(name: str) -> str:
    """An owner's name for `payout.csv`, never a formula.

    A name that begins with = + - @ (or their full-width forms), a tab or a line break gets an
    apostrophe in front, which spreadsheets do not calculate. So does a name with apostrophes
    before such a character: removing one apostrophe always gives the name back. `payout.json` has
    the names unchanged.
    """
    return f"'{name}" if _FORMULA.match(name) else name


def _write_table(payout: Payout, file: Path) -> None:
    columns = [*PAYOUT_COLUMNS, *(("paid", "carried") if payout.keeps_balances else ())]
    _write_rows(file, columns, [payout._line(line) for line in payout.settlement.lines])


def _write_difference(payout: Payout, file: Path) -> None:
    rows = [payout._change(change) for change in payout.changes]
    _write_rows(file, list(rows[0]), rows)


def _write_contested(payout: Payout, file: Path) -> None:
    ids = payout.run.valuation.train_ids
    rows = [
        {
            "cluster": spreadsheet_safe(ids[cluster.representative]),
            "train_id": spreadsheet_safe(ids[row]),
            "owner": owner,
            "share": share,
            "cluster_value": cluster.value,
        }
        for cluster in payout.contested or ()
        for row, claim in zip(cluster.rows, cluster.claims, strict=True)
        for owner, share in claim
    ]
    _write_rows(file, list(rows[0]), rows)


def _write_rows(file: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        for row in rows:
            safe = row | {"owner": spreadsheet_safe(row["owner"])}
            writer.writerow(["" if safe[name] is None else safe[name] for name in columns])
