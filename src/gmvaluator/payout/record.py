"""A payout and its files: a table, a record, statements, an entry of the ledger."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gmvaluator import versions
from gmvaluator.errors import RunError
from gmvaluator.files.atomic import check_into, publish_into, sync_files
from gmvaluator.files.records import UNREADABLE, write_record
from gmvaluator.files.seals import RUN_SEAL, SEAL, sealed
from gmvaluator.payout.ledger import (
    Ledger,
    append_entry,
    check_head,
    entry_of,
    hold,
    read_ledger,
)
from gmvaluator.payout.money import Currency
from gmvaluator.payout.settled import SettledRun
from gmvaluator.payout.settlement import Change, Line
from gmvaluator.payout.statements import STATEMENTS, Letter, write_statements
from gmvaluator.payout.tables import spreadsheet_safe, write_csv
from gmvaluator.progress import Progress, Silent
from gmvaluator.runs.folder import Run
from gmvaluator.scoring.weightings import recorded_weighting

PAYOUT_RECORD, PAYOUT_TABLE, DIFFERENCE = "payout.json", "payout.csv", "payout_difference.csv"
CONTESTED = "payout_contested.csv"
OWNED = (PAYOUT_TABLE, DIFFERENCE, CONTESTED, STATEMENTS)
PAYOUT_FORMAT = 1
PAYOUT_COLUMNS = ("owner", "value", "share", "share_low", "share_high", "amount")


class Payout(SettledRun):
    """A settlement of a run, and its sources, which `save` writes."""

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
        letter: Letter | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """Write payout.csv, payout.json and the statements, all or nothing.

        The ledger gets its new entry when all files are on the disk, just before they move to
        their places. If the process is killed between the two, the ledger has the settlement and
        its files are missing: the same call of `payout_run` makes the files again and adds no
        entry.

        Args:
            folder: folder to write to. Default: the run.
            overwrite: replace an earlier payout. A settlement in a ledger is never replaced by
                another one, but may be written again.
            statements: write a page for each owner, and an index of the pages.
            letter: what the statements say beside the settlement, and their language. Default:
                nothing, in English.
            progress: receives how many pages are written.

        Raises:
            RunError: an earlier payout is in the folder, the ledger lost the entry of that payout,
                or a file cannot be written.
        """
        out = self.run.folder if folder is None else Path(folder)
        chosen = (letter or Letter()) if statements else None
        self._check_place(out, overwrite=overwrite)
        with (
            self._explained(),
            publish_into(out, PAYOUT_RECORD, overwrite=overwrite, owned=OWNED) as scratch,
        ):
            _write_table(self, scratch / PAYOUT_TABLE)
            if self.before is not None:
                _write_difference(self, scratch / DIFFERENCE)
            if self.contested:
                _write_contested(self, scratch / CONTESTED)
            if chosen is not None:
                write_statements(self, scratch / STATEMENTS, chosen, progress or Silent())
            record = self.as_json() | {"statements": None if chosen is None else chosen.as_json()}
            if self.ledger is None:
                write_record(sealed(record, scratch), scratch / PAYOUT_RECORD)
            else:
                self._write_into_ledger(self.ledger, record, scratch, out, overwrite=overwrite)
        return out

    def _check_place(self, out: Path, *, overwrite: bool) -> None:
        """Refuse a folder that the files may not go to, and a ledger that lost an entry.

        Raises:
            RunError: see `save`.
        """
        again = None if self.again is None else str(self.again[SEAL])
        if self.ledger is not None:
            ledger = read_ledger(self.ledger.path)
            for folder in dict.fromkeys((self.run.folder, *_beside(out, self.run.folder))):
                check_earlier(ledger, folder, self.run, self.settlement.rules.currency)
                if again is not None and again == _settled_in(folder) and not _same(folder, out):
                    raise ledger.all_settled(f"; the files of that payout are in {folder}")
        check_settlement(out, again, overwrite=overwrite)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Add to an error that the ledger has the settlement already, if it has."""
        try:
            yield
        except RunError as error:
            if self.ledger is None or len(read_ledger(self.ledger.path).entries) < (
                self.number or 0
            ):
                raise
            raise RunError(
                f"{error}. Ledger {self.ledger.path} has this settlement as entry {self.number}: "
                "give the same command again; it writes the files and adds nothing to the ledger"
            ) from error

    def _write_into_ledger(
        self, ledger: Ledger, record: dict[str, Any], scratch: Path, out: Path, *, overwrite: bool
    ) -> None:
        """Write the record and then the ledger's entry; whatever can fail fails before the entry.

        Raises:
            RunError: see `save`.
        """
        with hold(ledger.path):
            entry = self.again or self.entry(ledger)
            settled = {"file": str(ledger.path), "entry": entry["entry"], SEAL: entry[SEAL]}
            write_record(sealed(record | {"ledger": settled}, scratch), scratch / PAYOUT_RECORD)
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


def check_settlement(folder: Path, again: str | None, *, overwrite: bool) -> None:
    """Refuse to replace the files of a settlement in a ledger by those of another payout.

    Args:
        folder: to write to.
        again: seal of the ledger's entry whose files are made again; None: no files are.
        overwrite: whether an earlier payout may be replaced.

    Raises:
        RunError: the folder has the files of a settlement in a ledger, and `overwrite` is False or
            the settlement is another one.
    """
    settled = record_in(folder).get("ledger")
    if isinstance(settled, dict) and not (overwrite and settled.get(SEAL) == again):
        raise RunError(
            f"{folder} holds settlement {settled.get('entry')} of ledger {settled.get('file')}, "
            "with the statements that owners were given; choose a folder for this payout alone "
            "(--out FOLDER). Only the same settlement may be written there again (same options, "
            "and --overwrite)"
        )


def _settled_in(folder: Path) -> str | None:
    settled = record_in(folder).get("ledger")
    return str(settled.get(SEAL)) if isinstance(settled, dict) else None


def _beside(out: Path, run: Path) -> list[Path]:
    """The folder of a payout and, if that is not the run, those of other payouts beside it."""
    if _same(out, run):
        return [out]
    others = sorted(file.parent for file in out.absolute().parent.glob(f"*/{PAYOUT_RECORD}"))
    return [out, *(folder for folder in others if not _same(folder, out))]


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


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
    safe = [row | {"owner": spreadsheet_safe(row["owner"])} for row in rows]
    write_csv(file, columns, [[row[name] for name in columns] for row in safe])
