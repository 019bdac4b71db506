"""Values summed by a column."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmvaluator import InputError
from gmvaluator.report import report_run
from gmvaluator.report.tables import sum_groups
from gmvaluator.runs.folder import Run, open_run
from gmvaluator.runs.formatting import format_number
from page_checks import text_of


def test_sums_by_a_column_are_those_of_the_values(run: Run, home: Path) -> None:
    values = run.valuation.values
    groups = sum_groups(values, run.train.column("label"))
    assert [group.name for group in groups] == sorted(
        ("class0", "class1"), key=lambda name: -values[[name in i for i in run.train.ids]].sum()
    )
    assert sum(group.total for group in groups) == pytest.approx(values.sum())
    assert [group.count for group in groups] == [15, 15]
    ids = run.train.ids
    owners = ["path,owner", *(f"{name},<i>{at % 3}" for at, name in enumerate(ids))]
    (home / "train" / "list.csv").write_text("\n".join(owners))
    found = open_run(home / "run", train=home / "train" / "list.csv")
    page = report_run(found, home / "owners.html", metadata=["owner"])
    shown = re.findall(
        r"<th scope=\"row\"><bdi>&lt;i&gt;(\d)</bdi></th><td>10</td><td>([\d.]+)", page.read_text()
    )
    wanted = {str(at): format_number(values[at::3].sum()) for at in range(3)}
    assert dict(shown) == wanted
    with pytest.raises(InputError, match="no column 'licence'"):
        report_run(found, home / "none.html", metadata=["licence"])
    assert not (home / "none.html").exists()


def test_images_without_a_cell_have_groups_of_their_own(run: Run, home: Path) -> None:
    values = run.valuation.values
    ids = run.train.ids
    owners = ["none", "(no longer listed)", ""]
    rows = ["path,owner", *(f"{name},{owners[at % 3]}" for at, name in enumerate(ids[:21]))]
    (home / "train" / "list.csv").write_text("\n".join(rows))
    train = open_run(home / "run", train=home / "train" / "list.csv").train
    cells = [None if cell in (None, "") else cell for cell in train.column("owner")]
    groups = sum_groups(values, cells, train.gone("owner"))
    found = {(group.name, group.named): (group.count, group.total) for group in groups}
    wanted = {
        ("none", True): values[:21:3],
        ("(no longer listed)", True): values[1:21:3],
        ("(no entry)", False): values[2:21:3],
        ("(no longer listed)", False): values[21:],
    }
    assert found.keys() == wanted.keys()
    for name, of in wanted.items():
        assert found[name] == pytest.approx((len(of), of.sum()))
    assert train.gone("owner").sum() == 9
    # labels are the run's own: no image has lost its label
    assert not train.gone("label").any()
    moved = open_run(home / "run", train=home / "train" / "list.csv")
    page = report_run(moved, home / "page.html", metadata=["owner"]).read_text()
    assert page.count("9 of 30 training images are no longer listed in the set. Their") == 1
    assert page.count("<em>(no longer listed)</em></th><td>9</td>") == 1
    assert page.count("<bdi>(no longer listed)</bdi></th><td>7</td>") == 1


def test_values_below_0_have_totals_and_no_shares(run: Run, tmp_path: Path) -> None:
    values = np.array([3.0, -1.0, -1.0, 0.5])
    groups = sum_groups(values, ["a", "b", "b", "a"])
    assert [(group.name, group.total, group.share) for group in groups] == [
        ("a", 3.5, None),
        ("b", -2.0, None),
    ]
    found = run.valuation.contributions
    signed = replace(found, scores=found.scores - found.scores.mean())
    valuation = replace(run.valuation, contributions=signed)
    text = text_of(report_run(replace(run, valuation=valuation), tmp_path / "page.html"))
    below = int((valuation.values < 0).sum())
    assert below > 0
    assert f"{below} values are below 0, so there are no shares of a whole" in text
    assert "share of value" not in text
    assert "How value is spread" not in text
