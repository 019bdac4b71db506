"""Mirror images, a second recall space and the spacing of training images; the preset of all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from gmvaluator import GMValuator, ImageSet, InputError, RunError, Valuation
from gmvaluator.cli import cli
from gmvaluator.cli.options import PRESET_NAMES
from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.custom import wrap
from gmvaluator.encoders.embedding import embed
from gmvaluator.encoders.mirrored import Mirrored
from gmvaluator.engine.train import learn_spacing
from gmvaluator.engine.trained import TrainingSet
from gmvaluator.geometry import Space
from gmvaluator.images import Preprocessing
from gmvaluator.matching.placed import PlacedSet, RecallSpace
from gmvaluator.matching.recall import Candidates, by_turns, nearer
from gmvaluator.matching.rerank import Term
from gmvaluator.scoring.scores import contribute
from gmvaluator.scoring.weightings.softmax import softmax_weights
from gmvaluator.settings import PRESETS
from image_makers import encode as png
from image_makers import write_files

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]
Floats = NDArray[np.float64]

TWO: dict[str, Any] = {
    **PRESETS["robust"],
    "encoder": "pixels@7",
    "rerank": {"pixels@28": 1.0, "pixels@14": 2.0},
    "k": 10,
    "candidates": 30,
}
"""The preset `robust` with light encoders in place of the network."""
NEW: dict[str, Any] = {**PRESETS["offline"], "encoder": "pixels@7", "rerank": TWO["rerank"]}
"""The default, likewise."""


def pixels_at(images: NDArray[np.uint8], side: int) -> Floats:
    """(n, 3·side²) as the encoder `pixels` sees them."""
    batches = ImageSet.open(images).batches(Preprocessing(side, interpolation="bilinear"))
    stack = np.concatenate([batch.pixels for batch in batches])
    return stack.reshape(len(stack), -1).astype(np.float64) / 255


def obvious_distances(left: Floats, right: Floats) -> Floats:
    return np.array([[np.linalg.norm(a - b) for b in right] for a in left])


def mirrored_distances(generated: NDArray[np.uint8], train: Floats, side: int) -> Floats:
    """(2, m, n) distances to the images as they are, and to their mirror images."""
    forms = (generated, np.ascontiguousarray(generated[:, :, ::-1]))
    return np.stack([obvious_distances(pixels_at(each, side), train) for each in forms])


def test_recall_and_rerank_equal_the_slow_way(digits: Digits) -> None:
    """Two spaces by turns, each by the nearer of image and mirror image; then one mean distance."""
    train, generated = digits[0][:120], digits[0][120:126].copy()
    generated[:3] = digits[0][:3, :, ::-1]
    valuator = GMValuator(**TWO).fit(train)
    valuation = valuator.value(generated)
    fitted = valuator.fitted_
    assert fitted is not None
    at = {side: mirrored_distances(generated, pixels_at(train, side), side) for side in (7, 14, 28)}
    scales = [term.scale for term in fitted.terms]
    mean = (at[28] / scales[0] + 2 * at[14] / scales[1]) / 3
    for j, rows in enumerate(valuation.contributions.rows):
        orders = [np.argsort(at[side][:, j].min(axis=0)).tolist() for side in (7, 14)]
        candidates: list[int] = []
        for row in (row for pair in zip(*orders, strict=True) for row in pair):
            candidates += [] if row in candidates else [row]
        nearest = mean[:, j].min(axis=0)
        best = sorted(candidates[:30], key=lambda row: nearest[row])[:10]
        np.testing.assert_array_equal(rows, best)
        np.testing.assert_allclose(
            valuation.contributions.distances[j], nearest[best], rtol=1e-4, atol=1e-6
        )
    assert valuation.contributions.rows[:3, 0].tolist() == [0, 1, 2]
    np.testing.assert_allclose(valuation.contributions.distances[:3, 0], 0, atol=1e-6)


def test_flips_are_found_only_where_they_are_looked_for(digits: Digits) -> None:
    train = digits[0][:400]
    flipped = np.ascontiguousarray(train[:40, :, ::-1])
    found = {}
    for mirror in (False, True):
        valuator = GMValuator(encoder="pixels@14", rerank="none", k=10, mirror=mirror)
        rows = valuator.fit(train).value(flipped).contributions.rows
        found[mirror] = float((rows == np.arange(40)[:, None]).any(axis=1).mean())
    assert found[True] == 1.0
    assert found[False] < 0.6


@pytest.mark.parametrize("settings", [TWO, NEW], ids=["robust", "default"])
def test_an_image_and_its_mirror_image_are_valued_alike(
    digits: Digits, settings: dict[str, Any]
) -> None:
    valuator = GMValuator(**(settings | {"quality": "none"})).fit(digits[0][:100])
    as_is, flipped = (
        valuator.value(np.ascontiguousarray(digits[0][100:110][:, :, ::step])) for step in (1, -1)
    )
    np.testing.assert_allclose(as_is.values, flipped.values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"second_encoder": None, "rerank": "none"},
        {"mirror": False},
        {"weighting": "expected-rank", "temperature": 0.7, "mixing": "decisive"},
        {"index": "pq"},
        {"weighting": "shapley", "temperature": 1.0},
        {"k": 120, "candidates": 120},
    ],
)
def test_laws(digits: Digits, changes: dict[str, Any]) -> None:
    train, generated = digits[0][:120], digits[0][120:130]
    settings = TWO | changes
    valuation = GMValuator(**settings).fit(train).value(generated)
    scores = valuation.contributions.scores
    assert (scores >= 0).all()
    np.testing.assert_allclose(scores.sum(axis=1), valuation.quality, rtol=1e-12)
    assert all(len(set(rows)) == settings["k"] for rows in valuation.contributions.rows)
    assert np.isfinite(valuation.contributions.distances).all()
    again = GMValuator(**settings).fit(train).value(generated)
    np.testing.assert_array_equal(again.values, valuation.values)
    shuffle = np.random.default_rng(1).permutation(120)
    shuffled = GMValuator(**settings).fit(train[shuffle]).value(generated)
    np.testing.assert_allclose(shuffled.values, valuation.values[shuffle], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("settings", [TWO, NEW], ids=["robust", "default"])
def test_an_image_is_valued_alike_alone_and_among_others(
    digits: Digits, settings: dict[str, Any]
) -> None:
    valuator = GMValuator(**settings).fit(digits[0][:100])
    together = valuator.value(digits[0][100:110])
    alone = valuator.value(digits[0][104:105])
    np.testing.assert_array_equal(alone.contributions.rows[0], together.contributions.rows[4])
    np.testing.assert_allclose(alone.contributions.scores[0], together.contributions.scores[4])


@pytest.mark.parametrize("quality", ["realism", "domain"])
def test_mirror_changes_no_quality(digits: Digits, quality: str) -> None:
    qualities = [
        GMValuator(**(TWO | {"mirror": mirror, "quality": quality}))
        .fit(digits[0][:100])
        .value(digits[0][100:110])
        .quality
        for mirror in (False, True)
    ]
    np.testing.assert_array_equal(qualities[0], qualities[1])


def test_the_nearer_of_both_counts_once() -> None:
    rng = np.random.default_rng(0)
    all_distances = rng.random((2, 5, 30)).astype(np.float32)  # (form, m, n)
    rows = np.argsort(all_distances, axis=2)[..., :8]
    distances = np.take_along_axis(all_distances, rows, axis=2)
    merged = nearer(Candidates(rows.reshape(10, 8), distances.reshape(10, 8), 30), np.arange(30))
    for j in range(5):
        nearest = all_distances[:, j].min(axis=0)
        np.testing.assert_array_equal(merged.rows[j], np.argsort(nearest)[:8])
        np.testing.assert_array_equal(merged.distances[j], np.sort(nearest)[:8])


def test_two_recalls_take_turns_without_repetition() -> None:
    rows = np.array([[3, 1, 4, 5]]), np.array([[1, 2, 3, 9]])
    distances = np.arange(4, dtype=np.float32)[None]
    first, second = (Candidates(each, distances, 10) for each in rows)
    ties = np.arange(10)
    assert by_turns(first, second, ties).rows.tolist() == [[3, 1, 2, 4]]
    assert by_turns(second, first, ties).rows.tolist() == [[1, 3, 2, 4]]
    assert np.isnan(by_turns(first, second, ties).distances).all()
    # at equal distance by rank, whatever the order of the search
    equal = Candidates(rows[0], np.zeros((1, 4), np.float32), 10)
    assert by_turns(equal, second, ties[::-1]).rows.tolist() == [[5, 1, 4, 2]]


def test_copies_are_chosen_among_whatever_their_order(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    images = np.repeat(chance.integers(0, 255, (6, 8, 8), dtype=np.uint8), 10, axis=0)
    generated = list(chance.integers(0, 255, (4, 8, 8), dtype=np.uint8))
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number:02d}.png")
    names = [f"{number:02d}.png" for number in range(60)]
    settings: dict[str, Any] = {"encoder": "pixels@8", "second_encoder": "pixels@4", "mirror": True}
    values = []
    for order in (np.arange(60), chance.permutation(60)):
        listed = tmp_path / "listed.csv"
        listed.write_text("\n".join(["path", *(names[row] for row in order)]))
        made = GMValuator(
            **settings, rerank="pixels@8", candidates=12, k=5, cache=False, dedup="none"
        )
        values.append(made.fit(listed).value(generated).values[np.argsort(order)])
    np.testing.assert_allclose(values[0], values[1], atol=1e-9)


def test_mirrored_encoder_sees_flipped_images_and_keeps_them_apart(digits: Digits) -> None:
    seen: list[NDArray[np.uint8]] = []

    def function(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(pixels)
        return pixels.reshape(len(pixels), -1).astype(np.float32)

    encoder: Encoder = wrap(function, name="own", preprocessing=Preprocessing(28))
    mirrored = Mirrored(encoder)
    assert isinstance(mirrored, Encoder)
    assert mirrored.fingerprint != encoder.fingerprint
    assert mirrored.name == "own mirrored"
    images = np.repeat(digits[0][:4, None], 3, axis=1)
    mirrored.encode(images)
    np.testing.assert_array_equal(seen[0], images[..., ::-1])


def test_mirror_images_pass_the_network_once_and_are_kept(digits: Digits, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "encoder": "efficientnet-lite0@32",
        "rerank": ["efficientnet-lite0@32", "pixels@14"],
        "mirror": True,
        "backend": "torch",
        "cache": tmp_path / "cache",
        "k": 5,
    }
    first = GMValuator(**settings).fit(digits[0][:30]).value(digits[0][30:36])
    name = "efficientnet-lite0:root@32"
    encoded = first.info["images"]["generated"]["encoded"]
    assert (encoded[name], encoded[f"{name} mirrored"]) == (6, 6)
    again = GMValuator(**settings).fit(digits[0][:30]).value(digits[0][30:36])
    cached = again.info["images"]["generated"]["cached"]
    assert (cached[name], cached[f"{name} mirrored"]) == (6, 6)
    np.testing.assert_array_equal(again.values, first.values)


def test_spacing_is_the_median_distance_to_the_nearest_other_image(digits: Digits) -> None:
    images = np.concatenate([digits[0][:60], digits[0][:5]])  # some twice
    train = ImageSet.open(images)
    vectors = pixels_at(images, 14).astype(np.float32)
    keys = tuple(f"{row:03d}" for row in range(65))
    order = TrainingSet(keys, None, np.arange(65), keys, None, ()).order
    distances = obvious_distances(vectors.astype(np.float64), vectors.astype(np.float64))
    distances[distances < 1e-9] = np.inf
    expected = np.median(distances.min(axis=1)[:64])
    encoder = GMValuator(encoder="pixels@14", rerank="none", cache=False)._load("pixels@14")
    first = RecallSpace(encoder, Space("euclidean"), vectors)
    content = embed(train, encoder).keys
    placed = PlacedSet(train, np.arange(65), content, {}, kind="train")
    found = learn_spacing([], placed, [first], order)
    assert found == pytest.approx(expected, rel=1e-5)
    # a scale of the distance is a scale of the spacing
    terms = [Term(encoder, Space("euclidean"), scale=10.0), Term(encoder, Space("euclidean"))]
    mixed = learn_spacing(terms, placed, [first], order)
    assert mixed == pytest.approx(expected * (1 / 10 + 1) / 2, rel=1e-5)


def test_spacing_follows_the_unit_of_the_distance(digits: Digits) -> None:
    """The same pixels in another unit: the same weights."""

    def scaled(factor: float) -> Encoder:
        return wrap(
            lambda pixels: factor * pixels.reshape(len(pixels), -1).astype(np.float32),
            name=f"times {factor}",
            metric="euclidean",
            preprocessing=Preprocessing(14),
        )

    values = []
    for factor in (1.0, 1000.0):
        valuator = GMValuator(
            encoder=scaled(factor),
            rerank="none",
            quality="none",
            weighting="softmax",
            temperature="spacing",
            mirror=False,
        )
        valuation = valuator.fit(digits[0][:100]).value(digits[0][100:110])
        used = valuation.info["settings"]["temperature_used"]
        assert valuation.info["settings"]["temperature"] == "spacing"
        np.testing.assert_allclose(
            valuation.contributions.scores,
            softmax_weights(valuation.contributions.distances, used),
        )
        values.append(valuation.values)
    np.testing.assert_allclose(values[0], values[1], rtol=1e-3, atol=1e-7)


def test_copies_get_their_owner_the_score_that_a_temperature_of_1_spreads(digits: Digits) -> None:
    """Half of the generated images are coarse copies of one twentieth of the training images."""
    train = digits[0][:500]
    generated = np.concatenate([train[:25], train[100:125]]) // 8 * 8 + 3
    spaces: dict[str, Any] = {"encoder": "pixels@14", "rerank": ["pixels@14", "pixels@28"]}
    weights = {"by 1": PRESETS["offline-1"], "by spacing": PRESETS["robust"], "default": {}}
    share = {}
    for name, settings in weights.items():
        valuator = GMValuator(
            **{**settings, **spaces, "second_encoder": None, "quality": "none", "null": "off"}
        )
        share[name] = valuator.fit(train).value(generated).values[:50].sum() / 50
    assert share["by spacing"] == pytest.approx(0.5, abs=0.1)
    assert share["default"] == pytest.approx(0.5, abs=0.1)
    assert share["by 1"] < 0.3


@pytest.fixture
def train_folder(tmp_path: Path, digits: Digits) -> Path:
    files = {f"{row:03d}.png": png(image) for row, image in enumerate(digits[0][:40])}
    return write_files(tmp_path / "train", files)


def test_index_is_saved_and_opened_again(train_folder: Path, digits: Digits) -> None:
    index = train_folder.parent / "index"
    made = GMValuator(**TWO).fit(train_folder)
    made.save(index)
    loaded = GMValuator.load(index)
    assert loaded.settings == made.settings
    fresh, again = made.value(digits[0][80:90]), loaded.value(digits[0][80:90])
    np.testing.assert_array_equal(again.values, fresh.values)
    assert again.info["settings"]["index_used"] == "exact, exact"
    plain = GMValuator.load(index, mirror=False, temperature=0.5)
    settings = TWO | {"mirror": False, "temperature": 0.5}
    np.testing.assert_array_equal(
        plain.value(digits[0][80:90]).values,
        GMValuator(**settings).fit(train_folder).value(digits[0][80:90]).values,
    )
    with pytest.raises(RunError, match="made with second_encoder 'pixels@14', not None"):
        GMValuator.load(index, second_encoder=None)
    with pytest.raises(RunError, match="made with second_encoder 'pixels@14', not 'pixels@8'"):
        GMValuator.load(index, second_encoder="pixels@8")
    # known, but as a distance of the re-rank: there are no vectors of it to search
    for name, made_with in (("second_encoder", "pixels@14"), ("encoder", "pixels@7")):
        message = f"made with {name} '{made_with}', not 'pixels@28'; make an index with these"
        changes: dict[str, Any] = {name: "pixels@28"}
        with pytest.raises(RunError, match=message):
            GMValuator.load(index, **changes)


def test_an_index_of_before_opens_and_takes_what_needs_no_second_space(
    train_folder: Path, digits: Digits
) -> None:
    index = train_folder.parent / "index"
    settings: dict[str, Any] = {
        **PRESETS["offline-1"],
        **{"encoder": "pixels@14", "rerank": ["pixels@14", "l2"], "k": 5},
    }
    GMValuator(**settings).fit(train_folder).save(index)
    file = index / "index.json"
    marker = json.loads(file.read_text())
    del marker["second_metric"]
    for name in ("second_encoder", "mirror"):
        del marker["settings"][name]
    file.write_text(json.dumps(marker))
    new: dict[str, Any] = {"mirror": True, "temperature": "spacing"}
    np.testing.assert_array_equal(
        GMValuator.load(index, **new).value(digits[0][80:90]).values,
        GMValuator(**settings | new).fit(train_folder).value(digits[0][80:90]).values,
    )
    with pytest.raises(RunError, match="made with second_encoder None, not 'pixels@7'"):
        GMValuator.load(index, second_encoder="pixels@7")


def test_runs_record_the_settings_and_can_be_refitted(train_folder: Path, digits: Digits) -> None:
    run = train_folder.parent / "run"
    made = GMValuator(**TWO).fit(train_folder).value(digits[0][80:90])
    made.save(run)
    settings = json.loads((run / "run.json").read_text())["settings"]
    assert (settings["second_encoder"], settings["mirror"]) == ("pixels@14", True)
    refitted = GMValuator.refit(run).value(digits[0][80:90])
    np.testing.assert_array_equal(refitted.values, made.values)
    old = train_folder.parent / "old"
    shutil.copytree(run, old)
    info = json.loads((old / "run.json").read_text())
    del info["settings"]["second_encoder"], info["settings"]["mirror"]
    (old / "run.json").write_text(json.dumps(info))
    assert GMValuator.refit(old).settings.mirror is False
    assert GMValuator.refit(old).settings.second_encoder is None


def test_encoders_of_a_users_own_work_and_are_asked_for_again(
    train_folder: Path, digits: Digits
) -> None:
    def own(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return pixels.reshape(len(pixels), -1).astype(np.float32)

    encoder = wrap(own, metric="centred-cosine", preprocessing=Preprocessing(14))
    valuator = GMValuator(**(TWO | {"second_encoder": encoder})).fit(train_folder)
    index = train_folder.parent / "index"
    valuator.save(index)
    with pytest.raises(InputError, match="'own', an encoder given in Python"):
        GMValuator.load(index)
    loaded = GMValuator.load(index, second_encoder=encoder)
    np.testing.assert_array_equal(
        loaded.value(digits[0][80:85]).values, valuator.value(digits[0][80:85]).values
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"second_encoder": "pixels@7"}, "second_encoder is the encoder, pixels@7; pass another"),
        ({"rerank": "none"}, "distances of two recall spaces do not compare; pass a rerank"),
        ({"encoder": "l2", "second_encoder": "pixels"}, "second_encoder is the encoder, pixels@32"),
        ({"second_encoder": "pixel"}, "unknown encoder 'pixel'; did you mean 'pixels'"),
        ({"second_encoder": 7}, "7 is no encoder"),
        (
            {"weighting": "ridge", "temperature": 1.0},
            "weighting ridge compares images as they are; pass mirror=False",
        ),
        (
            {"temperature": "space"},
            "'space' is unknown; pass a number above 0, auto, spacing or spacing/N",
        ),
        ({"weighting": "shapley"}, "temperature=spacing has no part in weighting shapley; pass te"),
        (
            {"weighting": "expected-rank"},
            "temperature spacing is a distance, and weighting expected-rank weighs ranks; pass "
            "temperature=0.7 or another number, or weighting='softmax'",
        ),
    ],
)
def test_settings_that_cannot_work_say_so(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GMValuator(**(TWO | changes))


def test_training_images_without_spacing_are_refused(digits: Digits) -> None:
    settings: dict[str, Any] = {
        "encoder": "pixels@14",
        "rerank": "pixels@14",
        "quality": "none",
        "weighting": "softmax",
        "temperature": "spacing",
    }
    with pytest.raises(InputError, match="holds 1 training image, and temperature 'spacing'"):
        GMValuator(**settings).fit(digits[0][:1]).value(digits[0][1:3])
    same = np.repeat(digits[0][:1], 9, axis=0)
    with pytest.raises(InputError, match="most training images equal their neighbours"):
        GMValuator(**settings, dedup="none").fit(same).value(digits[0][1:3])
    found = GMValuator(**(settings | {"temperature": 1.0})).fit(digits[0][:9])
    contributors = found.value(digits[0][9:11])
    assert isinstance(contributors, Valuation)


def test_preset_by_command(train_folder: Path, digits: Digits, tmp_path: Path) -> None:
    flipped = {f"{row}.png": png(digits[0][row, :, ::-1]) for row in range(3)}
    generated = write_files(tmp_path / "generated", flipped)
    index, run = tmp_path / "index", tmp_path / "run"
    small = ["--quiet", "--k", "10", "--candidates", "20", "--backend", "torch"]
    for arguments in (
        ["embed", train_folder, "--preset", "robust", "--out", index, *small],
        ["value", index, generated, "--out", run, "--json", *small],
    ):
        result = CliRunner().invoke(cli, [str(each) for each in arguments])
        assert result.exit_code == 0, result.output
    valuation = Valuation.load(run)
    assert valuation.info["settings"]["second_encoder"] == "pixels@14"
    assert valuation.info["settings"]["mirror"] is True
    assert valuation.info["settings"]["temperature_used"] < 0.2
    assert valuation.info["settings"]["weighting"] == "softmax"
    for row in range(3):
        assert valuation.contributors(f"{row}.png").ids[0] == f"{row:03d}.png"
        assert valuation.contributors(f"{row}.png").scores[0] > 0.9 * valuation.quality[row]
    plain = ["value", index, generated, "--no-mirror", "--temperature", "1", "--out", run]
    result = CliRunner().invoke(cli, [str(each) for each in [*plain, "--overwrite", *small]])
    assert result.exit_code == 0, result.output
    assert Valuation.load(run).info["settings"]["mirror"] is False


def test_preset_is_offered_by_every_name_it_has() -> None:
    assert tuple(PRESETS) == PRESET_NAMES


def test_a_learned_temperature_is_no_number_for_contribute(digits: Digits) -> None:
    valuator = GMValuator(encoder="pixels@14", rerank="none", k=3).fit(digits[0][:20])
    found = valuator.value(digits[0][20:22]).contributions
    with pytest.raises(InputError, match="spacing is learned from training images"):
        contribute(found, np.ones(2), temperature="spacing")  # type: ignore[arg-type]


def test_second_encoder_can_be_left_out_of_a_preset(digits: Digits) -> None:
    made = GMValuator.preset("robust", second_encoder="none", rerank="none", cache=False)
    assert made.settings.second_encoder is None
    assert made.fit(digits[0][:60]).value(digits[0][60:63]).contributions.rows.shape == (3, 50)


def test_two_encoders_of_one_name_are_refused() -> None:
    networks = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3)) for _ in range(2)]
    first, second = (wrap(each, preprocessing=Preprocessing(8)) for each in networks)
    given: list[dict[str, Any]] = [
        {"second_encoder": second, "rerank": first},
        {"rerank": second},
    ]
    for settings in given:
        with pytest.raises(InputError, match="two encoders are called Sequential"):
            GMValuator(encoder=first, **settings)
