"""`gmvaluator diff`: what differs between two runs, and when they count as equal."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gmvaluator import GMValuator, InputError, Valuation
from gmvaluator.certainty import diff_runs
from gmvaluator.certainty.difference import Entry, Sets
from image_makers import encode, image_folder, random_images

Call = Callable[..., tuple[int, str, str]]
SETTINGS: dict[str, Any] = {
    "encoder": "pixels@8",
    "rerank": "none",
    "quality": "none",
    "cache": False,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of 30 images: `run`, `again` (the same), `narrow` (k 3) and `more` (other images)."""
    home = tmp_path_factory.mktemp("difference")
    image_folder(home / "train", 30)
    image_folder(home / "gen", 6, seed=1)
    run = GMValuator(k=5, **SETTINGS).fit(home / "train").value(home / "gen")
    run.save(home / "run")
    weights, versions = {"net": "a" * 64}, {**(run.record.versions or {}), "numpy": "1.0"}
    replace(run, record=replace(run.record, weights=weights, versions=versions)).save(
        home / "again"
    )
    GMValuator(k=3, **SETTINGS).fit(home / "train").value(home / "gen").save(home / "narrow")
    (home / "gen" / "class0" / "new.png").write_bytes(encode(random_images(1, seed=9)[0]))
    (home / "train" / "class0" / "000.png").write_bytes(encode(random_images(1, seed=8)[0]))
    GMValuator(k=5, **SETTINGS).fit(home / "train").value(home / "gen").save(home / "more")
    return home


def test_runs_of_the_same_values_are_equal_whatever_made_them(home: Path) -> None:
    same = diff_runs(home / "run", home / "again")
    assert same.equal
    assert (same.settings, same.change, same.largest) == ((), 0, ())
    assert same.weights == (Entry("net", None, "a" * 64),)
    assert [(entry.name, entry.second) for entry in same.versions] == [("numpy", "1.0")]
    assert same.ranks == pytest.approx(1)
    assert (same.train, same.generated) == (Sets(30, 0, 0, 0), Sets(6, 0, 0, 0))


def test_a_setting_that_changes_values_is_named_with_the_largest_changes(home: Path) -> None:
    narrow = diff_runs(home / "run", home / "narrow", largest=4)
    assert not narrow.equal
    assert [(entry.name, entry.first, entry.second) for entry in narrow.settings] == [("k", 5, 3)]
    one, two = Valuation.load(home / "run"), Valuation.load(home / "narrow")
    idle = [int((run.values == 0).sum()) for run in (one, two)]
    assert 0 < idle[0] < idle[1]
    text = narrow.as_text()
    assert f"training images that contributed to nothing: {idle[0]} and {idle[1]}\n" in text
    gaps = abs(two.values - one.values)
    first = narrow.largest[0]
    assert first.train_id == one.train_ids[int(gaps.argmax())]
    assert abs(first.second - first.first) == pytest.approx(gaps.max())
    assert len(narrow.largest) == 4
    assert narrow.change == pytest.approx(gaps.max() / max(one.values.max(), two.values.max()))
    # as far apart as they are, they count as equal
    assert diff_runs(home / "run", home / "narrow", tolerance=narrow.change).equal


def test_other_images_are_counted_and_never_equal(home: Path) -> None:
    more = diff_runs(home / "run", home / "more", tolerance=1e9)
    assert more.train == Sets(30, 0, 0, 1)
    assert more.generated == Sets(6, 0, 1, 0)
    assert not more.equal
    text = more.as_text()
    assert "0 only in" in text
    assert "; 1 have another content" in text
    assert text.endswith("different: the runs are of other images")


def test_numbers_that_cannot_be_are_refused(home: Path) -> None:
    for tolerance in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="pass a number of 0 or more"):
            diff_runs(home / "run", home / "again", tolerance=tolerance)
    with pytest.raises(InputError, match="-1 changes were asked for"):
        diff_runs(home / "run", home / "again", largest=-1)


def test_the_command_exits_by_the_result(call: Call, home: Path) -> None:
    status, out, _ = call("diff", home / "run", home / "again")
    assert status == 0
    assert out.rstrip().endswith("equal: no value changes by more than 0 % of the largest value")
    status, out, _ = call("diff", home / "run", home / "narrow", "--largest", "2", "--json")
    found = json.loads(out)
    assert (status, found["equal"], len(found["largest"])) == (1, False, 2)
    assert found["settings"] == [{"name": "k", "first": 5, "second": 3}]
    status, out, _ = call("diff", home / "run", home / "narrow")
    assert status == 1
    assert "Largest changes" in out
    assert call("diff", home / "run", home / "narrow", "--tolerance", "5")[0] == 0
    status, _, err = call("diff", home / "run", home / "train")
    assert (status, "is no run folder" in err) == (4, True)


def test_runs_of_earlier_versions_are_compared(call: Call) -> None:
    runs = Path(__file__).parents[1] / "frozen" / "recorded" / "runs"
    status, out, _ = call("diff", runs / "older", runs / "plain")
    assert status in (0, 1)
    assert "agreement of ranks" in out
