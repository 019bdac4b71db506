"""How certain a run says it is: intervals, the curve, the advice, the command."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from gmvaluator import InputError, Valuation
from gmvaluator.certainty import uncertainty
from gmvaluator.certainty.intervals import bootstrap_shares, value_intervals
from gmvaluator.certainty.uncertainty import (
    Agreement,
    Growth,
    Uncertainty,
    halves,
    label_shares,
    rounded,
    uncertainty_run,
)
from gmvaluator.cli import cli
from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.runs.record import RecordedSettings, RunRecord
from gmvaluator.runs.verify import verify_run
from gmvaluator.scoring.scores import Contributions

FLAT = (0.200, 0.200, 0.2005)
"""Agreement that grows so little that e^710 images and more would be needed for 0.9."""


def made(m: int = 64, n: int = 40, k: int = 4, seed: int = 0) -> Valuation:
    """Images of two classes; contributors are mostly of the generated image's class."""
    random = np.random.default_rng(seed)
    labels = random.integers(2, size=m)
    chance = np.linspace(2, 0, n // 2)
    first = np.concatenate([chance + 0.1, chance * 0.1 + 0.01])
    likely = [first / first.sum(), first[::-1] / first.sum()]
    rows = np.stack([random.choice(n, k, replace=False, p=likely[d]) for d in labels])
    quality = random.uniform(0.5, 1, size=m)
    scores = random.dirichlet(np.ones(k), size=m) * quality[:, None]
    return Valuation(
        train_ids=tuple(f"t{i}" for i in range(n)),
        train_labels=tuple("0" if i < n // 2 else "1" for i in range(n)),
        generated_ids=tuple(f"g{j}" for j in range(m)),
        generated_labels=tuple(str(d) for d in labels),
        quality=quality,
        contributions=Contributions(
            rows, np.sort(random.random((m, k)), axis=1).astype(np.float32), scores, n
        ),
        skipped=(),
        record=RunRecord(RecordedSettings({}), n_train=n, n_generated=m),
    )


def test_growth_finds_the_formula_of_spearman_and_brown() -> None:
    ms, c = [10, 20, 40, 80], 30
    growth = Growth.fit(ms, [m / (m + c) for m in ms])
    assert growth is not None
    assert growth.b == pytest.approx(1)
    assert growth.at(300) == pytest.approx(300 / 330)
    assert growth.needed(0.9) == pytest.approx(9 * c)


def test_growth_that_cannot_be_said() -> None:
    assert Growth.fit([10, 20, 40], [0.5, 0.4, 0.3]) is None
    assert Growth.fit([10, 20, 40], [float("nan"), 0.0, 0.3]) is None
    steep = Growth.fit([10, 20, 40], [0.01, 0.2, 0.9])
    assert steep is not None
    assert steep.b == 1  # never more hopeful than independent parts allow


def test_agreement_that_hardly_grows_needs_more_images_than_a_float_holds() -> None:
    flat = Growth.fit([10, 20, 40], FLAT)
    assert flat is not None
    assert flat.needed(0.9) == math.inf
    assert (
        "more than 20 times as many images" in replace(uncertainty_run(made()), ranks=flat).advice()
    )


def test_the_command_ends_well_where_agreement_hardly_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreements = [Agreement(m, r, r) for m, r in zip((16, 32, 64), FLAT, strict=True)]
    monkeypatch.setattr(uncertainty, "halves", lambda *_, **__: agreements)
    made().save(tmp_path / "run")
    done = CliRunner().invoke(cli, ["uncertainty", str(tmp_path / "run"), "--json"])
    assert done.exit_code == 0, done.output
    for text in (done.output, (tmp_path / "run" / "uncertainty.json").read_text()):
        details = json.loads(text, parse_constant=pytest.fail)["details"]
        assert details["images_needed"] is None
        assert "more than 20 times as many images" in details["advice"]


def test_the_expected_agreement_is_what_more_images_give() -> None:
    """From a sixteenth of the images: what halves of all of them have, measured."""
    whole = made(m=1024)
    measured = halves(whole, repeats=4)[-1].ranks
    small = replace(
        whole,
        generated_ids=whole.generated_ids[:256],
        contributions=whole.contributions.select(slice(256)),
    )
    curve = halves(small)
    growth = Growth.fit([each.m for each in curve], [each.ranks for each in curve])
    assert growth is not None
    assert growth.at(512) == pytest.approx(measured, abs=0.08)


def test_sets_are_disjoint_and_all_images_count() -> None:
    found = halves(made(m=33), repeats=2)
    assert [each.m for each in found] == [2, 4, 8, 16]
    alike = replace(made(m=4), contributions=Contributions(
        np.tile(np.arange(4), (4, 1)), np.zeros((4, 4), np.float32),
        np.tile([[0.4, 0.3, 0.2, 0.1]], (4, 1)), 40))  # fmt: skip
    found = halves(alike)
    assert [each.m for each in found] == [1, 2]
    assert [each.ranks for each in found] == pytest.approx([1, 1])


def test_shares_of_labels_sum_to_one_inside_their_intervals() -> None:
    shares = label_shares(made())
    assert list(shares) == ["0", "1"]
    assert sum(each.mean for each in shares.values()) == pytest.approx(1)
    assert all(each.low < each.mean < each.high for each in shares.values())
    # of two groups, one's upper end is nearly the other's lower
    assert shares["0"].high == pytest.approx(1 - shares["1"].low, abs=0.01)
    partly = replace(made(), train_labels=(None, *["1"] * 39))
    assert set(label_shares(partly)) == {"(no label)", "1"}
    assert label_shares(replace(made(), train_labels=None)) == {}


def test_many_labels_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends do not depend on how many labels are held at once."""
    many = replace(made(), train_labels=tuple(f"{i % 10}" for i in range(40)))
    whole, widths = label_shares(many), []

    def seen(scores: NDArray[np.float64], **options: Any) -> Any:
        widths.append(scores.shape[1])
        return bootstrap_shares(scores, **options)

    monkeypatch.setattr("gmvaluator.certainty.uncertainty.SCORES_BY_LABEL", 3 * 64)
    monkeypatch.setattr("gmvaluator.certainty.uncertainty.bootstrap_shares", seen)
    parts = label_shares(many)
    assert widths == [3, 3, 3, 1]
    assert list(parts) == list(whole)
    for name, each in parts.items():
        found = (each.mean, each.low, each.high)
        assert found == pytest.approx((whole[name].mean, whole[name].low, whole[name].high))


def test_copies_share_their_cluster_in_ends_and_groups() -> None:
    single = made()
    copies = np.arange(40)
    copies[39] = 0  # the last, of label 1, is a copy of the first, of label 0
    held = single.contributions
    rows = np.where(held.rows == 39, 38, held.rows)
    counted = replace(single, contributions=replace(held, rows=rows))
    shared = replace(counted, clusters=Clusters.exact(copies))
    alone, both = uncertainty_run(counted), uncertainty_run(shared)
    np.testing.assert_allclose(both.low[[0, 39]], alone.low[0] / 2)
    np.testing.assert_allclose(both.high[[0, 39]], alone.high[0] / 2)
    np.testing.assert_allclose(both.low[1:39], alone.low[1:39])
    assert both.effective[39] == both.effective[0] > 0
    assert bool(np.all((both.low <= shared.values) & (shared.values <= both.high)))
    moved = alone.labels["0"].mean - both.labels["0"].mean
    assert moved == pytest.approx(counted.values[0] / 2 / counted.values.sum())


def test_the_class_test_has_intervals() -> None:
    found = uncertainty_run(made()).criteria
    for each in found.values():
        assert 0 < each.low < each.mean < each.high < 1
    assert uncertainty_run(replace(made(), generated_labels=None)).criteria == {}


@pytest.mark.parametrize(
    ("m", "needed", "words"),
    [
        (100, 900, "0.9 needs about 900 generated images, 9.0 times as many"),
        (2000, 900, "That is enough: 0.9 needs about 900 images"),
        (10, 900, "0.9 needs more than 20 times as many images"),
    ],
)
def test_advice_is_in_words(m: int, needed: float, words: str) -> None:
    growth = Growth(float(-np.log((needed - 0.5) / 9)), 1.0)
    assert words in replace(uncertainty_run(made()), ranks=growth, m=m).advice()


def test_too_few_images_for_advice_are_told_so() -> None:
    found = uncertainty_run(made(m=2))
    assert found.agreements == ()
    assert "2 generated images are too few to say" in found.advice()
    assert found.result().plots == {}


def test_rounding_goes_up() -> None:
    assert [rounded(x) for x in (0.3, 7.2, 99.5, 101, 1_234)] == [1, 8, 100, 110, 1_300]


def test_what_is_written(tmp_path: Path) -> None:
    valuation = made()
    found: Uncertainty = uncertainty_run(valuation, level=0.9)
    files = found.save(tmp_path)
    names = ["intervals.parquet", "uncertainty.json", "uncertainty.md", "uncertainty-agreement.svg"]
    assert [file.name for file in files] == names
    table = pq.read_table(tmp_path / "intervals.parquet")
    assert table.column_names == ["train_id", "value", "low", "high", "few"]
    assert tuple(table["train_id"].to_pylist()) == valuation.train_ids
    low, high = value_intervals(valuation.contributions, level=0.9)
    np.testing.assert_array_equal(table["low"], low)
    np.testing.assert_array_equal(table["high"], high)
    content = json.loads((tmp_path / "uncertainty.json").read_text())
    assert content["parameters"] == {"level": 0.9, "m": 64, "n_train": 40}
    assert content["details"]["few"] == sum(table["few"].to_pylist())
    assert content["details"]["advice"] in content["notes"]
    assert (tmp_path / "uncertainty-agreement.svg").read_text().startswith("<?xml")


def test_the_command(tmp_path: Path) -> None:
    made().save(tmp_path / "run")
    done = CliRunner().invoke(cli, ["uncertainty", str(tmp_path / "run"), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["details"]["images_needed"] > 0
    assert (tmp_path / "run" / "intervals.parquet").is_file()
    # the run itself is as it was
    Valuation.load(tmp_path / "run")
    text = CliRunner().invoke(cli, ["uncertainty", str(tmp_path / "run"), "--quiet"]).output
    assert "Another 64 images of the same model" in text
    wrong = CliRunner().invoke(cli, ["uncertainty", str(tmp_path / "run"), "--level", "95"])
    assert "level=95.0 was given; pass a number between 0 and 1" in str(wrong.exception)
    wrong = CliRunner().invoke(cli, ["uncertainty", str(tmp_path / "run"), "--seed", "-1"])
    assert wrong.exit_code == 2
    with pytest.raises(InputError, match="seed=-1 is too small; pass seed ≥ 0"):
        uncertainty_run(made(), seed=-1)


def test_what_was_said_of_another_run_is_told(tmp_path: Path) -> None:
    made().save(tmp_path / "run")
    uncertainty_run(tmp_path / "run").save(tmp_path / "run")
    kept = (tmp_path / "run" / "uncertainty.json").read_bytes()
    found = {each.name: each for each in verify_run(tmp_path / "run").checks}
    assert found["uncertainty.json"].found == ("made of this run",)
    made(seed=1).save(tmp_path / "run", overwrite=True)
    (tmp_path / "run" / "uncertainty.json").write_bytes(kept)
    found = {each.name: each for each in verify_run(tmp_path / "run").checks}
    assert found["uncertainty.json"].found == (
        "it was made of another run; move it and its files away, or make it again of this one "
        "(--overwrite)",
    )


def test_a_run_of_one_image_has_no_intervals(tmp_path: Path) -> None:
    made(m=1).save(tmp_path / "run")
    done = CliRunner().invoke(cli, ["uncertainty", str(tmp_path / "run")])
    assert isinstance(done.exception, InputError)
    assert "1 generated image has no interval" in str(done.exception)
    assert not (tmp_path / "run" / "intervals.parquet").exists()
