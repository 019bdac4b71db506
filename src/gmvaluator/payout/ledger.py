"""The running ledger: which generated images were settled, what was paid, what is carried.

The ledger is a file of JSON lines, one entry per settlement. Each entry has a seal
(`files.seals.seal_of`) and names the seal of the entry before it, so that a line that is changed,
removed or inserted shows. `payout.json` keeps the seal of its entry, so that lost last lines show.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import RunError
from gmvaluator.files.atomic import locked, publish_file, remove_leftovers
from gmvaluator.files.records import MALFORMED
from gmvaluator.files.seals import RUN_SEAL, SEAL, seal_of
from gmvaluator.payout.money import Currency
from gmvaluator.payout.owners import UNASSIGNED, UNATTRIBUTED
from gmvaluator.payout.settlement import Settlement
from gmvaluator.places import LEDGER, wrong_place
from gmvaluator.runs.formatting import shortened
from gmvaluator.runs.valuation import Valuation
from gmvaluator.shown import short_repr

LEDGER_FORMAT = 1
START = "0" * 64


@short_repr
@dataclass(frozen=True)
class Ledger:
    """All settlements so far. `read_ledger` has checked them.

    Attributes:
        path: the file.
        entries: one settlement each, oldest first.
    """

    path: Path
    entries: tuple[dict[str, Any], ...] = ()

    @property
    def head(self) -> str:
        """Seal of the last entry; zeros for an empty ledger."""
        return str(self.entries[-1][SEAL]) if self.entries else START

    @property
    def settled(self) -> int:
        """Number of generated images settled so far: the first ones of the run."""
        return int(self.entries[-1]["images"]["end"]) if self.entries else 0

    @property
    def currency(self) -> Currency | None:
        if not self.entries:
            return None
        last = self.entries[-1]
        return Currency(last["currency"], last["digits"])

    @property
    def carried(self) -> dict[str, int]:
        """Minor units due to each owner."""
        lines = self.entries[-1]["lines"] if self.entries else []
        return {line["owner"]: line["carried"] for line in lines if line["carried"]}

    @property
    def paid(self) -> dict[str, int]:
        """Minor units paid to each owner in all settlements."""
        totals: dict[str, int] = {}
        for entry in self.entries:
            for line in entry["lines"]:
                totals[line["owner"]] = totals.get(line["owner"], 0) + line["paid"]
        return totals

    @property
    def values(self) -> dict[str, float]:
        """Sum of the scores of each owner's images in all settlements."""
        totals: dict[str, float] = {}
        for entry in self.entries:
            for line in entry["lines"]:
                totals[line["owner"]] = totals.get(line["owner"], 0.0) + line["value"]
        return totals

    def as_json(self) -> dict[str, Any]:
        """Settlements, and the sums that each owner was paid and is due, as amounts."""
        carried, paid, values = self.carried, self.paid, self.values
        return {
            "ledger": str(self.path),
            "head": self.head,
            "settled": self.settled,
            "entries": [
                {
                    "entry": entry["entry"],
                    "made": entry.get("made"),
                    "images": entry["images"],
                    "budget": self._text(entry["budget"]),
                    "currency": entry["currency"],
                    "paid": self._text(sum(line["paid"] for line in entry["lines"])),
                    "seal": entry[SEAL],
                }
                for entry in self.entries
            ],
            "owners": [
                {
                    "owner": name,
                    "value": values[name],
                    "paid": self._text(paid[name]),
                    "carried": self._text(carried.get(name, 0)),
                }
                for name in sorted(values)
            ],
        }

    def as_text(self) -> str:
        """`as_json` for people."""
        summary = self.as_json()
        lines = [
            f"{self.path}: {len(self.entries)} settlements of {self.settled} generated images, "
            "every seal fits"
        ]
        lines += [
            f"  {entry['entry']:>3}  {entry['made']}  images {entry['images']['start'] + 1} to "
            f"{entry['images']['end']}  budget {entry['budget']} {entry['currency']}  paid "
            f"{entry['paid']}"
            for entry in summary["entries"]
        ]
        lines += [
            f"  {shortened(owner['owner'])}: paid {owner['paid']}, carried {owner['carried']}"
            for owner in summary["owners"]
        ]
        return "\n".join([*lines, f"head {self.head}"])

    def _text(self, units: int) -> str:
        return "" if self.currency is None else f"{self.currency.amount(units):f}"

    def check_run(self, valuation: Valuation, currency: Currency) -> None:
        """Refuse a run that does not begin with the generated images settled so far.

        Raises:
            RunError: another currency, fewer images, or images or scores that differ.
        """
        settled_in = self.currency
        if settled_in is not None and settled_in != currency:
            raise RunError(
                f"ledger {self.path} is in {settled_in.code} ({settled_in.digits} decimals), not "
                f"{currency.code} ({currency.digits}); start another ledger for another currency"
            )
        m = len(valuation.generated_ids)
        for number, entry in enumerate(self.entries, start=1):
            start, end = entry["images"]["start"], entry["images"]["end"]
            if end > m or digest_of(valuation, start, end) != entry["images"]["sha256"]:
                raise RunError(
                    f"generated images {start + 1} to {end} of this run are not those that entry "
                    f"{number} of ledger {self.path} settled, or score otherwise; pass that run, "
                    "extended by new images (gmvaluator extend), or start another ledger"
                )

    @property
    def without_last(self) -> Ledger:
        """The ledger before its last settlement."""
        return Ledger(self.path, self.entries[:-1])

    def check_payout(
        self, record: Mapping[str, Any], seals: Sequence[str | None], currency: Currency
    ) -> None:
        """Refuse a ledger that lost the entry an earlier payout was settled by.

        Args:
            record: content of the `payout.json` of that payout.
            seals: of the run, those before it was extended included.
            currency: of the settlement to make.

        Raises:
            RunError: the ledger has no entry with the seal that the payout names. A payout in a
                ledger of another path counts too, if it is of this run and in this currency.
        """
        settled = record.get("ledger")
        if not isinstance(settled, dict):
            return
        if settled.get(SEAL) in [entry[SEAL] for entry in self.entries]:
            return
        file = Path(str(settled.get("file")))
        options = record.get("options")
        same_currency = isinstance(options, dict) and options.get("currency") == currency.code
        same_file = os.path.realpath(file) == os.path.realpath(self.path)
        if not same_file and not (record.get(RUN_SEAL) in seals and same_currency):
            return
        have = (
            f"none of the {len(self.entries)} entries of ledger {self.path} is that one"
            if self.entries
            else f"ledger {self.path} is not there or empty"
        )
        raise RunError(
            f"an earlier payout (made {record.get('made')}) was settled as entry "
            f"{settled.get('entry')} of ledger {file}, seal {str(settled.get(SEAL))[:12]}…, and "
            f"{have}: going on would pay again for images that were paid; pass that "
            "ledger, or restore it from a copy. If another ledger is meant to begin anew, move "
            "that payout.json and what belongs to it away first"
        )

    def all_settled(self, why: str = "") -> RunError:
        """The error that a run has nothing new for this ledger."""
        text = f"all {self.settled} generated images of this run are settled in ledger {self.path}"
        if self.entries:
            last = self.entries[-1]
            text += f", the last in entry {last['entry']} of {last.get('made')}"
        return RunError(
            f"{text}{why}; extend the run by new ones first (gmvaluator extend). Where the files "
            "of that payout were lost, the same run, owners' file and options make them again, "
            "and nothing is added to the ledger"
        )


def digest_of(valuation: Valuation, start: int, end: int) -> str:
    """SHA-256 of the ids, contributors and scores of the generated images `start` to `end`."""
    digest = hashlib.sha256()
    rows = valuation.contributions.rows[start:end]
    # by names of contributors, not by rows: the order of the training set does not count
    for name in valuation.generated_ids[start:end]:
        _add(digest, name)
    used, places = np.unique(rows, return_inverse=True)
    names = sorted((valuation.train_ids[row], place) for place, row in enumerate(used.tolist()))
    rank = np.empty(len(used), dtype="<i8")
    rank[[place for _, place in names]] = np.arange(len(used))
    for name, _ in names:
        _add(digest, name)
    for name in _copies(valuation, used):
        _add(digest, name)
    digest.update(rank[places.ravel()].tobytes())
    digest.update(valuation.contributions.scores[start:end].astype("<f8").tobytes())
    return digest.hexdigest()


def _copies(valuation: Valuation, used: NDArray[np.int64]) -> list[str]:
    """Ids of the copies that share the scores of the `used` images."""
    if valuation.clusters is None:
        return []
    leaders = valuation.clusters.representatives
    shared = np.isin(leaders, used) & (leaders != np.arange(len(leaders)))
    return sorted(valuation.train_ids[row] for row in np.flatnonzero(shared).tolist())


def _add(digest: Any, text: str) -> None:
    encoded = text.encode("utf-8", "surrogatepass")
    digest.update(len(encoded).to_bytes(8, "little") + encoded)


def read_ledger(path: str | Path) -> Ledger:
    """Read and check a ledger. A ledger that does not exist yet is empty. Links are followed.

    Raises:
        RunError: a line is damaged or was changed, or its sums do not add up.
    """
    file = Path(path).absolute()
    if not file.exists():
        return Ledger(file)
    if file.is_dir():
        raise RunError(wrong_place(file, LEDGER))
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(
            f"ledger {file} cannot be read ({error}); restore it, or pass a ledger"
        ) from error
    if lines.pop() != "":
        raise RunError(f"ledger {file} ends in the middle of a line; restore it from a copy")
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            trouble = _trouble(entry, entries)
        except MALFORMED as error:
            trouble = f"is no entry ({error})"
        if trouble:
            raise RunError(
                f"line {number} of ledger {file} {trouble}; restore the ledger from a copy"
            )
        entries.append(entry)
    return Ledger(file, tuple(entries))


def _trouble(entry: dict[str, Any], earlier: list[dict[str, Any]]) -> str:
    """What is wrong with an entry that follows `earlier` ones; empty if nothing is."""
    if entry.get("format") != LEDGER_FORMAT:
        return f"has format {entry.get('format')}, this version reads {LEDGER_FORMAT}"
    if seal_of(entry) != entry[SEAL]:
        return "was changed: its seal is not that of its content"
    before = earlier[-1] if earlier else None
    if entry["previous"] != (before[SEAL] if before else START):
        return "does not follow the line before: one was changed, taken out or put in"
    if entry["images"]["start"] != (before["images"]["end"] if before else 0):
        return "does not begin at the first image that was not settled"
    if sum(line["amount"] for line in entry["lines"]) != entry["budget"]:
        return "has amounts that do not sum to its budget"
    carried = {line["owner"]: line["carried"] for line in before["lines"]} if before else {}
    for line in entry["lines"]:
        owner = line["owner"]
        if line["carried_before"] != carried.pop(owner, 0):
            return f"carries another sum for {owner!r} than the line before"
        # the payer keeps the amounts that belong to nobody
        due = 0 if owner in (UNASSIGNED, UNATTRIBUTED) else line["amount"] + line["carried_before"]
        if line["paid"] + line["carried"] != due:
            return f"pays and carries another sum for {owner!r} than is due"
    if any(carried.values()):
        return "drops a sum that the line before carried"
    return ""


def entry_of(
    ledger: Ledger,
    settlement: Settlement,
    valuation: Valuation,
    record: dict[str, Any],
) -> dict[str, Any]:
    """The next entry: a settlement of the generated images that are not in the ledger yet.

    Args:
        ledger: the settlements before.
        settlement: the settlement to add.
        valuation: of the run.
        record: further keys of the entry: the run's seal, the owners' file, the options.
    """
    start, end = ledger.settled, len(valuation.generated_ids)
    rules = settlement.rules
    entry = {
        "format": LEDGER_FORMAT,
        "entry": len(ledger.entries) + 1,
        "previous": ledger.head,
        **record,
        "images": {"start": start, "end": end, "sha256": digest_of(valuation, start, end)},
        "currency": rules.currency.code,
        "digits": rules.currency.digits,
        "budget": rules.budget,
        "minimum": rules.minimum,
        "lines": [
            {
                "owner": line.owner,
                "value": line.value,
                "amount": line.amount,
                "carried_before": line.carried_before,
                "paid": line.paid,
                "carried": line.carried,
            }
            for line in settlement.lines
        ],
    }
    return entry | {SEAL: seal_of(entry)}


def differences(entry: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the keys that differ in two entries; the path of the owners' file does not count."""

    def content(entry: Mapping[str, Any]) -> dict[str, Any]:
        plain: dict[str, Any] = json.loads(json.dumps({**entry, SEAL: None}))
        plain["owners"] = {**plain.get("owners", {}), "file": None}
        return plain

    one, two = content(entry), content(other)
    return [name for name in sorted({*one, *two}) if one.get(name) != two.get(name)]


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Keep a second settlement in the ledger `path` out while one is under way.

    Raises:
        RunError: another process or thread holds the ledger, or the lock cannot be made.
    """
    file = Path(os.path.realpath(path))
    with ExitStack() as lock:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock.enter_context(locked(file.with_name(f".{file.name}.lock"), timeout=0))
        except TimeoutError as error:
            raise RunError(
                f"another settlement holds ledger {path}; wait for it and settle again"
            ) from error
        except OSError as error:
            raise RunError(f"cannot lock ledger {path}: {error.strerror}") from error
        yield


def check_head(ledger: Ledger, head: str) -> None:
    """Refuse a ledger whose file changed since it was read.

    Raises:
        RunError: its last seal is not `head`.
    """
    if read_ledger(ledger.path).head != head:
        raise RunError(f"ledger {ledger.path} changed meanwhile; settle again")


def append_entry(ledger: Ledger, entry: dict[str, Any]) -> Ledger:
    """Write the ledger with one more entry, whole or not at all; earlier bytes stay the same.

    If the path is a link, the file that it points to is written.

    Raises:
        RunError: the file changed since it was read, or cannot be written.
    """
    check_head(ledger, ledger.head)
    file = Path(os.path.realpath(ledger.path))
    remove_leftovers(file.parent, glob.escape(file.stem))
    before = file.read_bytes() if file.exists() else b""
    line = json.dumps(entry, sort_keys=True) + "\n"
    with publish_file(file) as part:
        part.write_bytes(before + line.encode())
    return Ledger(ledger.path, (*ledger.entries, entry))
