"""Removing training images: trainings without them, how far images move, what the model becomes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from safetensors.torch import load_file
from test_evaluation import Digits, files, open_setup, row, rows_of

from generator_checks import broken_off, one_by_one, train_tiny, write_halves
from gmvaluator import GMValuator, ImageSet
from gmvaluator.baselines.assembling import assemble_for_set
from gmvaluator.cli import cli
from gmvaluator.errors import InputError, RunError
from gmvaluator.evaluation.metrics import mean_interval
from gmvaluator.evaluation.named import NamedValuer
from gmvaluator.evaluation.studies import counterfactual_model
from gmvaluator.evaluation.studies.counterfactual import counterfactual
from gmvaluator.evaluation.studies.counterfactual_model import Curve, ascending_rows
from gmvaluator.evaluation.study import Context
from gmvaluator.evaluation.subjects import recipes as recipes_module
from gmvaluator.evaluation.subjects.recipes import QUICK_RECIPES, Job, Recipe, train_job, trained
from gmvaluator.evaluation.truth import removal, retraining
from gmvaluator.evaluation.truth.likeness import image_features, likeness, precision_and_recall
from gmvaluator.evaluation.truth.movement import DISTANCES, PIXELS, Movement, ratio_interval
from gmvaluator.evaluation.valuers import named_valuer
from gmvaluator.files.pieces import Workspace
from gmvaluator.generators import FAMILIES, generator_class, load_generator
from gmvaluator.generators.base import TrainingBatch
from gmvaluator.generators.config import parse_settings
from gmvaluator.generators.files import read_metadata
from gmvaluator.generators.randomness import batch_rows, replaced_rows
from gmvaluator.generators.training import train_generator
from gmvaluator.images.pixels import load_pixels
from gmvaluator.progress import Silent
from gmvaluator.runs.valuation import Valuation
from image_makers import encode, write_files

__all__ = ["files"]

QUICK = Recipe("beta-vae", 30, {"hidden": "16", "latent": 3, "batch_size": 16})


# --- training without some images ----------------------------------------------------------------


def batches_seen(
    monkeypatch: pytest.MonkeyPatch, data: Path, out: Path, **options: Any
) -> list[tuple[NDArray[np.uint8], list[float]]]:
    """Images of each step and the first numbers of its noise."""
    seen: list[tuple[NDArray[np.uint8], list[float]]] = []
    learner_of = generator_class("beta-vae").learner

    def watched(model: Any, steps: int, seed: int = 0) -> Any:
        learner = learner_of(model, steps, seed)
        update = learner.update

        def noted(batch: TrainingBatch, step: int) -> dict[str, float]:
            start = batch.generator.get_state()
            noise = torch.randn(3, generator=batch.generator).tolist()
            batch.generator.set_state(start)
            seen.append((batch.images.numpy(), noise))
            return update(batch, step)

        learner.update = noted  # type: ignore[method-assign]
        return learner

    with monkeypatch.context() as patched:
        patched.setattr(generator_class("beta-vae"), "learner", watched)
        train_tiny("beta-vae", data, out, **options)
    return seen


def assert_same(first: Path, second: Path) -> None:
    """Both generator files hold the same weights, bit for bit, and tell the same."""
    one, other = load_file(first), load_file(second)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert read_metadata(first) == read_metadata(second)


@pytest.mark.parametrize("name", FAMILIES)
def test_removing_nothing_changes_nothing(name: str, tmp_path: Path) -> None:
    data = write_halves(tmp_path / "data.npz", 20, 28)
    plain, nothing = tmp_path / "plain.safetensors", tmp_path / "nothing.safetensors"
    train_tiny(name, data, plain)
    train_tiny(name, data, nothing, without=())
    assert_same(plain, nothing)


def test_removed_images_are_never_seen_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_halves(tmp_path / "data.npz", 30, 8)
    images = np.load(data)["images"].transpose(0, 3, 1, 2)
    gone = [0, 7, 11, 12, 29]
    whole = batches_seen(monkeypatch, data, tmp_path / "whole.safetensors", steps=30)
    part = batches_seen(monkeypatch, data, tmp_path / "part.safetensors", steps=30, without=gone)
    replaced = 0
    for (all_images, noise), (kept_images, same_noise) in zip(whole, part, strict=True):
        assert noise == same_noise
        for before, after in zip(all_images, kept_images, strict=True):
            was_removed = any(np.array_equal(before, images[row]) for row in gone)
            assert not any(np.array_equal(after, images[row]) for row in gone)
            assert np.array_equal(before, after) != was_removed
            replaced += was_removed
    assert replaced == 30 * 8 * len(gone) / 30
    one, other = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "part"))
    assert any(not torch.equal(one[name], other[name]) for name in one)
    told = json.loads(read_metadata(tmp_path / "part.safetensors")["training"])
    assert (told["n_images"], told["without"]) == (25, gone)


def test_replacements_are_even_seeded_and_grow_with_the_removal() -> None:
    n, size = 40, 16
    few, many = np.zeros(n, bool), np.zeros(n, bool)
    few[:5] = True
    many[:28] = True
    counts = np.zeros(n)
    for step in range(400):
        rows = batch_rows(3, step, n, size)
        with_few, with_many = (replaced_rows(rows, gone, 3, step) for gone in (few, many))
        np.testing.assert_array_equal(with_many, replaced_rows(rows, many, 3, step))
        # who removes more changes only the places of what is removed
        still = ~many[with_few]
        np.testing.assert_array_equal(with_few[still], with_many[still])
        counts += np.bincount(with_many, minlength=n)
    assert counts[:28].sum() == 0
    expected = 400 * size / 12
    assert np.abs(counts[28:] / expected - 1).max() < 0.2
    np.testing.assert_array_equal(replaced_rows(rows, np.zeros(n, bool), 3, 1), rows)
    assert (replaced_rows(rows, many, 3, 1) != replaced_rows(rows, many, 4, 1)).any()
    assert (replaced_rows(rows, many, 3, 1) != replaced_rows(rows, many, 3, 2)).any()


def test_a_removal_goes_on_only_from_its_own_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_halves(tmp_path / "data.npz", 20, 8)
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    asked: dict[str, Any] = {"steps": 6, "checkpoint_every": 3, "without": np.array([3, 1])}
    train_tiny("beta-vae", data, whole, **asked)
    with broken_off(monkeypatch, 4):
        train_tiny("beta-vae", data, cut, **asked)
    for others in ((1, 2), None):
        with pytest.raises(RunError, match=r"belongs to another training \(different: without\)"):
            train_tiny("beta-vae", data, cut, **(asked | {"without": others}))
    # the order in which rows are named does not matter
    done = train_tiny("beta-vae", data, cut, **(asked | {"without": [1, 3]}))
    assert (done.resumed_at, done.n_images) == (3, 18)
    assert_same(whole, cut)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([20], "1 entries from 20 to 20 were given; wanted distinct row numbers from 0 to 19"),
        ([-1, 3], "2 entries from -1 to 3"),
        ([1, 1], "2 entries from 1 to 1"),
        ([0.5], "wanted distinct row numbers"),
        (range(20), "without removes all 20 images"),
    ],
)
def test_impossible_removals_are_told(rows: Sequence[int], message: str, tmp_path: Path) -> None:
    data = write_halves(tmp_path / "data.npz", 20, 8)
    with pytest.raises(InputError, match=message):
        train_tiny("beta-vae", data, tmp_path / "g.safetensors", without=rows)
    assert not (tmp_path / "g.safetensors").exists()


def test_jobs_are_named_by_what_they_leave_out(files: tuple[Path, Path], tmp_path: Path) -> None:
    work = Workspace(tmp_path / "work")
    whole = Job("vae", QUICK, ImageSet.open(files[0]))
    jobs = [whole, *(removal.without(whole, rows) for rows in ([5, 2], [2, 5], [2, 6], []))]
    names = [job.file(work).name for job in jobs]
    assert names[0] == names[4] == f"vae-{QUICK.tag}-seed0.safetensors"
    assert names[1] == names[2]
    assert len({*names}) == 3
    assert "-seed0-without2-" in names[1]
    for job in jobs[:2]:
        train_job(job, job.file(work))
    first, second = trained(jobs[:2], work, Silent())
    assert json.loads(read_metadata(second)["training"])["without"] == [2, 5]
    assert "without" not in json.loads(read_metadata(first)["training"])


@pytest.mark.parametrize("name", QUICK_RECIPES)
def test_quick_recipes_are_of_models_without_classes(name: str) -> None:
    recipe = QUICK_RECIPES[name]
    kind = generator_class(recipe.family)
    given = parse_settings(kind.config_class, recipe.settings)
    classes = 2 * kind.config_class.always_conditional
    config = kind.config_class(**given, size=28, channels=1, classes=classes)
    assert not recipe.conditional
    model = kind(config)
    if model.classes:
        noise = torch.randn((1, *model.noise_shape), generator=torch.Generator().manual_seed(0))
        images = [model.draw(noise, torch.tensor([label])) for label in range(2)]
        assert torch.equal(*images)
        learner: Any = model.learner(1)
        hidden = learner.dropped(torch.zeros(50, dtype=torch.int64), torch.Generator())
        assert (hidden == model.classes).all()


# --- what is measured ----------------------------------------------------------------------------


def test_movement_is_measured_from_each_image_itself(digits: Digits) -> None:
    images, train = digits[0][:4], ImageSet.open(list(digits[0][100:150]))
    movement = Movement(images, train)
    redrawn = images.copy()
    redrawn[2] = np.roll(images[2], 1, axis=0)
    redrawn[3] = digits[0][50]
    found = movement.of(redrawn)
    assert set(found) == set(DISTANCES)
    for name in DISTANCES:
        assert np.abs(found[name][:2]).max() < 1e-6
        assert found[name][2] > 1e-3
    by_hand = np.sqrt((((redrawn[3].astype(float) - images[3]) / 255) ** 2).mean())
    assert found[PIXELS][3] == pytest.approx(by_hand)
    # a network that tolerates shifts, and pixels that do not
    shift, other = (np.array([found[name][at] for name in DISTANCES]) for at in (2, 3))
    assert shift[1] / other[1] < shift[0] / other[0]
    with pytest.raises(InputError, match="pass as many"):
        movement.of(images[:2])


def test_ratios_have_intervals_that_cover_the_truth() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        below = rng.gamma(4, size=12)
        above = 2 * below * rng.uniform(0.5, 1.5, 12)
        found = ratio_interval(above, below)
        covered += found.low < 2 < found.high
    assert 0.90 < covered / 400 < 0.98
    same = ratio_interval([1.0, 3.0], [0.5, 1.5])
    assert (same.mean, same.low, same.high) == pytest.approx((2, 2, 2))
    assert np.isnan(ratio_interval([1.0], [0.0]).mean)
    assert np.isnan(ratio_interval([1.0], [2.0]).low)
    with pytest.raises(InputError, match="pass two of"):
        ratio_interval([], [])


def within_by_loop(points: NDArray[Any], centres: NDArray[Any], k: int) -> float:
    """Share of points in a sphere, the slow and obvious way."""
    inside = 0
    for point in points:
        for number, centre in enumerate(centres):
            others = np.delete(centres, number, axis=0)
            radius = np.sort(np.linalg.norm(others - centre, axis=1))[k - 1]
            if np.linalg.norm(point - centre) <= radius:
                inside += 1
                break
    return inside / len(points)


def test_precision_and_recall_are_those_of_an_obvious_loop() -> None:
    rng = np.random.default_rng(1)
    real = rng.normal(size=(60, 5)).astype(np.float32)
    drawn = rng.normal(0.4, 0.6, size=(60, 5)).astype(np.float32)
    precision, recall = precision_and_recall(real, drawn, 3)
    assert precision == within_by_loop(drawn, real, 3)
    assert recall == within_by_loop(real, drawn, 3)
    # drawn points are in the middle of the real ones and do not reach the rim
    assert precision > recall
    copies = np.repeat(real[:1], 60, axis=0)
    assert precision_and_recall(real, copies, 3) == (1.0, 1 / 60)


def test_likeness_tells_the_same_from_others() -> None:
    rng = np.random.default_rng(2)
    real, same, far = (
        rng.normal(mean, 1, (n, 8)).astype(np.float32) for mean, n in ((0, 800), (0, 400), (3, 400))
    )
    near, apart = likeness(real, same), likeness(real, far)
    # 8 means, 3 apart each
    assert apart.fid == pytest.approx(72, rel=0.1)
    assert near.fid < 0.5
    assert min(near.precision, near.recall) > 0.8
    assert max(apart.precision, apart.recall) < 0.1
    assert likeness(real, real).fid == pytest.approx(0, abs=1e-6)
    with pytest.raises(InputError, match="800 real and 3 drawn images; pass more than 3 of each"):
        likeness(real, same[:3])


def test_features_are_those_of_the_offline_encoder(digits: Digits) -> None:
    images = ImageSet.open(list(digits[0][:6]))
    features = image_features(images)
    valuator = GMValuator(encoder="efficientnet-lite0@96", rerank="none", quality="none", k=1)
    distances = valuator.fit(images).value(ImageSet.open([digits[0][9]])).contributions.distances
    centred = features - features.mean(axis=0)
    other = image_features(ImageSet.open([digits[0][9]]))[0] - features.mean(axis=0)
    cosines = centred @ other / np.linalg.norm(centred, axis=1) / np.linalg.norm(other)
    assert features.shape == (6, 1280)
    assert distances[0, 0] == pytest.approx(1 - cosines.max(), abs=1e-5)


def test_areas_are_mean_heights() -> None:
    curve = Curve("g", "v", "lowest", [0.0, 0.1, 0.5], {"fid": [[1.0, 3.0, 3.0], [0.0, 0.0, 2.0]]})
    area = curve.area("fid")
    assert area.mean == pytest.approx(np.mean([(0.2 + 1.2) / 0.5, 0.4 / 0.5]))
    assert area.n == 2


def test_equal_values_are_in_random_order() -> None:
    values = np.array([0.0] * 50 + [2.0, 1.0])
    order = ascending_rows(values)
    assert order[-2:].tolist() == [51, 50]
    assert sorted(order) == list(range(52))
    assert order[:50].tolist() != list(range(50))
    np.testing.assert_array_equal(order, ascending_rows(values))


# --- the study -----------------------------------------------------------------------------------


@pytest.fixture
def context(files: tuple[Path, Path], tmp_path: Path) -> Context:
    """400 digits, two cheap valuers, two random draws."""
    setup = open_setup(files, tmp_path, generators={"beta-vae": QUICK}, generated={}, m=30)
    return setup.context(subjects=False)


def cheap_features(images: ImageSet, progress: Any = None) -> NDArray[np.float32]:
    """(n, 16) coarse pixels."""
    pixels = load_pixels(images, 4).reshape(len(images), -1) / 255
    return np.asarray(pixels, dtype=np.float32)


@pytest.fixture
def ran(in_this_process: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trainings run one after the other, in this process, and features are cheap.

    Holds the stage's name for each task that was run.
    """
    names: list[str] = []

    def here(tasks: Sequence[Callable[[], None]], stage: str, progress: Any) -> None:
        names.extend([stage] * len(tasks))
        one_by_one(tasks, stage, progress)

    monkeypatch.setattr(retraining, "side_by_side", here)
    monkeypatch.setattr(counterfactual_model, "image_features", cheap_features)
    return names


def redrawn(context: Context, out: Path, rows: Any, m: int) -> NDArray[np.uint8]:
    """m images of the model without these rows, by the public functions."""
    asked: dict[str, Any] = {"steps": QUICK.steps, "settings": QUICK.settings, "threads": 1}
    train_generator("beta-vae", context.train, out, **asked, without=rows)
    return load_generator(out).sample(m, seed=0)


def distance_to(context: Context, image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n,) pixel distances of training images from one image."""
    train = load_pixels(context.train, 28) / 255
    return np.asarray(np.sqrt(((train - image / 255) ** 2).sum(axis=(1, 2))))


def test_images_move_as_far_as_retraining_by_hand_says(
    context: Context, ran: list[str], tmp_path: Path
) -> None:
    result = counterfactual(context, {"beta-vae": QUICK}, ks=(20, 5), images=3, parts=("image",))
    # the whole model, two draws and three images for two K
    assert len(ran) == 1 + 2 * (2 + 3)
    originals = redrawn(context, tmp_path / "whole.safetensors", None, 3)
    found = {(each["valuer"], each["k"]): each for each in result.details["image"]}
    assert set(found) == {(name, k) for name in ("random", "nearest-pixel") for k in (5, 20)}
    apart = distance_to(context, originals[1])
    nearest = np.argsort(apart, kind="stable")[:20]
    again = redrawn(context, tmp_path / "near.safetensors", nearest, 3)
    moves = np.sqrt((((again.astype(float) - originals) / 255) ** 2).mean(axis=(1, 2)))
    near = found["nearest-pixel", 20]
    assert near["own"][PIXELS][1] == pytest.approx(moves[1])
    assert near["others"][PIXELS][1] == pytest.approx((moves[0] + moves[2]) / 2)
    by_chance = []
    for seed in range(2):
        out = tmp_path / f"{seed}.safetensors"
        again = redrawn(context, out, removal.random_order(400, seed)[:20], 3)
        by_chance.append(
            np.sqrt((((again.astype(float) - originals) / 255) ** 2).mean(axis=(1, 2)))
        )
    chance = found["random", 20]
    np.testing.assert_allclose(chance["own"][PIXELS], np.mean(by_chance, axis=0))
    table = next(each for each in result.tables if "beta-vae, pixels:" in each.title)
    told = next(
        each for each in rows_of(table) if (each["removed by"], each["K"]) == ("nearest-pixel", 20)
    )
    assert told["moved"] == mean_interval(near["own"][PIXELS])
    ratio = np.mean(near["own"][PIXELS]) / np.mean(chance["own"][PIXELS])
    assert told["× random"].mean == pytest.approx(ratio)
    farther = np.array(near["own"][PIXELS]) > chance["own"][PIXELS]
    assert told["moved more than by random"] == farther.mean()
    assert {Path(f).name for f in result.save(tmp_path / "out")} == {
        "counterfactual.json", "counterfactual.md", "counterfactual-moved.svg"}  # fmt: skip


def test_an_interrupted_study_trains_only_what_is_missing(
    context: Context, ran: list[str], tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"ks": (5,), "images": 2, "shares": (0.5,), "k": 5}
    first = counterfactual(context, {"beta-vae": QUICK}, **asked)
    n_trained = len(ran)
    drawn = sorted((tmp_path / "work" / "drawn").glob("*-without5-*.npz"))
    drawn[0].unlink()
    ran.clear()
    again = counterfactual(context, {"beta-vae": QUICK}, **asked)
    assert ran == ["retrain"]
    assert again.as_json() == first.as_json()
    # models are kept: a second look at other numbers of images trains nothing anew
    models = {file: file.stat().st_mtime_ns for file in (tmp_path / "work").glob("generators/*")}
    counterfactual(replace(context, m=20), {"beta-vae": QUICK}, **(asked | {"parts": ("model",)}))
    ours = {file: file.stat().st_mtime_ns for file in models}
    assert ours == models
    assert n_trained > 5


def test_curves_are_of_models_without_the_least_and_the_most_valuable(
    context: Context, ran: list[str], files: tuple[Path, Path], tmp_path: Path
) -> None:
    real = ImageSet.open(files[1])
    result = counterfactual(
        context, {"beta-vae": QUICK}, shares=(0.75, 0.25), k=4, real=real, parts=("model",)
    )
    found = {(each["valuer"], each["end"]): each for each in result.details["model"]}
    lines = [*found["random", ""]["measured"]["fid"]]
    assert len(lines) == 2
    lines += found["nearest-pixel", "lowest"]["measured"]["fid"]
    lines += found["nearest-pixel", "highest"]["measured"]["fid"]
    # nothing removed: the same model for all
    assert len({line[0] for line in lines}) == 1
    assert len({line[1] for line in lines}) == 4
    originals = redrawn(context, tmp_path / "whole.safetensors", None, 30)
    values = np.zeros(400)
    for image in originals:
        apart = distance_to(context, image)
        rows = np.argsort(apart, kind="stable")[:4]
        weights = np.exp(-(apart[rows] - apart[rows[0]]))
        values[rows] += weights / weights.sum()
    assert (values == 0).sum() < 390
    best = np.argsort(-values, kind="stable")[:300]
    # more than a quarter have no value at all: who goes first among them is drawn
    assert (values == 0).sum() > 100
    assert set(np.flatnonzero(values)) <= set(best.tolist())
    told = found["nearest-pixel", "highest"]
    order = ascending_rows(values)[::-1]
    again = redrawn(context, tmp_path / "few.safetensors", order[:300], 30)
    by_hand = likeness(cheap_features(real), cheap_features(ImageSet.open(list(again))))
    assert told["measured"]["fid"][0][2] == pytest.approx(by_hand.fid)
    assert told["measured"]["recall"][0][2] == by_hand.recall
    area = row(result.tables[-1], "beta-vae", "nearest-pixel", "fid")
    assert area["highest − lowest"] == area["highest"] - area["lowest"]
    saved = {Path(file).name for file in result.save(tmp_path / "out")}
    assert {f"counterfactual-{each}.svg" for each in ("fid", "precision", "recall")} <= saved
    assert "against 200 held-out ones" in result.notes[1]


class OfTheWholeSet:
    """Values images by all that is generated together."""

    def fit(self, train: ImageSet) -> None:
        self.train = train

    def value(self, generated: ImageSet) -> Valuation:
        values = np.arange(len(self.train), dtype=np.float64)
        settings = {"valuer": "whole", "whole_set": True}
        return assemble_for_set(self.train, values, settings=settings, seed=0, seconds={}, more={})


def test_who_cannot_judge_is_left_out_and_told(context: Context, ran: list[str]) -> None:
    # vae-tracin gets the snapshots that it needs
    valuers = [
        NamedValuer("whole", lambda k, seed: OfTheWholeSet(), {"valuer": "whole"}),
        NamedValuer("blind", lambda k, seed: OfTheWholeSet(), {"valuer": "blind"}, lambda _: None),
        named_valuer("vae-tracin"),
    ]
    result = counterfactual(
        replace(context, valuers=valuers),
        {"beta-vae": QUICK},
        ks=(5,),
        images=2,
        shares=(0.5,),
        k=5,
    )
    told = " ".join(result.notes)
    assert "whole is left out of beta-vae: it does not value single images" in told
    assert told.count("blind is left out of beta-vae") == 2
    judging = {"random", "nearest-pixel", "vae-tracin"}
    assert {each["valuer"] for each in result.details["image"]} == judging
    assert {each["valuer"] for each in result.details["model"]} == {*judging, "whole"}


def test_rows_must_name_the_same_images_everywhere(
    tmp_path: Path, digits: Digits, ran: list[str], context: Context
) -> None:
    folder = tmp_path / "set"
    contents = {f"{row:03d}.png": encode(image) for row, image in enumerate(digits[0][:60])}
    write_files(folder, contents | {"030.png": b"no image"})
    damaged = replace(context, train=ImageSet.open(folder))
    with pytest.raises(InputError, match="1 training images cannot be read; leave them out"):
        counterfactual(damaged, {"beta-vae": QUICK}, ks=(5,), images=1, parts=("image",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ks": (400,)}, r"\[400\] of 400 images removed .* from 1 to 399"),
        ({"ks": (0,)}, "ascending numbers from 1 to 399"),
        ({"images": 0}, "at least 1 generated image"),
        ({"shares": (0.5, 1.0), "parts": ("model",)}, r"shares \[0.5, 1.0\] of 400"),
        ({"shares": (0.0,), "parts": ("model",)}, "ascending ones between 0 and 1"),
        ({"parts": ("picture",)}, "part picture; pass a generator to train, and image or model"),
        ({"recipes": {}}, "no generator or part"),
        ({"recipes": {"vae": replace(QUICK, conditional=True)}}, "vae is conditional"),
    ],
)
def test_impossible_studies_are_told(
    context: Context, ran: list[str], changes: dict[str, Any], message: str
) -> None:
    asked: dict[str, Any] = {"recipes": {"beta-vae": QUICK}, "ks": (5,), "images": 1}
    with pytest.raises(InputError, match=message):
        counterfactual(context, **(asked | changes))
    assert not ran


def test_command_writes_tables_of_both_parts(
    files: tuple[Path, Path], tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes_module, "QUICK_RECIPES", {"beta-vae": QUICK})
    arguments = ["evaluate", "counterfactual", files[0], "--generator", "beta-vae", "--quiet"]
    arguments += ["--valuer", "nearest-pixel", "--valuer", "random", "--m", "20", "--seeds", "1"]
    arguments += ["--remove", "5", "--images", "2", "--share", "0.5", "--k", "5"]
    arguments += ["--held-out", files[1], "--work", tmp_path / "work", "--out", tmp_path / "out"]
    done = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0
    content = json.loads((tmp_path / "out" / "counterfactual.json").read_text())
    assert [len(table["rows"]) for table in content["tables"]] == [2, 2, 2, 3, 3, 3, 3]
    assert content["parameters"]["recipes"]["beta-vae"]["steps"] == QUICK.steps
    assert len(list((tmp_path / "out").glob("*.svg"))) == 4
    assert "moved more than by random" in done.output
    for wrong, message in (
        (
            ("--generated", f"real={files[1]}"),
            "counterfactual does not take --generated: it trains",
        ),
        (("--conditional",), "beta-vae is conditional"),
    ):
        refused = CliRunner().invoke(cli, list(map(str, [*arguments, *wrong])))
        assert isinstance(refused.exception, InputError)
        assert message in str(refused.exception)
