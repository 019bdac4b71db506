"""GMValuator end to end: laws, presets, settings, index folders, refitting a run."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from gmvaluator import GMValuator, ImageSet, InputError, MissingWeightsError, RunError, Valuation
from image_makers import encode

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]

QUICK: dict[str, Any] = {"encoder": "pixels@14", "rerank": "pixels@28"}
BY_DISTANCE: dict[str, Any] = {"weighting": "softmax", "mirror": False}


def save_images(folder: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Path:
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / str(label) / f"{row:04d}.png")
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rerank": "none"},
        {"rerank": ["pixels@14", "pixels@28"]},
        {"rerank": {"pixels@7": 2.0, "pixels@28": 0.5}},
        {"quality": "none", "k": 7, "candidates": 9, "temperature": 0.1},
        {"index": "pq", "rerank": "none"},
        {"k": 300, "candidates": 300},
        {"encoder": "pixels@7", "second_encoder": "pixels@14"},
        BY_DISTANCE,
        BY_DISTANCE | {"rerank": ["pixels@14", "pixels@28"], "mixing": "fixed"},
        BY_DISTANCE | {"quality": "realism", "k": 7, "candidates": 9, "temperature": 0.1},
    ],
)
def test_laws_of_the_design(digits: Digits, settings: dict[str, Any]) -> None:
    train, generated = digits[0][:300], digits[0][300:320]
    valuator = GMValuator(**(QUICK | settings)).fit(train)
    valuation = valuator.value(generated)
    scores = valuation.contributions.scores
    k = settings.get("k", 50)
    assert scores.shape == (20, k)
    assert (scores >= 0).all()
    np.testing.assert_allclose(scores.sum(axis=1), valuation.quality, rtol=1e-12)
    np.testing.assert_allclose(valuation.values.sum(), valuation.quality.sum(), rtol=1e-12)
    assert all(len(set(rows)) == k for rows in valuation.contributions.rows)
    assert (np.diff(scores, axis=1) <= 0).all()
    if settings.get("weighting") == "softmax":
        assert (np.diff(valuation.contributions.distances, axis=1) >= 0).all()
    higher = (valuation.values[:, None] < valuation.values).sum(axis=1)
    np.testing.assert_array_equal(valuation.ranks, 1 + higher)
    assert len(set(valuation.ranks[valuation.n_supported == 0])) <= 1


@pytest.mark.parametrize(
    "settings", [{}, {"rerank": "none", "mirror": True}, {"weighting": "ridge"}, {"dedup": "none"}]
)
def test_nearest_distances_are_those_of_all_candidates(
    digits: Digits, settings: dict[str, Any]
) -> None:
    train = np.concatenate([digits[0][:60], digits[0][:3]])
    settings = QUICK | settings | {"candidates": 20}
    valuation = GMValuator(**settings, k=4).fit(train).value(digits[0][300:306])
    assert valuation.nearest_distances is not None
    # with as many contributors as candidates, a run lists all of them
    whole = GMValuator(**settings, k=20).fit(train).value(digits[0][300:306])
    expected = np.full(len(train), np.nan, dtype=np.float32)
    for rows, distances in zip(
        whole.contributions.rows, whole.contributions.distances, strict=True
    ):
        expected[rows] = np.fmin(expected[rows], distances)
    if whole.clusters is not None:
        expected = expected[whole.clusters.representatives]
        assert whole.clusters.copies == 3
    np.testing.assert_array_equal(valuation.nearest_distances, expected)
    assert 0 < np.isnan(expected).sum() < len(train)


def test_a_weighting_without_ranked_candidates_has_no_nearest_distances(digits: Digits) -> None:
    settings = QUICK | {"rerank": "none", "weighting": "global-ridge"}
    valuation = GMValuator(**settings, k=4).fit(digits[0][:60]).value(digits[0][300:303])
    assert valuation.nearest_distances is None
    assert valuation.to_pandas()["nearest_distance"].isna().all()


@given(seed=st.integers(0, 2**32 - 1))
@hypothesis_settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rerank": ["pixels@14", "pixels@28"]},
        {"index": "pq", "rerank": "none"},
        BY_DISTANCE | {"rerank": ["pixels@14", "pixels@28"], "mixing": "fixed"},
    ],
)
def test_permuting_the_training_set_permutes_the_values(
    digits: Digits, settings: dict[str, Any], seed: int
) -> None:
    train, generated = digits[0][:200], digits[0][300:310]
    shuffle = np.random.default_rng(seed).permutation(200)
    plain, shuffled = (
        GMValuator(**(QUICK | settings)).fit(images).value(generated)
        for images in (train, train[shuffle])
    )
    np.testing.assert_allclose(shuffled.values, plain.values[shuffle], rtol=1e-5, atol=1e-9)


def test_copies_of_one_image_are_told_apart_by_id_not_by_place(
    tmp_path: Path, digits: Digits
) -> None:
    """With equal distances at the edge of the k nearest, order must not decide who gets in."""
    images = np.repeat(digits[0][:30], 4, axis=0)
    rows = np.arange(len(images))
    generated = digits[0][:3]
    values = []
    for name, order in (("a", rows), ("b", rows[::-1])):
        folder = tmp_path / name
        folder.mkdir()
        lines = ["path,id"]
        for row in order:
            (folder / f"{row}.png").write_bytes(encode(images[row]))
            lines.append(f"{row}.png,image{row}")
        (folder / "list.csv").write_text("\n".join(lines))
        valuator = GMValuator(**QUICK, k=6, candidates=120, dedup="none")
        valuation = valuator.fit(folder / "list.csv").value(generated)
        values.append(dict(zip(valuation.train_ids, valuation.values, strict=True)))
    assert values[0] == pytest.approx(values[1])
    # four copies and two of the next: the edge runs through a group of equals
    assert sum(value > 0 for value in values[0].values()) <= 18


def test_default_pipeline_finds_the_class(digits: Digits) -> None:
    train, labels = digits[0][:400], digits[1][:400]
    wanted = digits[1][400:420]
    valuator = GMValuator(k=10).fit(train)
    valuation = valuator.value(digits[0][400:420])
    agreement = (labels[valuation.contributions.rows] == wanted[:, None]).mean()
    assert agreement >= 0.65
    assert set(valuation.info["weights"]) == {"efficientnet-lite0"}
    assert valuation.info["settings"] == {
        "encoder": "efficientnet-lite0",
        "second_encoder": "pixels@14",
        "index": "auto",
        "index_used": "exact, exact",
        "rerank": {"efficientnet-lite0": 1.0, "pixels@14": 2.0},
        "mixing": "decisive",
        "mirror": True,
        "dedup": "exact",
        "k": 10,
        "candidates": 200,
        "weighting": "expected-rank",
        "temperature": 0.7,
        "temperature_used": 0.7 / valuation.info["settings"]["dimension_used"],
        "dimension_used": pytest.approx(10, abs=5),
        "quality": "domain",
        "null": "report",
        "null_level": 0.02,
        "null_measure": "domain",
        "seed": 0,
    }


def test_the_default_is_a_preset_and_fits_what_goes_with_it() -> None:
    assert GMValuator().settings == GMValuator.preset("offline").settings
    assert GMValuator().settings != GMValuator.preset("offline-1").settings
    assert GMValuator(temperature=None).settings.temperature == 0.7
    assert GMValuator(weighting="softmax", temperature=None).settings.temperature == 1.0
    pixels = GMValuator(encoder="pixels@14", rerank="pixels@28")._load("pixels@14")
    for changes, parts in (
        ({}, ("pixels@14", 2, True)),
        ({"encoder": "pixels@14"}, (None, 2, True)),
        ({"encoder": pixels}, (None, 2, True)),
        ({"rerank": "none"}, (None, 0, True)),
        ({"weighting": "shapley"}, ("pixels@14", 2, True)),
        ({"weighting": "ridge"}, ("pixels@14", 2, False)),
        ({"weighting": "global-ridge"}, (None, 0, False)),
        ({"second_encoder": "none", "mirror": False}, (None, 2, False)),
    ):
        made = GMValuator(**changes).settings
        assert (made.second_encoder, len(made.rerank), made.mirror) == parts, changes


def test_score_does_not_depend_on_the_other_generated_images(digits: Digits) -> None:
    valuator = GMValuator(encoder="pixels@14", rerank=["pixels@14", "l2"]).fit(digits[0][:200])
    together = valuator.value(digits[0][200:220])
    alone = valuator.value(digits[0][205:206])
    np.testing.assert_array_equal(alone.contributions.rows[0], together.contributions.rows[5])
    np.testing.assert_allclose(alone.contributions.scores[0], together.contributions.scores[5])


def test_runs_are_reproducible(digits: Digits) -> None:
    runs = [
        GMValuator(k=5, candidates=20).fit(digits[0][:60]).value(digits[0][60:66]) for _ in range(2)
    ]
    np.testing.assert_array_equal(runs[0].values, runs[1].values)


def test_bad_images_are_skipped_and_listed(tmp_path: Path, digits: Digits) -> None:
    train = save_images(tmp_path / "train", digits[0][:30], digits[1][:30])
    (train / "broken.png").write_bytes(encode(digits[0][0])[:60])
    (train / "notes.png").write_text("not an image")
    generated = save_images(tmp_path / "generated", digits[0][30:35], digits[1][30:35])
    (generated / "empty.png").touch()
    valuation = GMValuator(**QUICK).fit(train).value(generated)
    assert len(valuation.train_ids) == 30
    assert len(valuation.generated_ids) == 5
    listed = {(side, skip.id) for side, skip in valuation.skipped}
    assert listed == {("train", "broken.png"), ("train", "notes.png"), ("generated", "empty.png")}
    with pytest.raises(InputError, match=r"broken\.png"):
        GMValuator(**QUICK).fit(train, strict=True)
    with pytest.raises(InputError, match=r"empty\.png"):
        GMValuator(**QUICK).fit(digits[0][:30]).value(generated, strict=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 500}, "k=500 exceeds the 60 training images; pass k ≤ 60"),
        ({"candidates": 61}, "candidates=61 exceeds the 60 training images; pass candidates ≤ 60"),
        ({"k": 20, "candidates": 10}, "k=20 exceeds the 10 candidates"),
        ({"k": 0}, "k=0 is too small; pass k ≥ 1"),
        ({"temperature": -1.0}, "temperature=-1.0 is not positive"),
        (
            {"encoder": "efficientnet"},
            "unknown encoder 'efficientnet'; did you mean 'efficientnet-lite0'",
        ),
        ({"index": "quick"}, "unknown index 'quick'"),
        ({"quality": "nice"}, "unknown quality 'nice'"),
        ({"rerank": ["l2", "l2"]}, "rerank names a distance twice"),
        ({"rerank": {"l2": 0.0}}, r"rerank l2 has weight 0\.0"),
        ({"rerank": ["none", "l2"]}, "rerank 'none' stands alone"),
        ({"weighting": "median"}, "unknown weighting 'median'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"encoder": 7}, "7 is no encoder"),
    ],
)
def test_settings_that_cannot_work_say_so(
    digits: Digits, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        GMValuator(**(QUICK | settings)).fit(digits[0][:60])


def test_small_sets_work_with_the_defaults(digits: Digits) -> None:
    valuation = GMValuator(**QUICK).fit(digits[0][:12]).value(digits[0][12:14])
    assert valuation.contributions.rows.shape == (2, 12)
    settings = valuation.info["settings"]
    assert (settings["k"], settings["candidates"]) == (12, 12)


def test_a_single_training_image_gets_everything(digits: Digits) -> None:
    valuator = GMValuator(**QUICK, quality="none").fit(digits[0][:1])
    np.testing.assert_allclose(valuator.value(digits[0][1:4]).values, [3.0])


@pytest.mark.parametrize("n", [3, 4, 5])
def test_the_default_works_on_few_images(digits: Digits, n: int) -> None:
    settings: dict[str, Any] = {"encoder": "pixels@7", "rerank": {"pixels@7": 1, "pixels@14": 2}}
    valuation = GMValuator(**settings).fit(digits[0][:n]).value(digits[0][[0, 8, 9]])
    np.testing.assert_allclose(
        valuation.contributions.scores.sum(axis=1), valuation.quality, rtol=1e-12
    )
    assert valuation.contributors(0).ids[0] == "0"
    assert valuation.contributors(0).scores[0] > 0.99 * valuation.quality[0]


@pytest.mark.parametrize(
    ("n", "message"),
    [
        (1, "holds 1 training image, and quality 'domain' needs at least 3; pass a set"),
        (
            2,
            "holds 2 training images, and quality 'domain' needs at least 3; pass more, or",
        ),
    ],
)
def test_too_few_images_for_the_default_are_refused_by_fit(
    digits: Digits, n: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        GMValuator(**QUICK).fit(digits[0][:n])


def test_valuing_before_fitting_says_so(digits: Digits) -> None:
    with pytest.raises(InputError, match=r"not fitted; call fit\(train\)"):
        GMValuator(**QUICK).value(digits[0][:2])


def test_paper_preset_names_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMVALUATOR_OFFLINE", "1")
    with pytest.raises(MissingWeightsError, match=r"ViT-B-32.*--weights.*offline"):
        GMValuator.preset("paper")
    with pytest.raises(InputError, match="unknown preset 'best'; choose one of offline, paper"):
        GMValuator.preset("best")


def test_own_quality_scales_the_scores(digits: Digits) -> None:
    quality = np.linspace(0, 1, 5)
    valuator = GMValuator(**QUICK, quality=quality).fit(digits[0][:60])
    valuation = valuator.value(digits[0][60:65])
    np.testing.assert_allclose(valuation.contributions.scores.sum(axis=1), quality)
    assert valuation.info["settings"]["quality"] == "given"


@pytest.fixture
def index(tmp_path: Path, digits: Digits) -> Path:
    train = save_images(tmp_path / "train", digits[0][:60], digits[1][:60])
    settings = QUICK | {"rerank": ["pixels@14", "l2"]}
    GMValuator(**settings).fit(train).save(tmp_path / "index")
    return tmp_path / "index"


def test_saved_index_gives_the_same_values(index: Path, digits: Digits) -> None:
    settings = QUICK | {"rerank": ["pixels@14", "l2"]}
    fresh = GMValuator(**settings).fit(index.parent / "train").value(digits[0][60:70])
    loaded = GMValuator.load(index).value(digits[0][60:70])
    np.testing.assert_array_equal(loaded.values, fresh.values)
    assert loaded.train_labels == fresh.train_labels
    assert loaded.info["inputs"] == fresh.info["inputs"]


def test_index_follows_moved_images(index: Path, digits: Digits) -> None:
    moved = index.parent / "moved"
    (index.parent / "train").rename(moved)
    with pytest.raises(RunError, match=r"cannot be opened.*train=…"):
        GMValuator.load(index)
    valuation = GMValuator.load(index, train=moved).value(digits[0][60:62])
    assert len(valuation.train_ids) == 60


def test_index_refuses_other_images_and_settings(index: Path, digits: Digits) -> None:
    with pytest.raises(RunError, match="no longer lists 60 of the 60 images"):
        GMValuator.load(index, train=digits[0][:10])
    with pytest.raises(
        RunError, match="was made with rerank pixels@14 and pixels@32, not pixels@7"
    ):
        GMValuator.load(index, rerank="pixels@7")
    with pytest.raises(RunError, match=r"was made with encoder .*, not 'pixels@16'"):
        GMValuator.load(index, encoder="pixels@16")
    with pytest.raises(RunError, match=r"holds no index\.json"):
        GMValuator.load(index.parent / "train")


def test_index_refuses_damage(index: Path) -> None:
    vectors = index / "vectors.safetensors"
    content = vectors.read_bytes()
    vectors.write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match="is damaged"):
        GMValuator.load(index)
    vectors.write_bytes(content)
    marker = json.loads((index / "index.json").read_text())
    (index / "index.json").write_text(json.dumps(marker | {"fingerprint": "0" * 64}))
    with pytest.raises(RunError, match="do not fit together"):
        GMValuator.load(index)
    (index / "index.json").write_text(json.dumps(marker | {"format": 99}))
    with pytest.raises(RunError, match="has index format 99, this version reads 1"):
        GMValuator.load(index)


def test_index_notices_an_image_that_changed(index: Path, digits: Digits) -> None:
    for file in (index.parent / "train").rglob("*.png"):
        file.write_bytes(encode(digits[0][99]))
    with pytest.raises(RunError, match=r"training image .*png has changed since it was embedded"):
        GMValuator.load(index).value(digits[0][60:62])


def test_index_of_objects_asks_for_them_again(tmp_path: Path, digits: Digits) -> None:
    def corner(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return pixels[:, :, :20, :20].reshape(len(pixels), -1).astype(np.float32)

    train = save_images(tmp_path / "train", digits[0][:30], digits[1][:30])
    GMValuator(encoder=corner, rerank="none", quality="none").fit(train).save(tmp_path / "index")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="made with 'corner', an encoder given in Python"):
        GMValuator.load(tmp_path / "index")
    GMValuator(**QUICK, quality=[1.0]).fit(train).save(tmp_path / "other")
    with pytest.raises(InputError, match="made with quality given in Python"):
        GMValuator.load(tmp_path / "other")


def test_index_of_images_in_memory_asks_for_those_it_has_to_read(
    tmp_path: Path, digits: Digits
) -> None:
    plain: dict[str, Any] = {"encoder": "pixels@8", "rerank": "none", "null": "off"}
    fitted = GMValuator(**plain, quality="none").fit(digits[0][:30])
    fitted.save(tmp_path / "index")
    # the index holds what these settings read
    loaded = GMValuator.load(tmp_path / "index")
    values = fitted.value(digits[0][30:32]).values
    np.testing.assert_array_equal(loaded.value(digits[0][30:32]).values, values)
    other = GMValuator.load(tmp_path / "index", quality="domain")
    with pytest.raises(InputError, match=r"train="):
        other.value(digits[0][30:32])
    other = GMValuator.load(tmp_path / "index", train=digits[0][:30], quality="domain")
    assert other.value(digits[0][30:32]).values.shape == (30,)


def test_run_can_be_refitted_and_notices_change(tmp_path: Path, digits: Digits) -> None:
    train = save_images(tmp_path / "train", digits[0][:40], digits[1][:40])
    valuation = GMValuator(**QUICK).fit(train).value(digits[0][40:45])
    valuation.save(tmp_path / "run")
    again = GMValuator.refit(tmp_path / "run").value(digits[0][40:45])
    np.testing.assert_array_equal(again.values, valuation.values)
    next(train.rglob("*.png")).write_bytes(encode(digits[0][50]))
    with pytest.raises(RunError, match="have changed since"):
        GMValuator.refit(tmp_path / "run")


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder": "random-conv@16", "mirror": True, "memory": 1_000},
        {"index": "pq", "rerank": "none"},
        {"weighting": "global-ridge", "rerank": "none", "cache": False},
    ],
)
def test_a_fitted_valuator_can_be_pickled(
    digits: Digits, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gmvaluator.memory.SMALLEST", 1)
    train, generated = digits[0][:200], digits[0][300:310]
    valuator = GMValuator(**(QUICK | settings)).fit(train)
    values = valuator.value(generated).values
    copied = pickle.loads(pickle.dumps(valuator))
    assert isinstance(copied, GMValuator)
    np.testing.assert_array_equal(copied.value(generated).values, values)
    np.testing.assert_array_equal(valuator.value(generated).values, values)


def test_labels_come_with_the_sets(tmp_path: Path, digits: Digits) -> None:
    train = save_images(tmp_path / "train", digits[0][:30], digits[1][:30])
    images = ImageSet.open(train)
    valuation = GMValuator(**QUICK).fit(images).value(digits[0][30:33])
    assert isinstance(valuation, Valuation)
    assert valuation.train_labels == images.labels
    assert valuation.generated_labels is None


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("temperature", r"GMValuator\(temperature=…\), or .* valuation\.reweigh\(temperature=…\)"),
        ("settings", r"make another valuator: GMValuator\(…\), or .*valuation\.reweigh\(…\)"),
        ("encoder", r"encoder of a valuator cannot be changed; .*: GMValuator\(encoder=…\)$"),
        ("progress", r"make another valuator: GMValuator\(progress=…\)$"),
        ("temprature", r"no setting 'temprature'; pass settings to GMValuator\(…\), one of "),
    ],
)
def test_a_setting_that_is_assigned_is_refused(name: str, advice: str) -> None:
    valuator = GMValuator(**QUICK)
    before = valuator.settings
    with pytest.raises(InputError, match=advice):
        setattr(valuator, name, 0.1)
    with pytest.raises(AttributeError):
        setattr(valuator, name, 0.1)
    assert valuator.settings is before
    assert not hasattr(valuator, "temprature")


def test_learned_state_and_attributes_of_a_subclass_can_be_assigned(digits: Digits) -> None:
    class Named(GMValuator):
        title = ""

    valuator, other = Named(**QUICK), GMValuator(**QUICK).fit(digits[0][:60])
    valuator.fitted_, valuator.title = other.fitted_, "digits"
    assert valuator.title == "digits"
    assert len(valuator.value(digits[0][:2]).generated_ids) == 2
    copied = pickle.loads(pickle.dumps(valuator.settings))
    assert copied == valuator.settings
