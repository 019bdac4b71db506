"""A run weighed again is the run that other settings would have made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator import GMValuator, InputError, RunError, Valuation
from gmvaluator.extension import extend_run
from gmvaluator.runs.record import RecordedSettings
from gmvaluator.runs.reweighing import reweigh_run
from gmvaluator.runs.verify import verify_run
from image_makers import encode, write_files
from run_makers import made_valuation

SMALL: dict[str, Any] = {"encoder": "pixels@8", "rerank": "l2", "k": 8, "candidates": 20}
BY_DISTANCE: dict[str, Any] = {"weighting": "softmax"}
RUNS: tuple[dict[str, Any], ...] = (
    BY_DISTANCE,
    BY_DISTANCE | {"temperature": "spacing"},
    BY_DISTANCE | {"null": "withhold", "null_level": 0.2},
    BY_DISTANCE | {"mirror": False, "dedup": "near"},
    {"weighting": "shapley"},
    {"weighting": "expected-rank"},
)
CHANGES: tuple[dict[str, Any], ...] = (
    {"temperature": 0.05},
    {"temperature": "auto"},
    {"k": 3},
    {"weighting": "shapley", "temperature": 1.0, "k": 7},
    {"weighting": "softmax", "temperature": 2, "k": 1},
)


@pytest.fixture
def folder(tmp_path: Path, digits: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> Path:
    """40 training digits with a copy, and two sets of generated ones."""
    pngs = [encode(image) for image in digits[0][:40]]
    write_files(tmp_path / "train", {f"{i:02d}.png": png for i, png in enumerate([*pngs, pngs[3]])})
    drawn = [encode(np.roll(image, 2, axis=0)) for image in digits[0][20:36]]
    write_files(tmp_path / "generated", {f"a{j}.png": png for j, png in enumerate(drawn[:12])})
    write_files(tmp_path / "more", {f"b{j}.png": png for j, png in enumerate(drawn[12:])})
    return tmp_path


def valued(folder: Path, images: str = "generated", **changes: Any) -> Valuation:
    settings = SMALL | changes
    return GMValuator(**settings, cache=False).fit(folder / "train").value(folder / images)


def assert_same(found: Valuation, wanted: Valuation) -> None:
    for name in ("values", "ranks", "n_supported", "quality", "unattributed", "match_p"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), name)
    for name in ("rows", "distances", "scores"):
        one, other = (getattr(run.contributions, name) for run in (found, wanted))
        np.testing.assert_array_equal(one, other, name)
    assert dict(found.record.settings) == dict(wanted.record.settings)


@pytest.mark.parametrize("run", RUNS, ids=str)
@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_it_is_the_run_of_the_changed_settings(
    folder: Path, run: dict[str, Any], changes: dict[str, Any]
) -> None:
    if run["weighting"] != "softmax":
        changes = BY_DISTANCE | changes
    if changes.get("weighting") == "shapley":
        run = run | {"temperature": None}
    found = valued(folder, **run).reweigh(**changes)
    assert_same(found, valued(folder, **(run | changes)))


@pytest.mark.parametrize("temperature", [0.05, 2, "auto"])
def test_by_ranks_it_is_the_run_of_another_temperature(folder: Path, temperature: Any) -> None:
    run = valued(folder)
    assert run.record.settings.weighting == "expected-rank"
    found, wanted = run.reweigh(temperature=temperature), valued(folder, temperature=temperature)
    np.testing.assert_allclose(found.values, wanted.values, rtol=1e-9, atol=1e-15)
    np.testing.assert_array_equal(found.n_supported, wanted.n_supported)
    assert dict(found.record.settings) == dict(wanted.record.settings)


def test_withheld_images_stay_withheld(folder: Path) -> None:
    # far from every training digit
    noise = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    files = {f"noise{j}.png": encode(image) for j, image in enumerate(noise)}
    write_files(folder / "generated", files)
    run = valued(folder, null="withhold", null_level=0.2, quality="none")
    assert run.withheld.sum() >= 3
    weighed = run.reweigh(temperature=0.01)
    np.testing.assert_array_equal(weighed.withheld, run.withheld)
    assert not weighed.contributions.scores[run.withheld].any()
    assert weighed.contributions.scores[~run.withheld].any(axis=1).all()


def test_a_spacing_that_was_measured_stays(folder: Path) -> None:
    spaced = valued(folder, **BY_DISTANCE, temperature="spacing")
    assert isinstance(spaced.record.settings.temperature_used, float)
    back = spaced.reweigh(temperature=1.0).record.settings
    assert back["temperature_used"] == 1.0
    assert_same(spaced.reweigh(temperature="spacing"), spaced)


def test_all_candidates_as_contributors_leave_nothing_beyond_them(folder: Path) -> None:
    run = valued(folder, k=20)
    assert_same(run.reweigh(weighting="shapley"), valued(folder, k=20, weighting="shapley"))


def test_the_record_has_what_was_changed_and_the_run_verifies(folder: Path) -> None:
    valued(folder, **BY_DISTANCE, null="withhold", null_level=0.2).save(folder / "run")
    seal = verify_run(folder / "run").seal
    first = reweigh_run(folder / "run", folder / "again", temperature=0.1, k=5)
    assert first.record.reweighed is not None
    (entry,) = first.record.reweighed
    assert entry["settings"] == {"temperature": 1.0, "temperature_used": 1.0, "k": 8}
    assert entry["seal"] == seal
    checked = verify_run(folder / "again")
    assert (checked.intact, checked.complete) == (True, True)
    assert checked.seal != seal
    assert_same(Valuation.load(folder / "again"), first)
    second = Valuation.load(folder / "again").reweigh(k=2)
    assert second.record.reweighed is not None
    assert [entry["settings"] for entry in second.record.reweighed][1] == {"k": 5}
    with pytest.raises(RunError, match="pass overwrite=True"):
        reweigh_run(folder / "run", folder / "again", temperature=0.2)


def test_an_extended_run_has_other_seals_once_it_is_weighed_again(folder: Path) -> None:
    valued(folder).save(folder / "run")
    extend_run(folder / "run", folder / "more", cache=False)
    assert Valuation.load(folder / "run").record.earlier_seals is not None
    reweigh_run(folder / "run", folder / "again", temperature="auto")
    weighed = Valuation.load(folder / "again")
    assert weighed.record.earlier_seals is None
    assert len(weighed.generated_ids) == 16
    assert verify_run(folder / "again").intact


@pytest.mark.parametrize(
    ("run", "changes"), [({}, {"temperature": 0.1}), (BY_DISTANCE, {"temperature": 0.1, "k": 4})]
)
def test_a_run_that_was_weighed_again_is_extended_with_its_settings(
    folder: Path, run: dict[str, Any], changes: dict[str, Any]
) -> None:
    valued(folder, **run).save(folder / "run")
    reweigh_run(folder / "run", folder / "again", **changes)
    extended = extend_run(folder / "again", folder / "more", cache=False).valuation
    alone = valued(folder, "more", **run, **changes)
    np.testing.assert_allclose(extended.contributions.scores[12:], alone.contributions.scores)
    assert verify_run(folder / "again").intact


@pytest.mark.parametrize(
    ("run", "changes", "message"),
    [
        ({}, {}, r"nothing to change; pass weighting=…, temperature=… or k=…"),
        ({}, {"k": 9}, r"k=9 exceeds the 8 contributors .* pass k ≤ 8, or fit again: .*k=9"),
        ({}, {"k": 0}, "k=0 is too small"),
        ({}, {"temperature": -1}, "temperature=-1 is not positive"),
        ({}, {"k": 7}, r"expected-rank measures what each .* leave k out, or fit again: .*k=7"),
        ({}, {"temperature": "spacing"}, "temperature spacing is a distance, and .* weighs ranks"),
        (
            BY_DISTANCE,
            {"temperature": "spacing"},
            "temperature spacing is measured on the training images",
        ),
        (BY_DISTANCE, {"weighting": "expected-rank"}, r"reads vectors, .* fit again: .*expected-"),
        ({}, {"weighting": "shapley"}, r"the 8 contributors alone; pass k ≤ 7, or fit again"),
        ({}, {"weighting": "ridge"}, "ridge reads vectors, .* pass weighting softmax or shapley"),
        ({}, {"weighting": "best"}, "unknown weighting 'best'"),
        ({"weighting": "shapley"}, {"temperature": 0.1}, "has no part in weighting shapley"),
        (
            {"weighting": "ridge"},
            {"temperature": 0.1},
            r"ridge chose the contributors .* fit again: GMValuator\.refit\(run, weighting='soft",
        ),
    ],
)
def test_what_a_run_does_not_record_is_refused_with_advice(
    folder: Path, run: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    valuation = valued(folder, **run)
    with pytest.raises(InputError, match=message):
        valuation.reweigh(**changes)


def test_scores_of_another_program_have_no_weighting() -> None:
    made = made_valuation()
    settings = RecordedSettings({**made.record.settings, "valuer": "my method"})
    other = replace(made, record=replace(made.record, settings=settings))
    with pytest.raises(InputError, match="scores are by 'my method', which has no weighting"):
        other.reweigh(temperature=0.1)
