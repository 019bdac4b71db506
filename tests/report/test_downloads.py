"""Tables that the browser makes from the file: complete, quoted, in UTF-8."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from gmvaluator.report import report_run
from gmvaluator.runs.folder import Run
from page_checks import opened_page
from run_makers import renamed_run

IDS = ('a,b/"quoted".png', "line\r\nbreak", "Ελληνικά/☀ العربية 🙂.png", "=1+1", "'=2", "plain")


def downloaded(page: Page, button: str) -> tuple[str, bytes]:
    with page.expect_download() as download:
        page.locator(button).click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def rows_of(content: bytes) -> list[dict[str, str]]:
    assert content.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


@pytest.fixture(scope="module")
def named(run: Run) -> Run:
    """The run, with ids that a careless table would break."""
    return renamed_run(run, lambda row: f"{IDS[row % len(IDS)]}{row}")


@pytest.fixture(scope="module")
def page(named: Run, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Page:
    file = report_run(named, tmp_path_factory.mktemp("downloads") / "page.html")
    return opened_page(browser, file)[0]


def safe(name: str) -> str:
    """As a spreadsheet may read it: formulas get an apostrophe in front."""
    return f"'{name}" if name.startswith(("=", "'=")) else name


def test_values_are_those_of_the_run(page: Page, named: Run) -> None:
    name, content = downloaded(page, "#csv-values")
    rows = rows_of(content)
    valuation = named.valuation
    assert name == "values.csv"
    assert [row["train_id"] for row in rows] == [safe(name) for name in named.train.ids]
    assert [float(row["value"]) for row in rows] == valuation.values.tolist()
    assert [int(row["rank"]) for row in rows] == valuation.ranks.tolist()
    assert [int(row["n_supported"]) for row in rows] == valuation.n_supported.tolist()
    assert [row["label"] for row in rows] == list(named.train.labels or ())
    assert content.count(b"\r\n") >= 31


def test_contributions_are_those_of_the_run(page: Page, named: Run) -> None:
    name, content = downloaded(page, "#csv-contributions")
    rows = rows_of(content)
    contributions = named.valuation.contributions
    m, k = contributions.rows.shape
    assert (name, len(rows)) == ("contributions.csv", m * k)
    assert [row["generated_id"] for row in rows[::k]] == [safe(i) for i in named.generated.ids]
    assert [int(row["rank"]) for row in rows] == list(range(1, k + 1)) * m
    trained = [safe(named.train.ids[at]) for at in contributions.rows.ravel()]
    assert [row["train_id"] for row in rows] == trained
    for heading, cells in (("score", contributions.scores), ("distance", contributions.distances)):
        read = np.array([float(row[heading]) for row in rows], dtype=np.float32)
        np.testing.assert_array_equal(read, cells.ravel().astype(np.float32))


def test_a_list_is_downloaded_as_it_is_chosen(page: Page, named: Run) -> None:
    page.locator("#train-search").fill("plain")
    expect(page.locator("#train-place")).to_have_text("1–5 of 5")
    page.locator("#train-filter").select_option(index=1)
    ids = np.array(named.train.ids)
    wanted = [
        ids[row]
        for row in np.argsort(named.valuation.ranks)
        if "plain" in ids[row] and named.valuation.n_supported[row]
    ]
    expect(page.locator("#train-place")).to_have_text(f"1–{len(wanted)} of {len(wanted)}")
    name, content = downloaded(page, "#train-csv")
    assert (name, [row["train_id"] for row in rows_of(content)]) == ("train-list.csv", wanted)
    page.locator("#generated-label").select_option("class1")
    _, content = downloaded(page, "#generated-csv")
    rows = rows_of(content)
    assert {row["label"] for row in rows} == {"class1"}
    quality = dict(zip(map(safe, named.generated.ids), named.valuation.quality, strict=True))
    assert {row["generated_id"]: float(row["quality"]) for row in rows}.items() <= quality.items()
    _, content = downloaded(page, "#csv-generated")
    assert len(rows_of(content)) == 15
