"""The ledger: every generated image is settled once, and nothing in it changes unnoticed."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forked import forked
from gmvaluator import RunError, Valuation
from gmvaluator.files.seals import seal_of
from gmvaluator.payout import payout_run
from gmvaluator.payout import record as payout_record
from gmvaluator.payout.ledger import append_entry, hold, read_ledger
from gmvaluator.payout.record import Payout
from gmvaluator.payout.statements import safe_name
from gmvaluator.scoring.scores import Contributions
from run_makers import made_valuation

OWNERS = "train_id,owner\n" + "\n".join(f"t{i},{'abc'[i % 3]}" for i in range(6))


def first_images(valuation: Valuation, m: int) -> Valuation:
    whole = valuation.contributions
    part = Contributions(whole.rows[:m], whole.distances[:m], whole.scores[:m], whole.n_train)
    return replace(
        valuation,
        generated_ids=valuation.generated_ids[:m],
        quality=valuation.quality[:m],
        contributions=part,
        record=replace(valuation.record, n_generated=m),
    )


@pytest.fixture
def pay_first(tmp_path: Path) -> Callable[..., Payout]:
    """Settle the first m of 10 generated images with the ledger."""
    (tmp_path / "owners.csv").write_text(OWNERS)
    whole = made_valuation(6, 10, 3)

    def call(m: int, budget: str = "100", **options: object) -> Payout:
        run = tmp_path / f"run{m}"
        if not run.exists():
            first_images(whole, m).save(run)
        chosen = {"owners": tmp_path / "owners.csv", "ledger": tmp_path / "l.jsonl"} | options
        payout = payout_run(run, budget=budget, resamples=0, **chosen)  # type: ignore[arg-type]
        payout.save(overwrite=True, statements=False)
        return payout

    return call


def test_each_image_is_settled_once_and_small_sums_wait(
    pay_first: Callable[..., Payout], tmp_path: Path
) -> None:
    first = pay_first(4, "1", minimum="0.40").settlement
    second = pay_first(7, "100", minimum="0.40").settlement
    third = pay_first(10, "0.05", minimum="0.40").settlement
    assert 0 < first.carried < 100
    assert second.carried_before == first.carried
    assert (second.carried, third.paid, third.carried) == (0, 0, 5)
    assert sum(each.rules.budget for each in (first, second, third)) == sum(
        (first.paid, second.paid, third.paid, third.carried)
    )
    book = read_ledger(tmp_path / "l.jsonl")
    assert book.settled == 10
    assert sum(book.paid.values()) == first.paid + second.paid
    # together they settled what the whole run credits
    whole = payout_run(tmp_path / "run10", budget="1", owners=tmp_path / "owners.csv", resamples=0)
    for line in whole.settlement.lines:
        assert book.values[line.owner] == pytest.approx(line.value)
    record = json.loads((tmp_path / "run10" / "payout.json").read_text())
    assert record["ledger"] == {
        "file": str(tmp_path / "l.jsonl"),
        "entry": 3,
        "seal": book.head,
    }
    assert record["run"]["settled"] == [7, 10]
    header = (tmp_path / "run10" / "payout.csv").read_text().splitlines()[0]
    assert header == "owner,value,share,share_low,share_high,amount,paid,carried"


def test_who_owns_nothing_any_more_is_still_paid_what_was_carried(
    pay_first: Callable[..., Payout], tmp_path: Path
) -> None:
    first = pay_first(4, "1", minimum="500").settlement
    (tmp_path / "owners.csv").write_text("train_id,owner\nt0,new\n")
    second = pay_first(7, "100").settlement
    line, before = second.line("a"), first.line("a")
    assert line is not None
    assert before is not None
    assert (line.value, line.amount, line.paid) == (0, 0, before.amount)
    assert second.carried == 0


def test_what_is_not_new_cannot_be_settled(
    pay_first: Callable[..., Payout], tmp_path: Path
) -> None:
    pay_first(4)
    with pytest.raises(RunError, match="all 4 generated images of this run are settled"):
        pay_first(4, "101")
    with pytest.raises(RunError, match=r"is in EUR .* not USD"):
        pay_first(7, currency="USD")
    other = made_valuation(6, 10, 3, seed=9)
    other.save(tmp_path / "other")
    with pytest.raises(RunError, match="images 1 to 4 of this run are not those that entry 1"):
        payout_run(
            tmp_path / "other",
            budget="1",
            owners=tmp_path / "owners.csv",
            ledger=tmp_path / "l.jsonl",
        )
    with pytest.raises(RunError, match="images 1 to 4 of this run are not those that entry 1"):
        pay_first(3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace('"a"', '"z"', 1), "line 1 .* was changed: its seal"),
        (lambda text: text.split("\n", 1)[1], "line 1 .* does not follow the line before"),
        (lambda text: text[:-9], "ends in the middle of a line"),
        (lambda text: text + "no\n", "line 3 .* is no entry"),
        (lambda text: text.replace('"format": 1', '"format": 9', 1), "line 1 .* has format 9"),
        (lambda text: text + text.split("\n")[0] + "\n", "line 3 .* does not follow"),
    ],
)
def test_changes_are_noticed(
    pay_first: Callable[..., Payout], tmp_path: Path, damage: Callable[[str], str], message: str
) -> None:
    pay_first(4)
    pay_first(7)
    file = tmp_path / "l.jsonl"
    file.write_text(damage(file.read_text()))
    with pytest.raises(RunError, match=message):
        read_ledger(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"amount": 1}, "has amounts that do not sum to its budget"),
        ({"paid": 1}, "pays and carries another sum for 'a' than is due"),
        ({"carried": 5}, "pays and carries another sum for 'a' than is due"),
        ({"carried_before": 3, "paid": 3}, "carries another sum for 'a' than the line before"),
    ],
)
def test_sums_that_do_not_add_up_are_noticed_under_a_fitting_seal(
    pay_first: Callable[..., Payout], tmp_path: Path, changes: dict[str, int], message: str
) -> None:
    pay_first(4)
    file = tmp_path / "l.jsonl"
    entry = json.loads(file.read_text())
    assert entry["lines"][0]["owner"] == "a"
    for name, units in changes.items():
        entry["lines"][0][name] += units
    entry["seal"] = seal_of(entry)
    file.write_text(json.dumps(entry) + "\n")
    with pytest.raises(RunError, match=f"line 1 .* {message}"):
        read_ledger(file)


def test_nobody_is_paid_what_belongs_to_nobody(
    pay_first: Callable[..., Payout], tmp_path: Path
) -> None:
    (tmp_path / "owners.csv").write_text("train_id,owner\nt0,a\n")
    pay_first(4, minimum="500")
    file = tmp_path / "l.jsonl"
    assert len(read_ledger(file).entries) == 1
    entry = json.loads(file.read_text())
    (line,) = (each for each in entry["lines"] if each["owner"] == "(unassigned)")
    line["carried"] = line["amount"]
    entry["seal"] = seal_of(entry)
    file.write_text(json.dumps(entry) + "\n")
    with pytest.raises(RunError, match=r"carries another sum for '\(unassigned\)' than is due"):
        read_ledger(file)


def test_two_settlements_at_once(pay_first: Callable[..., Payout], tmp_path: Path) -> None:
    pay_first(4)
    run = tmp_path / "run7"
    first_images(made_valuation(6, 10, 3), 7).save(run)
    owners, file = tmp_path / "owners.csv", tmp_path / "l.jsonl"
    one, other = (
        payout_run(run, budget="1", resamples=0, owners=owners, ledger=file) for _ in "12"
    )
    with hold(tmp_path / "l.jsonl"), pytest.raises(RunError, match="another settlement holds"):
        one.save()
    assert not (run / "payout.json").exists()
    one.save(statements=False)
    with pytest.raises(RunError, match="changed meanwhile; settle again"):
        other.save(tmp_path / "out", overwrite=True, statements=False)
    with pytest.raises(RunError, match="run7 holds settlement 2 of ledger"):
        other.save(run, overwrite=True, statements=False)
    assert len(read_ledger(tmp_path / "l.jsonl").entries) == 2
    assert not (tmp_path / "out" / "payout.json").exists()


def test_withdrawn_images_leave_what_was_settled_alone(
    pay_first: Callable[..., Payout],
) -> None:
    first = pay_first(4).settlement
    later = pay_first(7, withdrawn=["a"])
    line = later.settlement.line("a")
    assert line is not None
    assert line.amount == 0
    assert np.isclose(first.paid, 10_000)


def test_files_that_are_in_the_way_are_seen_before_the_ledger_says_paid(
    pay_first: Callable[..., Payout], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_images(made_valuation(6, 10, 3), 4).save(tmp_path / "run4")
    (tmp_path / "run4" / "payout.csv").write_text("mine")
    with pytest.raises(RunError, match=r"holds payout.csv but no payout.json"):
        pay_first(4)
    (tmp_path / "run4" / "payout.csv").unlink()

    def meanwhile(folder: Path) -> None:
        (tmp_path / "run4" / "payout_difference.csv").write_text("mine")

    monkeypatch.setattr("gmvaluator.payout.record.sync_files", meanwhile)
    with pytest.raises(RunError, match=r"holds payout_difference.csv but no payout.json"):
        pay_first(4)
    assert not (tmp_path / "l.jsonl").exists()


def test_a_settlement_killed_before_its_files_appear_is_made_again(
    pay_first: Callable[..., Payout], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners, file, run = tmp_path / "owners.csv", tmp_path / "l.jsonl", tmp_path / "run7"
    pay_first(4, "1", minimum="30")
    first_images(made_valuation(6, 10, 3), 7).save(run)

    def append(*entry: Any) -> None:
        append_entry(*entry)
        os.kill(os.getpid(), signal.SIGKILL)

    def settle() -> None:
        monkeypatch.setattr(payout_record, "append_entry", append)
        pay_first(7, minimum="30")

    killed = forked(settle)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    before = file.read_bytes()
    assert len(before.splitlines()) == 2
    assert not (run / "payout.json").exists()
    with pytest.raises(RunError, match=r"entry 2 of .* \(with other budget, lines, options\)"):
        pay_first(7, "101", minimum="30")
    copied = tmp_path / "same.csv"
    copied.write_bytes(owners.read_bytes())
    again = pay_first(7, minimum="30", owners=copied)
    assert again.again is not None
    again.save(overwrite=True)
    statements = {file.name for file in (run / "statements").iterdir()}
    assert {safe_name(name) for name in "abc"} < statements
    assert {safe_name(name).replace(".html", ".csv") for name in "abc"} < statements
    page = (run / "statements" / safe_name("a")).read_text("utf-8")
    assert re.search(r"Statement number</dt> <dd><bdi>2<", page)
    assert again.settlement.carried_before == 100
    assert file.read_bytes() == before
    record = json.loads((run / "payout.json").read_text())
    assert (record["ledger"]["entry"], record["ledger"]["seal"]) == (2, read_ledger(file).head)
    assert (record["run"]["settled"], record["made"]) == ([4, 7], again.again["made"])
    # its files may be written again, in their place alone
    content = {file.name: file.read_bytes() for file in run.glob("payout*")}
    repeated = pay_first(7, minimum="30", owners=copied)
    repeated.save(overwrite=True)
    assert {file.name: file.read_bytes() for file in run.glob("payout*")} == content
    with pytest.raises(RunError, match=r"are settled .* the files of that payout are in .*run7"):
        repeated.save(tmp_path / "february", statements=False)
    assert file.read_bytes() == before
    pay_first(10)
    # neither locks nor scratch files stay
    assert not list(tmp_path.glob(".*"))


def test_a_ledger_that_is_a_link_is_one_ledger(
    pay_first: Callable[..., Payout], tmp_path: Path
) -> None:
    (tmp_path / "books").mkdir()
    real, link = tmp_path / "books" / "real.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(real)
    pay_first(4, ledger=link)
    assert link.is_symlink()
    with hold(real), pytest.raises(RunError, match="another settlement holds"):
        pay_first(7, ledger=link)
    pay_first(7, ledger=link)
    assert len(read_ledger(real).entries) == 2
    assert list(real.parent.iterdir()) == [real]


def test_a_ledger_that_lost_its_last_entries_pays_nothing_again(
    pay_first: Callable[..., Payout], tmp_path: Path
) -> None:
    file = tmp_path / "l.jsonl"
    pay_first(4)
    older = file.read_bytes()
    pay_first(7)
    whole = file.read_bytes()
    file.write_bytes(older)
    with pytest.raises(RunError, match=r"settled as entry 2 of ledger .* none of the 1 entries"):
        pay_first(7)
    file.unlink()
    with pytest.raises(RunError, match="is not there or empty: going on would pay again"):
        pay_first(7)
    with pytest.raises(RunError, match=r"mistyped.jsonl is not there or empty"):
        pay_first(7, ledger=tmp_path / "mistyped.jsonl")
    elsewhere = payout_run(
        tmp_path / "run7", budget="1", currency="USD", resamples=0,
        owners=tmp_path / "owners.csv", ledger=tmp_path / "usd.jsonl",
    )  # fmt: skip
    assert elsewhere.start == 0
    with pytest.raises(RunError, match="settled as entry 2"):
        replace(elsewhere, ledger=read_ledger(file)).save(tmp_path / "run4", overwrite=True)
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(whole)
    assert pay_first(10, ledger=moved).start == 7


def test_a_fault_after_the_entry_says_that_the_same_command_writes_the_files(
    pay_first: Callable[..., Payout], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("gmvaluator.files.atomic._replace", full)
        with pytest.raises(RunError, match=r"No space left .* as entry 1: give the same command"):
            pay_first(4)
    assert len(read_ledger(tmp_path / "l.jsonl").entries) == 1
    assert not (tmp_path / "run4" / "payout.json").exists()
    again = pay_first(4)
    assert again.again is not None
    assert (tmp_path / "run4" / "payout.json").exists()
    assert len(read_ledger(tmp_path / "l.jsonl").entries) == 1


def test_a_long_name_is_cut_where_the_ledger_is_printed(
    pay_first: Callable[..., Payout], tmp_path: Path
) -> None:
    (tmp_path / "owners.csv").write_text(f"train_id,owner\nt0,{'n' * 300}\n")
    pay_first(4)
    text = read_ledger(tmp_path / "l.jsonl").as_text()
    (line,) = (line for line in text.splitlines() if "nnn" in line)
    assert len(line) < 120
