"""From a run and a budget to amounts, files and statements."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmvaluator import GMValuator, InputError, RunError, Skip, Valuation
from gmvaluator.certainty.intervals import bootstrap_shares
from gmvaluator.files.seals import broken
from gmvaluator.payout import payout_run
from gmvaluator.payout.money import Currency
from gmvaluator.payout.owners import UNASSIGNED, UNATTRIBUTED, Ownership, deal, owners_by
from gmvaluator.payout.record import Payout
from gmvaluator.payout.settlement import Rules, Settlement, changes, settle
from gmvaluator.payout.statements import safe_name
from gmvaluator.payout.tables import spreadsheet_safe
from gmvaluator.runs.folder import open_run
from gmvaluator.scoring.scores import Contributions
from image_makers import encode, random_images, write_files
from run_makers import made_test, made_valuation

EUR = Currency.named("EUR")
NASTY = ("=cmd|' /C calc'!A0", "../../etc/passwd", "<script>alert(1)</script>", "a/b", "A/b", "…")


def divided(
    valuation: Valuation,
    ownership: Ownership,
    lost: Any = None,
    **rules: Any,
) -> Settlement:
    terms = deal(ownership, valuation.contributions)
    options: dict[str, Any] = {"budget": 10_000, "currency": EUR, "resamples": 0} | rules
    return settle(ownership, terms, lost, Rules(**options))


def test_numbers_of_a_hand_made_case() -> None:
    valuation = replace(
        made_valuation(3, 2, 2),
        contributions=Contributions(
            np.array([[0, 1], [2, 1]]),
            np.zeros((2, 2), np.float32),
            np.array([[0.5, 0.25], [0.125, 0.0]]),
            3,
        ),
    )
    ownership = owners_by("x", ["ann", "bob", None], 3)
    lost = np.array([0.0, 0.125])
    found = divided(valuation, ownership, lost)
    assert [(line.owner, line.value, line.share, line.amount) for line in found.lines] == [
        ("ann", 0.5, 0.5, 5000),
        ("bob", 0.25, 0.25, 2500),
        (UNASSIGNED, 0.125, 0.125, 1250),
        (UNATTRIBUTED, 0.125, 0.125, 1250),
    ]
    assert [line.n_images for line in found.lines] == [1, 1, 1, 0]
    assert [line.n_supported for line in found.lines] == [1, 1, 1, 1]
    assert (found.paid, found.carried, found.kept) == (7500, 0, 2500)
    # redistributed: nobody's images have no part, what no image received keeps its own
    spread = divided(valuation, ownership, lost, unowned="redistribute")
    assert [line.amount for line in spread.lines] == [5714, 2857, 0, 1429]
    assert spread.lines[2].value == 0.125
    small = divided(valuation, ownership, lost, minimum=2501)
    assert [(line.amount, line.paid, line.carried) for line in small.lines[:2]] == [
        (5000, 5000, 0),
        (2500, 0, 2500),
    ]


cases = st.tuples(
    st.integers(1, 8), st.integers(1, 12), st.integers(0, 10**6), st.integers(1, 10**7)
)


@settings(max_examples=40, deadline=None)
@given(cases, st.integers(0, 5000), st.sampled_from(["keep", "redistribute"]))
def test_amounts_sum_to_the_budget_and_follow_values(
    case: tuple[int, int, int, int], minimum: int, unowned: str
) -> None:
    n, m, seed, budget = case
    valuation = made_valuation(n, m, min(3, n), seed)
    names = np.random.default_rng(seed).choice(["a", "b", "c", ""], n).tolist()
    ownership = owners_by("x", ["a", *names[1:]], n)
    lost = np.full(m, 0.01)
    found = divided(valuation, ownership, lost, budget=budget, minimum=minimum, unowned=unowned)
    lines = found.lines
    assert sum(line.amount for line in lines) == budget
    assert found.paid + found.carried + found.kept == budget
    assert sum(line.share for line in lines) == pytest.approx(1)
    for line in lines:
        assert abs(line.amount - Fraction(line.share) * budget) < 1.001
        if line.is_owner:
            assert (line.paid, line.carried) in ((line.amount, 0), (0, line.amount))
            assert line.paid == 0 or line.paid >= minimum
    ranked = sorted((line.value, line.amount) for line in lines if line.is_owner)
    assert [amount for _, amount in ranked] == sorted(amount for _, amount in ranked)
    assert sum(line.value for line in lines) == pytest.approx(valuation.quality.sum() + 0.01 * m)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_no_order_decides_a_cent(seed: int) -> None:
    random = np.random.default_rng(seed)
    valuation = made_valuation(7, 30, 4, seed, quality=np.ones(30))
    ownership = owners_by("x", random.choice(["a", "b", "c", ""], 7).tolist() or ["a"], 7)
    train, generated = random.permutation(7), random.permutation(30)
    whole = valuation.contributions
    moved = replace(
        whole,
        rows=np.argsort(train)[whole.rows][generated],
        distances=whole.distances[generated],
        scores=whole.scores[generated],
    )
    names = np.array(ownership.owners)
    labels = np.full(7, "", dtype=object)
    labels[ownership.rows] = names[ownership.groups]
    other = owners_by("x", labels[train].tolist(), 7)
    first = divided(valuation, ownership, budget=99)
    assert divided(replace(valuation, contributions=moved), other, budget=99).lines == first.lines


def test_owners_of_equal_value_are_paid_by_name() -> None:
    scores = np.full((1, 3), 0.1)
    listed = Contributions(np.array([[0, 1, 2]]), np.zeros((1, 3), np.float32), scores, 3)
    valuation = replace(made_valuation(3, 1, 3), contributions=listed)
    found = divided(valuation, owners_by("x", ["z", "y", "x"], 3), budget=100)
    assert [(line.owner, line.amount) for line in found.lines] == [("x", 34), ("y", 33), ("z", 33)]


def test_nothing_to_pay_by() -> None:
    worthless = made_valuation(quality=np.zeros(4))
    with pytest.raises(InputError, match="no training image has any value in this run"):
        divided(worthless, owners_by("x", ["a"] * 6, 6))
    valuation = made_valuation(2, 3, 2)
    rows = np.zeros((3, 1), dtype=np.int64)
    one = Contributions(rows, np.zeros((3, 1), np.float32), np.ones((3, 1)), 2)
    nobody = replace(valuation, contributions=one)
    with pytest.raises(InputError, match="all value lies in training images that nobody owns"):
        divided(nobody, owners_by("x", [None, "a"], 2), unowned="redistribute")
    kept = divided(nobody, owners_by("x", [None, "a"], 2))
    assert (kept.paid, kept.kept) == (0, 10_000)


def test_intervals_are_of_all_that_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    valuation = made_valuation(9, 40, 3, 1)
    ownership = owners_by("x", [*"abcdefg", None, None], 9)
    lost = np.full(40, 0.05)
    whole = divided(valuation, ownership, lost, resamples=200)
    for line in whole.lines:
        assert line.share_low is not None
        assert line.share_high is not None
        assert 0 <= line.share_low <= line.share <= line.share_high <= 1
    # in blocks of columns the same images are drawn, so the intervals are the same
    monkeypatch.setattr("gmvaluator.payout.settlement.CELLS", 1)
    monkeypatch.setattr("gmvaluator.payout.settlement.LEAST_COLUMNS", 2)
    parts = divided(valuation, ownership, lost, resamples=200)
    for line, other in zip(whole.lines, parts.lines, strict=True):
        assert other.share_low == pytest.approx(line.share_low, abs=1e-12)
        assert other.share_high == pytest.approx(line.share_high, abs=1e-12)
    spread = divided(valuation, ownership, lost, resamples=50, unowned="redistribute")
    nobody = spread.line(UNASSIGNED)
    assert nobody is not None
    assert (nobody.share, nobody.share_low, nobody.share_high) == (0, 0, 0)
    # the owners' intervals are those of their columns and what nobody received, alone
    terms = deal(ownership, valuation.contributions)
    columns = np.zeros((40, 8))
    owned = terms.groups < 7
    np.add.at(columns, (terms.generated[owned], terms.groups[owned]), terms.scores[owned])
    columns[:, 7] = lost
    largest = np.zeros(40)
    np.maximum.at(largest, terms.generated[owned], terms.scores[owned])
    low, high = bootstrap_shares(columns, largest=largest, n_resamples=50)
    for place, line in enumerate(each for each in spread.lines if each.owner != UNASSIGNED):
        assert line.share_low == pytest.approx(low[place], abs=1e-12)
        assert line.share_high == pytest.approx(high[place], abs=1e-12)
        assert 0 < low[place] <= line.share <= high[place] <= 1
    single = divided(made_valuation(2, 1, 2), owners_by("x", ["a", "b"], 2), resamples=50)
    assert single.lines[0].share_low is None


# --- a run on disk ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `train` (a manifest with licences), `generated` and their `run`."""
    folder = tmp_path_factory.mktemp("made")
    names = [f"{i}.png" for i in range(8)]
    pngs = map(encode, random_images(8))
    write_files(folder / "train", dict(zip(names, pngs, strict=True)))
    lines = [f"{name},{licence}" for name, licence in zip(names, "ABABAB--", strict=True)]
    text = "\n".join(["path,licence", *(line.replace("-", "") for line in lines)])
    (folder / "train" / "list.csv").write_text(text)
    generated = map(encode, random_images(6, seed=1))
    write_files(folder / "generated", {f"g{j}.png": png for j, png in enumerate(generated)})
    valuator = GMValuator(
        encoder="pixels@8", rerank="none", quality="none", k=3, candidates=4, cache=False
    )
    valuator.fit(folder / "train" / "list.csv").value(folder / "generated").save(folder / "run")
    owners = ["train_id,owner,share", "0.png,ann,0.5", "0.png,bob,0.5", "1.png,bob,1"]
    owners += [f'{i}.png,"{name}",1' for i, name in enumerate(NASTY, start=2)]
    (folder / "owners.csv").write_text("\n".join(owners))
    return folder


@pytest.fixture
def paid(made: Path, tmp_path: Path) -> tuple[Payout, Path]:
    payout = payout_run(made / "run", budget="1000", owners=made / "owners.csv", resamples=100)
    return payout, payout.save(tmp_path / "out")


def table_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_the_files_are_the_contract(paid: tuple[Payout, Path], made: Path) -> None:
    payout, out = paid
    rows = table_of(out / "payout.csv")
    assert list(rows[0]) == ["owner", "value", "share", "share_low", "share_high", "amount"]
    assert sum(Fraction(row["amount"]) for row in rows) == 1000
    assert all(re.fullmatch(r"\d+\.\d\d", row["amount"]) for row in rows)
    record = json.loads((out / "payout.json").read_text(encoding="utf-8"))
    assert broken(record, out) == []
    assert record["run_seal"] == json.loads((made / "run" / "run.json").read_text())["seal"]
    assert record["totals"] == {
        "value": pytest.approx(6),
        "budget": "1000.00",
        "carried_before": "0.00",
        "paid": "1000.00",
        "carried": "0.00",
        "stays_with_payer": "0.00",
    }
    assert [line["owner"] for line in record["lines"]] == sorted({"ann", "bob", *NASTY})
    assert record["options"]["seed"] == 0
    again = payout_run(made / "run", budget="1000", owners=made / "owners.csv", resamples=100)
    assert again.settlement == payout.settlement
    # a later change of the table is noticed
    (out / "payout.csv").write_text("owner\n")
    assert broken(record, out) == ["payout.csv was changed"]


def test_names_are_never_formulas_in_the_table(paid: tuple[Payout, Path]) -> None:
    names = [row["owner"] for row in table_of(paid[1] / "payout.csv")]
    assert "'=cmd|' /C calc'!A0" in names
    for name, safe in (
        ("=1", "'=1"),
        ("'=1", "''=1"),
        ("a=1", "a=1"),
        ("'a", "'a"),
        ("＝1", "'＝1"),
    ):
        assert spreadsheet_safe(name) == safe
    assert not any(
        spreadsheet_safe(name)[0] in "=+-@\t\r\n＝＋－＠" for name in "=+-@\t\r\n＝＋－＠"
    )


def test_statements_are_escaped_whole_and_private(paid: tuple[Payout, Path]) -> None:
    payout, out = paid
    pages = {file.name: file.read_text("utf-8") for file in (out / "statements").glob("*.html")}
    assert len(pages) == len(payout.settlement.lines) + 1
    for name, text in pages.items():
        assert re.fullmatch(r"index\.html|[a-z0-9-]{1,57}\.html", name)
        assert "<script" not in text
        assert "http" not in text.replace("http-equiv", "")
    ann, bob = pages[safe_name("ann")], pages[safe_name("bob")]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in pages[safe_name(NASTY[2])]
    assert "data:image/png;base64," in bob
    assert "bob" not in ann
    assert "1.png" in bob
    assert not re.search(r">[1-7]\.png", ann)  # images of others
    assert "Likeness is no proof of cause" in ann
    for owner in NASTY:
        assert f'href="{safe_name(owner)}"' in pages["index.html"]


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=70), st.text(max_size=3))
def test_file_names_are_safe_for_any_owner(name: str, other: str) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,56}\.html", safe_name(name))
    assert safe_name(name) != "index.html"
    assert (safe_name(name) == safe_name(other)) == (name == other)


def test_images_that_moved_are_marked(made: Path, tmp_path: Path) -> None:
    run = open_run(made / "run", train=tmp_path_with(tmp_path, made))
    payout = payout_run(run, budget="1", owners=made / "owners.csv", resamples=0)
    text = (payout.save(tmp_path / "out") / "statements" / safe_name("bob")).read_text("utf-8")
    assert "(not available)" in text
    assert "changed since the calculation" in text
    assert "no longer there" in text


def tmp_path_with(tmp_path: Path, made: Path) -> Path:
    """The training set with 0.png changed and 1.png gone."""
    for i in range(8):
        content = (made / "train" / f"{i}.png").read_bytes()
        write_files(tmp_path / "train", {f"{i}.png": content} if i > 1 else {})
    return write_files(tmp_path / "train", {"0.png": encode(random_images(1, seed=5)[0])})


def test_a_payout_is_not_replaced_unasked(made: Path, paid: tuple[Payout, Path]) -> None:
    payout, out = paid
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    with pytest.raises(RunError, match=r"payout.json is there already; pass overwrite=True"):
        payout.save(out)
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before
    # a smaller payout leaves nothing of a larger one behind
    gone = payout_run(
        made / "run", budget="5", owners=made / "owners.csv", withdrawn=["ann"], resamples=0
    )
    gone.save(out, overwrite=True)
    assert (out / "payout_difference.csv").exists()
    payout.save(out, overwrite=True, statements=False)
    assert {file.name for file in out.iterdir()} == {"payout.csv", "payout.json"}
    by_licence = payout_run(made / "run", budget="5", by="licence", resamples=0)
    by_licence.save(out, overwrite=True)
    assert {file.name for file in (out / "statements").iterdir()} == {
        "index.html",
        *(safe_name(name) for name in "AB"),
        *(safe_name(name).replace(".html", ".csv") for name in "AB"),
    }
    assert not list(out.glob(".*"))
    (out / "payout.json").unlink()
    with pytest.raises(RunError, match=r"holds payout.csv, statements but no payout.json"):
        payout.save(out)


def test_a_column_stands_for_owners(made: Path) -> None:
    found = payout_run(made / "run", budget="5", by="licence", resamples=0)
    assert [line.owner for line in found.settlement.lines] == ["A", "B", UNASSIGNED]
    assert [line.n_images for line in found.settlement.lines] == [3, 3, 2]
    assert found.ownership.origin["column"] == "licence"
    with pytest.raises(InputError, match="no column 'license'; choose one of: licence"):
        payout_run(made / "run", budget="5", by="license")
    with pytest.raises(InputError, match="pass either a file of owners"):
        payout_run(made / "run", budget="5", by="licence", owners=made / "owners.csv")


def test_a_column_of_a_set_that_lost_images_is_refused(made: Path, tmp_path: Path) -> None:
    lines = (made / "train" / "list.csv").read_text().splitlines()[:-1]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    run = open_run(made / "run", train=tmp_path / "list.csv")
    with pytest.raises(RunError, match="cannot be read for all images: 1 of 8"):
        payout_run(run, budget="5", by="licence")


def test_a_withdrawal_shows_the_difference(made: Path, tmp_path: Path) -> None:
    found = payout_run(
        made / "run", budget="1000", owners=made / "owners.csv", withdrawn=["ann"], resamples=0
    )
    plain = payout_run(
        made / "run", budget="1000", owners=made / "owners.csv", resamples=0
    ).settlement
    assert found.before == plain
    gone = found.settlement.line("ann")
    assert gone is not None
    assert (gone.value, gone.amount, gone.n_images) == (0, 0, 0)
    # bob loses his half of the image that leaves, the others only gain
    moved = {change.owner: change for change in found.changes}
    assert moved["ann"].amount_after - moved["ann"].amount_before < 0
    assert all(moved[name].value_after >= moved[name].value_before for name in NASTY)
    assert sum(each.amount_after - each.amount_before for each in found.changes) == 0
    assert [each.amount_after - each.amount_before for each in found.changes] == sorted(
        each.amount_after - each.amount_before for each in found.changes
    )
    out = found.save(tmp_path / "out")
    rows = table_of(out / "payout_difference.csv")
    assert sum(Fraction(row["amount_change"]) for row in rows) == 0
    assert "withdrawn" in (out / "statements" / safe_name("ann")).read_text("utf-8")
    record = json.loads((out / "payout.json").read_text("utf-8"))
    assert record["withdrawal"].startswith("exact within the recorded contributors")
    everyone = ["ann", "bob", *NASTY[:5]]
    nearly = payout_run(
        made / "run", budget="9", owners=made / "owners.csv", withdrawn=everyone, resamples=0
    )
    lost = nearly.settlement.line(UNATTRIBUTED)
    assert lost is not None
    assert lost.value > 0
    assert sum(line.amount for line in nearly.settlement.lines) == 900


def test_copies_that_count_once_are_paid_once(
    call: Callable[..., tuple[int, str, str]], made: Path, tmp_path: Path
) -> None:
    train = tmp_path / "train"
    for i in range(8):
        write_files(train, {f"{i}.png": (made / "train" / f"{i}.png").read_bytes()})
    write_files(train, {f"0{c}.png": (train / "0.png").read_bytes() for c in "abc"})
    valuator = GMValuator(
        encoder="pixels@8", rerank="none", quality="none", k=3, candidates=4, cache=False
    )
    valuation = valuator.fit(train).value(made / "generated")
    valuation.save(tmp_path / "run")
    owners = tmp_path / "owners.csv"
    owners.write_text("train_id,owner\n0.png,ann\n0a.png,bob\n0b.png,bob\n1.png,cid\n")
    found = payout_run(tmp_path / "run", budget="9", owners=owners, resamples=0)
    values = dict(zip(valuation.train_ids, valuation.values.tolist(), strict=True))
    of_copies = values["0.png"]
    assert of_copies > 0
    expected = {"ann": of_copies, "bob": 2 * of_copies, "cid": values["1.png"]}
    assert {
        line.owner: pytest.approx(line.value) for line in found.settlement.lines if line.is_owner
    } == expected
    # nobody owns 0c.png, so it too may belong to one of the others
    whole = 4 * of_copies
    assert [(each.owners, pytest.approx(each.value)) for each in found.contested or ()] == [
        ((UNASSIGNED, "ann", "bob"), whole)
    ]
    claims = table_of(found.save(tmp_path / "first") / "payout_contested.csv")
    assert {(row["cluster"], row["train_id"], row["owner"], row["share"]) for row in claims} == {
        ("0.png", "0.png", "ann", "1.0"),
        ("0.png", "0a.png", "bob", "1.0"),
        ("0.png", "0b.png", "bob", "1.0"),
        ("0.png", "0c.png", UNASSIGNED, "1.0"),
    }
    told = json.loads((tmp_path / "first" / "payout.json").read_text("utf-8"))["contested"]
    share = whole / valuation.values.sum()
    assert told == {"clusters": 1, "images": 4, "share": pytest.approx(share)}
    command = ("payout", tmp_path / "run", "--owners", owners, "--budget", "9", "--no-statements")
    code, out, _ = call(*command)
    assert code == 0
    assert f"{100 * share:.2f} % of the value is of copies that have different owners (4" in out
    # without the image that stands for its copies, these have its part
    left = payout_run(tmp_path / "run", budget="9", owners=owners, withdrawn=["ann"], resamples=0)
    bob, cid = left.settlement.line("bob"), left.settlement.line("cid")
    assert bob is not None
    assert cid is not None
    assert bob.value == pytest.approx(4 * of_copies * 2 / 3)
    assert cid.value == pytest.approx(values["1.png"])
    page = (left.save(tmp_path / "out") / "statements" / safe_name("bob")).read_text("utf-8")
    assert "0a.png" in page
    assert ">0.png" not in page


def test_changes_cover_lines_that_only_one_side_has() -> None:
    valuation = made_valuation()
    one = divided(valuation, owners_by("x", ["a"] * 6, 6))
    other = divided(valuation, owners_by("x", ["b"] * 6, 6))
    assert [(c.owner, c.amount_before, c.amount_after) for c in changes(one, other)] == [
        ("a", 10_000, 0),
        ("b", 0, 10_000),
    ]


def test_what_goes_to_no_contributor_keeps_its_part(tmp_path: Path) -> None:
    valuation = made_valuation(quality=np.ones(4))
    without = np.array([False, True, False, False])
    tested = replace(
        valuation,
        contributions=valuation.contributions.without(without),
        match_p=np.where(without, 0.05, 0.5),
        record=replace(valuation.record, unattributed=made_test(level=0.1, applied=True)),
    )
    tested.save(tmp_path / "run")
    found = payout_run(
        tmp_path / "run", budget="100", by="label", unowned="redistribute", resamples=50
    )
    line = found.settlement.lines[-1]
    assert (line.owner, line.value, line.amount, line.paid) == (UNATTRIBUTED, 1, 2500, 0)
    assert (found.settlement.paid, found.settlement.kept) == (7500, 2500)


def test_a_run_that_was_touched_is_refused(made: Path, tmp_path: Path) -> None:
    valuation = made_valuation()
    valuation.save(tmp_path / "run")
    replace(valuation, quality=valuation.quality / 2, skipped=(("train", Skip("x", "y")),)).save(
        tmp_path / "other"
    )
    (tmp_path / "run" / "skipped.parquet").write_bytes(
        (tmp_path / "other" / "skipped.parquet").read_bytes()
    )
    with pytest.raises(RunError, match=r"is not as it was saved: skipped.parquet was changed"):
        payout_run(tmp_path / "run", budget="5", by="label")


# --- the command -----------------------------------------------------------------------------


def test_the_command_pays_and_says_what(
    call: Callable[..., tuple[int, str, str]], made: Path, tmp_path: Path
) -> None:
    given = ("payout", made / "run", "--by", "licence", "--out", tmp_path / "out")
    code, out, _ = call(*given, "--budget", "10000", "--currency", "JPY", "--withdraw", "A")
    assert code == 0
    assert "10,000 JPY divided by the values of 6 generated images" in out
    assert "without A:" in out
    assert f"saved in {tmp_path / 'out'}" in out
    code, out, err = call(*given, "--budget", "1", "--json", "--overwrite", "--no-statements")
    assert code == 0
    assert err == ""
    record = json.loads(out)
    assert record == json.loads((tmp_path / "out" / "payout.json").read_text("utf-8"))
    assert list(record["files"]) == ["payout.csv"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--budget", "-5", "--by", "licence"), "budget -5 was given; pass an amount above 0"),
        (("--budget", "5"), "pass either a file of owners"),
        (("--budget", "5", "--by", "licence", "--withdraw", "C"), "owner 'C' is not among the 2"),
        (("--budget", "5", "--by", "licence", "--minimum", "x"), "minimum 'x' is no number"),
        (("--budget", "5", "--by", "licence", "--resamples", "-1"), "pass resamples ≥ 0"),
    ],
)
def test_what_cannot_be_paid_is_one_line(
    call: Callable[..., tuple[int, str, str]],
    made: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    message: str,
) -> None:
    code, out, err = call("payout", made / "run", "--out", tmp_path / "out", *options)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert message in err
    assert not (tmp_path / "out").exists()
