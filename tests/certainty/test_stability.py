"""Valuing a run again with one setting changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import spearmanr

from gmvaluator import GMValuator, InputError, RunError, Valuation
from gmvaluator.certainty.stability import (
    Comparison,
    default_variants,
    distance_variant,
    encoder_variant,
    k_variant,
    stability_run,
    temperature_variant,
)
from gmvaluator.cli import cli
from gmvaluator.files.seals import unsealed
from gmvaluator.runs.record import RecordedSettings
from gmvaluator.runs.verify import verify_run
from image_makers import encode, image_folder, random_images

SMALL: dict[str, Any] = {
    "encoder": "pixels@8",
    "k": 4,
    "candidates": 8,
    "rerank": {"l2": 1.0},
    "quality": "none",
}
SETTINGS: dict[str, Any] = SMALL | {
    "weighting": "softmax",
    "temperature": 1.0,
    "temperature_used": 1.0,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `train`, `generated` and their runs: `run`, and `by rank` of the defaults."""
    folder = tmp_path_factory.mktemp("made")
    image_folder(folder / "train", 24)
    image_folder(folder / "generated", 6, seed=1, classes=0)
    # shares by distances alone, of one recall space: a run suffices for most variants
    by_distance: dict[str, Any] = {"weighting": "softmax", "second_encoder": None, "mirror": False}
    for name, changes in (("run", by_distance), ("by rank", {})):
        valuator = GMValuator(**SMALL, **changes, cache=False)
        valuator.fit(folder / "train").value(folder / "generated").save(folder / name)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "run", tmp_path / "run")


def again(made: Path, run: str = "run", **changes: Any) -> Valuation:
    return GMValuator.refit(made / run, cache=False, **changes).value(made / "generated")


def agreed(found: Comparison, before: Valuation, after: Valuation) -> None:
    """The comparison is that of these two valuations."""
    expected = spearmanr(before.values, after.values).statistic
    assert found.ranks == pytest.approx(expected, abs=1e-6)
    labels = np.asarray(after.train_labels)
    shares = [
        {name: each.values[labels == name].sum() / each.values.sum() for name in np.unique(labels)}
        for each in (before, after)
    ]
    assert found.shares == pytest.approx(shares[1], rel=1e-6)
    moved = sum(abs(shares[1][name] - shares[0][name]) for name in shares[0]) / 2
    assert found.moved == pytest.approx(moved, abs=1e-9)


@pytest.mark.parametrize(
    "variant", [k_variant(2), temperature_variant(0.1), temperature_variant("auto")]
)
def test_what_the_run_suffices_for_is_what_valuing_anew_gives(
    made: Path, run: Path, variant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    anew = again(made, **variant.changes)
    monkeypatch.setattr(GMValuator, "refit", _forbidden)
    found = stability_run(run, [variant]).comparisons[0]
    agreed(found, Valuation.load(run), anew)
    assert found.contributors == 1


@pytest.mark.parametrize("temperature", [0.1, "auto"])
def test_a_run_by_ranks_suffices_for_another_temperature(
    made: Path, tmp_path: Path, temperature: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(made / "by rank", tmp_path / "run")
    before, anew = Valuation.load(run), again(made, "by rank", temperature=temperature)
    assert before.record.settings.weighting == "expected-rank"
    monkeypatch.setattr(GMValuator, "refit", _forbidden)
    found = stability_run(run, [temperature_variant(temperature)]).comparisons[0]
    agreed(found, before, anew)
    assert found.contributors == 1


def test_another_k_of_a_run_by_ranks_is_valued_anew(made: Path, tmp_path: Path) -> None:
    run = shutil.copytree(made / "by rank", tmp_path / "run")
    found = stability_run(run, [k_variant(2)], cache=False).comparisons[0]
    agreed(found, Valuation.load(run), again(made, "by rank", k=2))


def test_every_default_variant_of_a_run_of_the_defaults_works(made: Path, tmp_path: Path) -> None:
    run = shutil.copytree(made / "by rank", tmp_path / "run")
    recorded = Valuation.load(run).record.settings
    assert recorded.second_encoder == "pixels@14"
    variants = default_variants(recorded, ["distance", "k", "temperature"])
    names = {(each.setting, each.name) for each in variants}
    assert ("distance", "none") not in names
    assert ("temperature", "spacing") not in names
    cheap = [each for each in variants if each.name != "efficientnet-lite0"]
    assert len(cheap) == 5
    found = stability_run(run, cheap, cache=False)
    assert len(found.comparisons) == 5
    assert not found.notes


def test_images_without_a_contributor_have_none_in_any_variant(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = GMValuator.refit(made / "run", cache=False, null="withhold", null_level=0.5)
    valuation = strict.value(made / "generated")
    assert 0 < (valuation.unattributed > 0).sum() < 6
    valuation.save(tmp_path / "run")
    changed = GMValuator.refit(tmp_path / "run", cache=False, temperature=0.1)
    anew = changed.value(made / "generated")
    monkeypatch.setattr(GMValuator, "refit", _forbidden)
    agreed(
        stability_run(tmp_path / "run", [temperature_variant(0.1)]).comparisons[0], valuation, anew
    )


@pytest.fixture
def held_out(made: Path, tmp_path: Path) -> Path:
    """A run that applied a null sample held out at `holdout`."""
    image_folder(tmp_path / "holdout", 12, seed=7, classes=0)
    strict = GMValuator.refit(made / "run", cache=False, null="withhold", null_level=0.3)
    valuation = strict.value(made / "generated", holdout=tmp_path / "holdout")
    valuation.save(tmp_path / "run")
    return tmp_path


def test_variants_have_the_null_sample_of_the_run(made: Path, held_out: Path) -> None:
    run, holdout = held_out / "run", held_out / "holdout"
    variant = encoder_variant("pixels@4", requested=True)
    anew = GMValuator.refit(run, cache=False, **variant.changes)
    after = anew.value(made / "generated")
    agreed(stability_run(run, [variant], cache=False).comparisons[0], Valuation.load(run), after)
    moved = holdout.rename(held_out / "moved")
    other = encoder_variant("pixels@2", requested=True)
    with pytest.raises(InputError, match=r"held-out images of run .* cannot be opened .*holdout=…"):
        stability_run(run, [other], cache=False)
    moved_too = GMValuator.refit(run, holdout=moved, cache=False, **variant.changes)
    np.testing.assert_array_equal(moved_too.value(made / "generated").values, after.values)
    without_test = GMValuator.refit(run, null="off", cache=False).value(made / "generated")
    assert without_test.match_p is None
    next(moved.iterdir()).unlink()
    with pytest.raises(RunError, match=r"holdout of run .* has changed since"):
        stability_run(run, [other], holdout=moved, cache=False)


def test_value_of_a_run_takes_its_holdout(made: Path, held_out: Path) -> None:
    asked = ["value", str(held_out / "run"), str(made / "generated"), "--no-cache", "--no-report"]
    done = CliRunner().invoke(cli, [*asked, "--quiet", "--out", str(held_out / "again")])
    assert done.exit_code == 0, done.output
    before, after = (Valuation.load(held_out / name) for name in ("run", "again"))
    assert after.info["unattributed"] == before.info["unattributed"]
    np.testing.assert_array_equal(after.values, before.values)
    (held_out / "holdout").rename(held_out / "moved")
    done = CliRunner().invoke(cli, [*asked, "--out", str(held_out / "third")])
    assert isinstance(done.exception, InputError)
    assert "pass where they are now (--holdout SOURCE)" in str(done.exception)


def test_a_test_that_is_only_reported_is_left_out(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gmvaluator.engine.null_sample.leave_one_out", _forbidden)
    assert stability_run(
        run, [encoder_variant("pixels@4", requested=True)], cache=False
    ).comparisons


def test_another_run_in_the_folder_is_compared_anew(made: Path, run: Path) -> None:
    variant = temperature_variant(0.1)
    first = stability_run(run, [variant]).comparisons[0]
    valuation = again(made)
    scores = np.roll(valuation.contributions.scores, 1, axis=1)
    other = replace(valuation, contributions=replace(valuation.contributions, scores=scores))
    for sealed in (True, False):
        other.save(run, overwrite=True)
        if not sealed:
            info = json.loads((run / "run.json").read_text())
            (run / "run.json").write_text(json.dumps(unsealed(info)))
        assert stability_run(run, [variant]).comparisons[0] != first


def test_the_same_settings_agree_in_everything(run: Path) -> None:
    found = stability_run(run, [k_variant(4)]).comparisons[0]
    assert found.ranks == pytest.approx(1)
    assert (found.top_percent, found.top_hundred) == (1, 1)
    assert found.moved == pytest.approx(0, abs=1e-12)


def test_every_setting_is_varied_once_at_a_time() -> None:
    variants = default_variants(SETTINGS)
    assert [each.setting for each in variants] == sorted(
        (each.setting for each in variants), key=("encoder", "k", "distance", "temperature").index
    )
    assert all(len(each.changes) == 1 for each in variants)
    names = {(each.setting, each.name) for each in variants}
    assert {("k", "2"), ("k", "8"), ("temperature", "0.5"), ("temperature", "auto")} <= names
    assert ("distance", "l2") not in names  # the run's own
    ridge = default_variants(SETTINGS | {"weighting": "ridge"}, ["temperature", "k"])
    assert {each.setting for each in ridge} == {"k"}
    with pytest.raises(InputError, match="no setting 'tau' to vary; choose from encoder, k"):
        default_variants(SETTINGS, ["tau"])


def test_the_distance_of_the_encoder_is_compared_once_and_named(run: Path) -> None:
    lite = SETTINGS | {"encoder": "efficientnet-lite0:root"}
    assert [each.name for each in default_variants(lite, ["distance"])] == ["none"]
    two = default_variants(lite | {"second_encoder": "pixels@8"}, ["distance"])
    assert [each.name for each in two] == ["efficientnet-lite0"]
    other = [distance_variant("none"), distance_variant("pixels@8"), distance_variant("pixels@4")]
    compared = stability_run(run, other, cache=False)
    assert compared.comparisons[0].ranks == compared.comparisons[1].ranks
    assert compared.notes == tuple(
        f"Distance {name} is the distance of the encoder, pixels@8."
        for name in ("none", "pixels@8")
    )


def test_others_are_valued_anew_and_kept(
    made: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = [encoder_variant("pixels@4"), distance_variant("none"), k_variant(12)]
    found = stability_run(run, variants, cache=False)
    agreed(found.comparisons[0], Valuation.load(run), again(made, encoder="pixels@4"))
    assert [each.variant.name for each in found.comparisons] == ["pixels@4", "none", "12"]
    monkeypatch.setattr(GMValuator, "refit", _forbidden)
    assert stability_run(run, variants, cache=False).result().as_json() == found.result().as_json()
    # one more variant is the only new work
    with pytest.raises(AssertionError, match="valued anew"):
        stability_run(run, [*variants, encoder_variant("pixels@2")], cache=False)


def test_interrupted_it_goes_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = encoder_variant("pixels@4"), encoder_variant("pixels@2")
    refit = GMValuator.refit
    calls: list[Any] = []

    def stopping(*args: Any, **changes: Any) -> GMValuator:
        calls.append(changes["encoder"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return refit(*args, **changes)

    monkeypatch.setattr(GMValuator, "refit", stopping)
    with pytest.raises(KeyboardInterrupt):
        stability_run(run, [first, second], cache=False)
    stability_run(run, [first, second], cache=False)
    assert calls == ["pixels@4", "pixels@2", "pixels@2"]


def test_what_cannot_work_is_left_out_unless_asked_for(run: Path) -> None:
    found = stability_run(run, [k_variant(99), k_variant(2)], cache=False)
    assert [each.variant.name for each in found.comparisons] == ["2"]
    assert found.notes[0].startswith("k 99 is left out: ")
    assert "24 training images" in found.notes[0]
    with pytest.raises(InputError, match="k=99 exceeds the 24 training images"):
        stability_run(run, [k_variant(99, requested=True)], cache=False)
    with pytest.raises(InputError, match="temperature=-1"):
        stability_run(run, [temperature_variant(-1.0, requested=True)], cache=False)


def test_images_that_are_others_now_are_refused(made: Path, run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(made / "generated", tmp_path / "generated")
    file = next(iter(sorted(other.rglob("*.png"))))
    file.write_bytes(encode(random_images(1, 8, seed=5)[0]))
    with pytest.raises(RunError, match=r"generated images of run .* have changed since"):
        stability_run(run, [encoder_variant("pixels@4")], generated=other, cache=False)


def test_groups_of_ones_own(run: Path) -> None:
    found = stability_run(run, [k_variant(1)], groups=["mine", *[None] * 23]).comparisons[0]
    assert set(found.shares) == {"mine", "(none)"}
    with pytest.raises(InputError, match="2 groups for 24 training images; pass one each"):
        stability_run(run, [k_variant(1)], groups=["a", "b"])


def test_a_run_of_another_valuer_is_told_so(made: Path, tmp_path: Path) -> None:
    valuation = Valuation.load(made / "run")
    other = replace(valuation.record, settings=RecordedSettings({"valuer": "trak"}))
    replace(valuation, record=other).save(tmp_path / "trak")
    with pytest.raises(InputError, match="was not made by GMValuator"):
        stability_run(tmp_path / "trak", [k_variant(1)])


def test_the_command(run: Path) -> None:
    asked = ["--k", "2", "--temperature", "auto", "--distance", "l2=2+pixels@4", "--quiet"]
    done = CliRunner().invoke(cli, ["stability", str(run), *asked])
    assert done.exit_code == 0, done.output
    assert "2 l2 + pixels@4" in done.output
    assert "share moved" in done.output
    content = json.loads((run / "stability.json").read_text())
    assert [each["changed_to"] for each in content["details"]["comparisons"]] == [
        "2",
        "2 l2 + pixels@4",
        "auto",
    ]
    assert (run / "stability-agreement.svg").is_file()
    Valuation.load(run)
    marked = [each for each in verify_run(run).checks if each.name == "stability.json"]
    assert [each.found for each in marked] == [("made of this run",)]
    more = CliRunner().invoke(cli, ["stability", str(run), "--vary", "temperature", "--json"])
    assert len(json.loads(more.output)["details"]["comparisons"]) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--temperature", "warm"], "--temperature 'warm' is no number"),
        (["--temperature", "inf"], "temperature=inf"),
        (["--distance", "l2+l2=3"], "--distance names 'l2' twice (l2, l2=3)"),
        (["--distance", "l2=much"], "--distance 'l2=much' cannot be read"),
        (["--by", "author"], "no column 'author'; choose one of: label"),
    ],
)
def test_options_that_cannot_be_read(run: Path, options: list[str], message: str) -> None:
    done = CliRunner().invoke(cli, ["stability", str(run), *options])
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)


def test_a_column_of_a_set_that_lost_images_is_refused(made: Path, tmp_path: Path) -> None:
    files = sorted((made / "train").rglob("*.png"))
    lines = ["path,licence", *(f"{file},{'AB'[i % 2]}" for i, file in enumerate(files))]
    for name, kept in (("list.csv", lines), ("fewer.csv", lines[:-1])):
        (tmp_path / name).write_text("\n".join(kept))
    valuator = GMValuator(encoder="pixels@8", rerank="none", quality="none", k=4, cache=False)
    valuator.fit(tmp_path / "list.csv").value(made / "generated").save(tmp_path / "run")
    command = ["stability", str(tmp_path / "run"), "--by", "licence", "--k", "2", "--quiet"]
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert "share moved" in done.output
    done = CliRunner().invoke(cli, [*command, "--train-images", str(tmp_path / "fewer.csv")])
    assert isinstance(done.exception, RunError)
    assert "'licence' cannot be read for all images: 1 of 24" in str(done.exception)


def _forbidden(*_: Any, **__: Any) -> None:
    raise AssertionError("valued anew")
