"""Adding to the ledger: the next entry, one settlement at a time, all of it or nothing."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from gmvaluator.errors import RunError
from gmvaluator.files.atomic import publish_file, remove_leftovers
from gmvaluator.files.seals import SEAL, seal_of
from gmvaluator.payout.ledger import FORMAT, Ledger, digest_of, read_ledger
from gmvaluator.payout.settlement import Settlement
from gmvaluator.runs.valuation import Valuation


def entry_of(
    ledger: Ledger,
    settlement: Settlement,
    valuation: Valuation,
    record: dict[str, Any],
) -> dict[str, Any]:
    """The next entry: a settlement of the images that the ledger has not settled yet.

    Args:
        ledger: so far.
        settlement: to add.
        valuation: of the run it is from.
        record: what else is kept: the run's seal, the owners' file, the options.
    """
    start, end = ledger.settled, len(valuation.generated_ids)
    rules = settlement.rules
    entry = {
        "format": FORMAT,
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
    """Names of what differs in two entries, but for where the owners' file lies."""

    def content(of: Mapping[str, Any]) -> dict[str, Any]:
        plain: dict[str, Any] = json.loads(json.dumps({**of, SEAL: None}))
        plain["owners"] = {**plain.get("owners", {}), "file": None}
        return plain

    one, two = content(entry), content(other)
    return [name for name in sorted({*one, *two}) if one.get(name) != two.get(name)]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep a second settlement out while one is under way.

    The lock is held by the process, not by its file: that of a killed one keeps nobody out.

    Raises:
        RunError: another process holds the ledger.
    """
    file = Path(os.path.realpath(path))
    lock = file.with_name(f".{file.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise RunError(f"cannot write beside ledger {path}: {error.strerror}") from error
    try:
        # one who ended just now deletes the file: a lock on that would keep nobody out
        held = (
            lock_descriptor(handle, blocking=False)
            and lock.exists()
            and os.path.samestat(os.fstat(handle), lock.stat())
        )
    except OSError as error:
        os.close(handle)
        raise RunError(f"cannot lock ledger {path}: {error.strerror}") from error
    if not held:
        os.close(handle)
        raise RunError(f"another settlement holds ledger {path}; wait for it and settle again")
    try:
        yield
    finally:
        # what is paid is in the ledger by now: no error of the lock may hide that. Windows does
        # not delete an open file: the lock stays there, and keeps nobody out
        with suppress(OSError):
            lock.unlink()
        os.close(handle)


def check_head(ledger: Ledger, head: str) -> None:
    """Refuse a ledger whose file changed since it was read.

    Raises:
        RunError: its last seal is not `head`.
    """
    if read_ledger(ledger.path).head != head:
        raise RunError(f"ledger {ledger.path} changed meanwhile; settle again")


def append(ledger: Ledger, entry: dict[str, Any]) -> Ledger:
    """Write the ledger with one more entry: all of it or nothing; earlier bytes stay the same.

    Where its path is a link, the file that it points to is written.

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
