"""Columns, lines and orders of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from gmvaluator.report import columns as report_columns
from gmvaluator.report import page as report_page
from gmvaluator.report import report_run
from gmvaluator.report import tables as report_tables
from gmvaluator.report.columns import Line, spread_order
from gmvaluator.report.tables import GroupColumn
from gmvaluator.runs.folder import Run
from page_checks import opened_page


@pytest.mark.parametrize("m", [1, 2, 3, 12, 200, 1000])
def test_any_number_of_first_rows_spans_the_whole(m: int) -> None:
    order = spread_order(m)
    np.testing.assert_array_equal(np.sort(order), np.arange(m))
    for first in (2, 8, 50):
        if first < m:
            gaps = np.diff(np.sort(np.concatenate([order[:first], [m]])))
            assert gaps.max() <= 4 * m / first


def test_a_column_and_a_line_make_a_field_of_every_card(
    run: Run, tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns, lines = report_columns.image_columns, report_columns.card_lines

    def with_owner(run: Run) -> Any:
        made = columns(run)
        made["train"]["owner"] = [f"<b>{name}" for name in run.train.ids]
        return made

    def with_owner_lines(valuation: Any) -> Any:
        made = lines(valuation)
        return made | {"train": (*made["train"], Line("owner", "owner {}"))}

    monkeypatch.setattr(report_page, "image_columns", with_owner)
    monkeypatch.setattr(report_page, "card_lines", with_owner_lines)
    columns_of_groups = (*report_tables.GROUP_COLUMNS, GroupColumn("half", lambda group, _: "½"))
    monkeypatch.setattr(report_tables, "GROUP_COLUMNS", columns_of_groups)
    page, complaints = opened_page(browser, report_run(run, tmp_path / "page.html"))
    owners = page.locator("#train-list small", has_text="owner <b>")
    expect(owners).to_have_count(20)
    page.locator("#train-next").click()
    expect(owners).to_have_count(10)
    assert page.locator("#group-1 td", has_text="½").count() == 2
    assert complaints == []


def test_records_hold_what_is_no_json_as_text(run: Run, tmp_path: Path, browser: Browser) -> None:
    contributions = run.valuation.contributions
    distances = contributions.distances.copy()
    distances[0] = np.inf
    valuation = replace(run.valuation, contributions=replace(contributions, distances=distances))
    changed = replace(run, valuation=valuation)
    images = report_columns.Images(valuation, report_columns.image_columns(changed))
    record = images.generated_record(0)
    assert [record["nearest"], record["contributors"][3]["distance"]] == ["inf", "inf"]
    assert record["quality"] == run.valuation.quality[0]
    page, complaints = opened_page(browser, report_run(changed, tmp_path / "page.html"))
    assert page.locator(".gen .cons small", has_text="d inf").count() == 10
    assert complaints == []
