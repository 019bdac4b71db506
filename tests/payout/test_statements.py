"""Statements: letters that say who pays what for what, in any language, and add up."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from browser import new_page, running_browser

from gmvaluator import GMValuator, ImageSet, InputError
from gmvaluator.extension import extend_run
from gmvaluator.payout import Language, Letter, payout_run, read_ledger
from gmvaluator.payout.language import CATALOGUES
from gmvaluator.payout.money import Currency
from gmvaluator.payout.statements import safe_name
from image_makers import encode, random_images, write_files
from page_checks import text_of

Call = Callable[..., tuple[int, str, str]]
OWNERS = [("0", "Ann"), ("1", "Ann"), ("2", "Ann"), ("3", "Bob"), ("4", "Bob"), ("5", "Cy")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `train`, `january`, `february`, owners and the `run` of January."""
    folder = tmp_path_factory.mktemp("made")
    for name, n, seed in (("train", 8, 0), ("january", 6, 1), ("february", 5, 2)):
        pngs = map(encode, random_images(n, seed=seed))
        write_files(folder / name, {f"{i}.png": png for i, png in enumerate(pngs)})
    settings: dict[str, Any] = {"encoder": "pixels@8", "rerank": "none", "quality": "none"}
    valuator = GMValuator(k=3, candidates=4, cache=False, **settings)
    valuator.fit(folder / "train").value(folder / "january").save(folder / "run")
    rows = ["train_id,owner", *(f"{image}.png,{owner}" for image, owner in OWNERS)]
    (folder / "owners.csv").write_text("\n".join(rows))
    return folder


def words_of(folder: Path, owner: str) -> str:
    return text_of(folder / "statements" / safe_name(owner)).replace("\u00a0", " ")


def list_of(folder: Path, owner: str, delimiter: str = ",") -> list[list[str]]:
    file = folder / "statements" / safe_name(owner).replace(".html", ".csv")
    assert file.read_bytes().startswith(b"\xef\xbb\xbf")
    with file.open(encoding="utf-8-sig", newline="") as handle:
        return list(csv.reader(handle, delimiter=delimiter))


def amounts_in(folder: Path) -> dict[str, Decimal]:
    lines = json.loads((folder / "payout.json").read_text("utf-8"))["lines"]
    return {line["owner"]: Decimal(line["amount"]) for line in lines}


def test_two_months_of_the_documented_routine(call: Call, made: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for file in (made / "run").iterdir():
        (run / file.name).write_bytes(file.read_bytes())
    ledger = tmp_path / "ledger.jsonl"

    def paid(budget: str, month: str, *options: object) -> tuple[int, str, str]:
        return call(
            *("payout", run, "--owners", made / "owners.csv", "--budget", budget, *options),
            *("--ledger", ledger, "--minimum", "20", "--period", month, "--resamples", "0"),
            *("--out", tmp_path / "statements" / month, "--payer", "Acme", "--model", "M-1"),
        )

    assert paid("100", "2026-01")[0] == 0
    january = tmp_path / "statements" / "2026-01"
    before = {file: file.read_bytes() for file in january.rglob("*") if file.is_file()}
    # without new images there is nothing to pay, in whatever folder
    code, _, err = paid("100", "2026-02")
    assert code == 4
    assert f"the files of that payout are in {january}" in err
    extend_run(run, ImageSet.open(made / "february"), prefix="february/", cache=False)
    assert paid("50", "2026-02")[0] == 0
    assert {file: file.read_bytes() for file in january.rglob("*") if file.is_file()} == before
    book = read_ledger(ledger)
    assert len(book.entries) == 2
    february = tmp_path / "statements" / "2026-02"
    first, second = ({line["owner"]: line for line in entry["lines"]} for entry in book.entries)
    for owner in ("Ann", "Bob", "Cy"):
        text = words_of(february, owner)
        assert "From Acme" in text
        assert "Model M-1" in text
        assert "Period February 2026" in text
        assert "Statement number 2" in text
        earlier = first[owner]["paid"]
        assert f"Paid to you before {earlier / 100:,.2f} EUR" in text
        assert f"Paid to you to date {(earlier + second[owner]['paid']) / 100:,.2f} EUR" in text
    # a folder holds one settlement
    for options in ((), ("--overwrite",)):
        code, _, err = paid("60", "2026-01", *options)
        assert code == 4
        assert "holds settlement 1 of ledger" in err or "all 11 generated images" in err
    # the last one may be written again, in another language
    code, out, _ = paid("50", "2026-02", "--overwrite", "--language", "de")
    assert code == 0
    assert "made again: this is entry 2" in out
    assert "Zeitraum Februar 2026" in words_of(february, "Ann")
    assert {file: file.read_bytes() for file in january.rglob("*") if file.is_file()} == before
    assert read_ledger(ledger).head == book.head
    # a ledger without the entries of the folders beside it is refused
    ledger.write_text(ledger.read_text().splitlines()[0] + "\n")
    code, _, err = paid("50", "2026-03")
    assert code == 4
    assert "settled as entry 2" in err


def test_a_fault_in_printing_comes_before_the_ledger(
    call: Call, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(payout: object) -> str:
        raise InputError("cannot be printed")

    monkeypatch.setattr("gmvaluator.cli.payout._text", broken)
    code, _, err = call(
        *("payout", made / "run", "--owners", made / "owners.csv", "--budget", "9"),
        *("--ledger", tmp_path / "l.jsonl", "--out", tmp_path / "out"),
    )
    assert (code, "cannot be printed" in err) == (2, True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("language", "delimiter", "sign"), [("en", ",", "."), ("de", ";", ",")])
def test_the_list_of_images_adds_up_to_the_amount(
    made: Path, tmp_path: Path, language: str, delimiter: str, sign: str
) -> None:
    payout = payout_run(made / "run", budget="1", owners=made / "owners.csv", resamples=0)
    out = payout.save(tmp_path / "out", letter=Letter(language=Language.named(language)))
    for owner, amount in amounts_in(out).items():
        if owner == "(unassigned)":
            continue
        _, *rows = list_of(out, owner, delimiter)
        images = {row[0] for row in rows}
        assert images <= {f"{image}.png" for image, name in OWNERS if name == owner}
        assert sum(Decimal(row[3].replace(sign, ".")) for row in rows) == amount
        assert all(re.fullmatch(rf"\d+{re.escape(sign)}\d\d", row[3]) for row in rows)


def test_a_statement_has_no_words_of_engineers(made: Path, tmp_path: Path) -> None:
    payout = payout_run(
        made / "run", budget="100", owners=made / "owners.csv", minimum="1000", resamples=50
    )
    out = payout.save(tmp_path / "out")
    for page in (out / "statements").glob("*.html"):
        text = text_of(page)
        assert not re.search(r"bootstrap|minor unit|`|\de-\d\d|None|SHA|\{|\}", text)
    ann = words_of(out, "Ann")
    assert "in about 95% of all cases" in ann
    assert "The smallest amount that is paid out is 1,000.00 EUR" in ann
    assert "is paid to no owner and stays with the payer" in ann
    assert "is the part of training images for which no owner is named" in ann
    for absent in ("Statement number", "From ", "Model ", "Period", "Paid to you before"):
        assert absent not in ann


def test_who_withdrew_reads_so(made: Path, tmp_path: Path) -> None:
    payout = payout_run(
        made / "run", budget="100", owners=made / "owners.csv", withdrawn=["Ann"], resamples=0
    )
    out = payout.save(tmp_path / "out")
    ann, bob = words_of(out, "Ann"), words_of(out, "Bob")
    assert "You have withdrawn" in ann
    assert "Images left out: 3" in ann
    assert "images of yours: 0" not in ann
    assert "You have withdrawn" not in bob
    assert "Another owner has withdrawn" in bob
    assert "Ann" not in bob


def test_statements_print_on_whole_white_pages(made: Path, tmp_path: Path) -> None:
    payout = payout_run(made / "run", budget="100", owners=made / "owners.csv", resamples=50)
    out = payout.save(tmp_path / "out", letter=Letter("Acme", "M-1", "2026-01"))
    with running_browser() as browser:
        page, complaints = new_page(browser)
        page.goto((out / "statements" / safe_name("Ann")).as_uri())
        for paper in ("A4", "Letter"):
            assert page.pdf(format=paper).startswith(b"%PDF")
        page.emulate_media(media="print", color_scheme="dark")
        paper_color = page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor")
        assert paper_color == "rgb(255, 255, 255)"
        for whole in (".card", "tr", "figure"):
            breaks = page.locator(whole).evaluate_all(
                "all => all.map(e => getComputedStyle(e).breakInside)"
            )
            assert breaks
            assert set(breaks) == {"avoid"}
        assert complaints == []


# --- languages -------------------------------------------------------------------------------


def test_numbers_and_dates_are_of_the_language() -> None:
    english, german = Language.named("en"), Language.named("de")
    euro, yen = Currency.named("EUR"), Currency.named("JPY")
    assert english.money(euro, 123456) == "1,234.56\u00a0EUR"
    assert german.money(euro, 123456) == "1.234,56\u00a0EUR"
    assert german.money(yen, 1234) == "1.234\u00a0JPY"
    assert english.money(euro, 10**40 + 1, code=False).endswith(",000.01")
    assert (english.percent(0.1234), german.percent(0.1234)) == ("12.34%", "12,34\u00a0%")
    assert english.percent(1e-9) == "less than 0.01%"
    assert english.percent(0) == "0.00%"
    assert german.date("2026-03-01T23:00:00+00:00") == "1. März 2026"
    assert german.period("2026-03") == "März 2026"
    assert german.period("Frühling") == "Frühling"


@pytest.mark.parametrize("name", [file.stem for file in CATALOGUES.glob("*.toml")])
def test_every_catalogue_is_whole(name: str) -> None:
    assert Language.named(name).code == name


def test_a_catalogue_of_the_users_own(call: Call, made: Path, tmp_path: Path) -> None:
    text = (CATALOGUES / "en.toml").read_text("utf-8")
    file = tmp_path / "ar.toml"
    file.write_text(text.replace('"en"', '"ar"').replace('"Statement"', '"كشف"'), "utf-8")
    out = tmp_path / "out"
    given = ("payout", made / "run", "--owners", made / "owners.csv", "--budget", "9", "--out", out)
    code, _, _ = call(*given, "--language", file)
    assert code == 0
    page = (out / "statements" / safe_name("Ann")).read_text("utf-8")
    assert '<html lang="ar" dir="rtl">' in page
    assert "كشف" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: re.sub(r"(?m)^kept = .*$", "", text), "lacks kept;"),
        (lambda text: text + 'more = "x"\n', "has more, which"),
        (lambda text: text.replace("{earned}", "{earnt}"), "sentence how_share .* {earned}"),
        (lambda text: text.replace("{earned}", "{earned!r}"), "cannot be filled in"),
        (lambda text: text.replace("{earned}", "{"), "cannot be filled in"),
        (lambda text: text.replace('"Model"', "5"), "sentence model .* cannot be filled in"),
        (lambda text: text.replace('"en"', '"xx-yy"'), "has locale 'xx-yy', which is unknown"),
        (lambda text: text + "=", "cannot be read"),
    ],
)
def test_a_catalogue_that_would_fail_is_refused_before_work(
    call: Call, tmp_path: Path, change: Callable[[str], str], message: str
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(change((CATALOGUES / "en.toml").read_text("utf-8")), "utf-8")
    # before the run is opened: it is not there
    code, _, err = call("payout", tmp_path / "no-run", "--budget", "1", "--language", file)
    assert code == 2
    assert re.search(message, err)
    with pytest.raises(InputError, match="no language 'klingon'; choose one of de, en"):
        Language.named("klingon")
