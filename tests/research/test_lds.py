"""Ground truth by retraining: subsets, losses, the linear datamodeling score and its ceiling."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from generator_checks import one_by_one
from gmvaluator import ImageSet
from gmvaluator.cli import cli
from gmvaluator.errors import InputError, RunError
from gmvaluator.evaluation.gradient_valuers import snapshots_wanted
from gmvaluator.evaluation.metrics import (
    linear_datamodeling_score,
    noise_ceiling,
    score_by_others,
)
from gmvaluator.evaluation.named import NamedValuer
from gmvaluator.evaluation.studies.lds import lds
from gmvaluator.evaluation.study import Context
from gmvaluator.evaluation.subjects import recipes
from gmvaluator.evaluation.subjects.recipes import Recipe
from gmvaluator.evaluation.truth import losses as losses_module
from gmvaluator.evaluation.truth import retraining
from gmvaluator.evaluation.truth.ground_truth import GroundTruth, ground_truth, random_subsets
from gmvaluator.evaluation.truth.losses import losses
from gmvaluator.evaluation.truth.snapshots import keep_snapshots
from gmvaluator.evaluation.valuers import named_valuer
from gmvaluator.files.pieces import Workspace
from gmvaluator.generators import generator_class, load_generator
from gmvaluator.generators.files import list_snapshots
from gmvaluator.progress import Silent

TINY = Recipe("beta-vae", 4, {"hidden": "8", "latent": 2, "size": 28, "batch_size": 8})


def truth_of(train: ImageSet, work: Path, **changes: Any) -> GroundTruth:
    asked: dict[str, Any] = {"m": 6, "subsets": 4, "seeds": 2, "recipe": TINY, **changes}
    return ground_truth(
        "beta-vae",
        train=train,
        train_name="digits",
        work=Workspace(work),
        progress=Silent(),
        **asked,
    )


def test_subsets_are_halves_and_fewer_are_the_first() -> None:
    subsets = random_subsets(11, 20)
    assert (subsets.sum(axis=1) == 6).all()
    np.testing.assert_array_equal(random_subsets(11, 5), subsets[:5])
    assert len({row.tobytes() for row in subsets}) > 15
    with pytest.raises(InputError, match="0 halves of 11 images"):
        random_subsets(11, 0)


def test_score_equals_that_of_dattri() -> None:
    from dattri.metric import lds as theirs

    rng = np.random.default_rng(0)
    scores, subsets = rng.normal(size=(30, 4)), random_subsets(30, 12)
    found = rng.normal(size=(12, 4))
    indices = torch.from_numpy(np.stack([np.flatnonzero(row) for row in subsets]))
    # theirs takes what rises with good scores: minus the loss
    wanted, _ = theirs(torch.from_numpy(scores), (torch.from_numpy(-found), indices))
    ours = linear_datamodeling_score(scores, subsets, found)
    np.testing.assert_allclose(ours, wanted.numpy(), atol=1e-6)


def test_score_of_what_decides_the_loss_is_one() -> None:
    subsets = random_subsets(40, 30)
    scores = np.random.default_rng(0).random((40, 3))
    np.testing.assert_allclose(
        linear_datamodeling_score(scores, subsets, -(subsets @ scores)), 1, atol=1e-12
    )
    assert np.isnan(linear_datamodeling_score(np.zeros((40, 3)), subsets, subsets @ scores)).all()
    with pytest.raises(InputError, match=r"scores \(40, 3\), subsets \(30, 40\)"):
        linear_datamodeling_score(scores, subsets, np.zeros((30, 2)))


def test_subsets_of_several_sizes_have_no_score() -> None:
    rng = np.random.default_rng(0)
    subsets = rng.random((30, 40)) < 0.5
    with pytest.raises(InputError, match=r"hold \d+ to \d+ images.*pass subsets of one size"):
        linear_datamodeling_score(
            rng.random((40, 3)), subsets, -subsets.sum(1)[:, None] * np.ones(3)
        )


def test_ceiling_is_what_the_expectation_reaches() -> None:
    rng = np.random.default_rng(0)
    expected = rng.normal(size=(400, 1, 20))
    noisy = expected + 2 * rng.normal(size=(400, 3, 20))  # agreement 1 / (1 + 4)
    ceiling = noise_ceiling(noisy)
    assert ceiling.agreement.mean == pytest.approx(0.2, abs=0.03)
    reached = np.mean(
        [np.corrcoef(expected[:, 0, j], noisy[:, :, j].mean(axis=1))[0, 1] for j in range(20)]
    )
    assert ceiling.attainable == pytest.approx(reached, abs=0.04)
    assert noise_ceiling(rng.normal(size=(50, 2, 40))).attainable < 0.25
    with pytest.raises(InputError, match="at least 2 of both"):
        noise_ceiling(noisy[:, :1])


def test_retraining_is_kept_and_goes_on(
    train: ImageSet, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        # one model is trained here, the halves in another process
        patched.setattr(recipes, "side_by_side", one_by_one)
        patched.setattr(os, "sched_getaffinity", lambda _: {0})
        first = truth_of(train, work)
    monkeypatch.setattr(retraining, "side_by_side", one_by_one)
    assert first.losses["elbo"].shape == (4, 2, 6)
    assert first.subsets.shape == (4, len(train))
    kept = {file: file.stat().st_mtime_ns for file in work.rglob("*.*")}
    (lost, *_) = sorted((work / "losses").glob("*.npz"))
    lost.unlink()
    again = truth_of(train, work)
    np.testing.assert_array_equal(again.losses["elbo"], first.losses["elbo"])
    changed = {file for file in kept if file.exists() and file.stat().st_mtime_ns != kept[file]}
    assert changed == {lost}
    # a model that was trained on a half, by hand
    job = recipes.Job("mine", TINY, train.select(np.flatnonzero(first.subsets[1])), 1)
    file = tmp_path / "mine.safetensors"
    recipes.train_job(job, file)
    np.testing.assert_allclose(
        losses(load_generator(file), first.generated)["elbo"],
        first.losses["elbo"][1, 1],
        rtol=1e-5,  # another number of threads sums in another order
    )


def test_classes_and_too_few_are_refused(train: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="beta-vae is conditional"):
        truth_of(train, tmp_path, recipe=Recipe("beta-vae", 4, conditional=True))
    with pytest.raises(InputError, match="0 seeds"):
        truth_of(train, tmp_path, seeds=0)


def model_of(family: str, **settings: Any) -> Any:
    kind = generator_class(family)
    return kind(kind.config_class(size=28, channels=1, **settings), seed=0)


def test_loss_of_a_vae_is_its_own(train: ImageSet) -> None:
    model = model_of("beta-vae", hidden=(8,), latent=2, beta=3.0)
    found = losses(model, train.select(np.arange(5)))["elbo"]
    pixels = torch.stack([torch.from_numpy(train[row][:, :, :1].copy()) for row in range(5)])
    pixels = pixels.permute(0, 3, 1, 2).float() / 255
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        noises = [torch.randn((5, 2), generator=chance) for _ in range(400)]
        draws = [model.loss(pixels, None, noise).item() for noise in noises]
    # sixteen codes against 400: the mean of the few may be off by some of their errors
    assert abs(found.mean() - np.mean(draws)) < 4 * np.std(draws) / np.sqrt(
        losses_module.ELBO_DRAWS
    )
    np.testing.assert_array_equal(found, losses(model, train.select(np.arange(5)))["elbo"])


def test_loss_of_a_diffusion_model_is_its_own(train: ImageSet) -> None:
    model = model_of("ddpm", classes=1, width=8, label_dropout=1.0)
    # it starts by predicting no noise at all: the mean square of standard normal noise remains
    found = losses(model, train.select(np.arange(4)))["denoising"]
    assert found.shape == (4,)
    np.testing.assert_allclose(found, 1, atol=0.03)


def test_loss_of_a_gan_is_nearness_of_what_it_draws(
    train: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses_module, "DRAWN", 24)
    model = model_of("gan", hidden=(8,), critic_hidden=(8,), norm="none")
    found = losses(model, train.select(np.arange(3)))
    drawn = model.sample(24, seed=losses_module.SEED).reshape(24, -1) / 255
    asked = np.stack([train[row][:, :, 0].reshape(-1) / 255 for row in range(3)])
    apart = np.sqrt(((asked[:, None] - drawn[None]) ** 2).sum(axis=2)) * np.sqrt(3)  # as RGB
    wanted = np.sort(apart, axis=1)[:, : losses_module.NEIGHBOURS].mean(axis=1)
    np.testing.assert_allclose(found["pixels"], wanted, rtol=1e-4)
    assert (found["features"] > 0).all()
    # what it draws itself is nearer to it
    own = losses(model, ImageSet.open(list(model.sample(3, seed=losses_module.SEED))))
    assert (own["pixels"] < found["pixels"]).all()


def test_images_it_cannot_draw_are_refused(train: ImageSet) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (2, 28, 28, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="images of 3 channels"):
        losses(model_of("beta-vae", hidden=(8,), latent=2), ImageSet.open(list(colours)))


def _unmade(k: int, seed: int) -> Any:
    raise AssertionError("nothing to value with")


@pytest.mark.usefixtures("in_this_process")
def test_snapshots_join_a_kept_model_that_stays_as_it_is(train: ImageSet, tmp_path: Path) -> None:
    first = truth_of(train, tmp_path)
    kept = {file: file.read_bytes() for file in (tmp_path / "generators").glob("*.safetensors")}
    again = truth_of(train, tmp_path, keep=2)
    assert first.generator is not None
    snapshots = list_snapshots(first.generator)
    assert [each.step for each in snapshots] == [2, 4]
    assert [load_file(each.path).keys() for each in snapshots[1:]] == [
        load_file(first.generator).keys()
    ]
    for name, weights in load_file(first.generator).items():
        assert torch.equal(load_file(snapshots[1].path)[name], weights)
    assert {file: file.read_bytes() for file in kept} == kept
    np.testing.assert_array_equal(again.losses["elbo"], first.losses["elbo"])
    assert list((tmp_path / "snapshots").iterdir()) == []
    times = [each.path.stat().st_mtime_ns for each in snapshots]
    truth_of(train, tmp_path, keep=2)
    assert [each.path.stat().st_mtime_ns for each in snapshots] == times


@pytest.mark.usefixtures("in_this_process")
def test_snapshots_of_another_model_are_refused(train: ImageSet, tmp_path: Path) -> None:
    job, work = recipes.Job("own", TINY, train), Workspace(tmp_path)
    recipes.train_job(job, job.file(work))
    model = load_generator(job.file(work))
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-6
    model.save(job.file(work))
    with pytest.raises(RunError, match=r"own-\w+-seed0.safetensors was trained on another machine"):
        keep_snapshots(job, 2, work, Silent())
    assert list_snapshots(job.file(work)) == ()


def test_snapshots_are_wanted_by_vae_tracin_of_a_vae() -> None:
    valuers = [named_valuer("trak"), named_valuer("vae-tracin")]
    assert snapshots_wanted(valuers, "beta-vae") == 5
    assert snapshots_wanted(valuers, "ddpm") == 0
    assert snapshots_wanted(valuers[:1], "beta-vae") == 0


@pytest.mark.usefixtures("in_this_process")
def test_study_tables_every_valuer(train: ImageSet, work: Path, tmp_path: Path) -> None:
    names = ("nearest-pixel", "global-ridge", "vae-tracin", "trak", "d-trak", "random")
    blind = NamedValuer("blind", _unmade, {"valuer": "blind"}, lambda _: None)
    whole = NamedValuer("if4gan", _unmade, {"valuer": "if4gan"})
    context = Context(
        train=train,
        subjects=(),
        valuers=[*(named_valuer(name) for name in names), blind, whole],
        seeds=2,
        m=6,
        work=Workspace(work),
        train_name="digits",
    )
    result = lds(context, {"beta-vae": TINY}, subsets=4, k=20)
    (table,) = result.tables
    assert [row[0] for row in table.rows] == [*names, "attainable"]
    assert "blind cannot look into beta-vae: left out there." in result.notes
    assert any(note.startswith("if4gan is left out: it scores") for note in result.notes)
    # by hand, from what was kept
    truth = truth_of(train, work)
    valuer = named_valuer("nearest-pixel").make(20, 0)
    valuer.fit(train)
    scores = valuer.value(truth.generated).score_matrix()
    wanted = linear_datamodeling_score(scores, truth.subsets, truth.losses["elbo"].mean(axis=1))
    shown: Any = table.rows[0][1]
    assert shown.mean == pytest.approx(wanted.mean())
    losses = truth.losses["elbo"].mean(axis=1)
    assert table.columns[3] == "by others"
    assert table.rows[0][3] == pytest.approx(score_by_others(scores, truth.subsets, losses))
    files = {file.name for file in result.save(tmp_path / "out")}
    assert files == {"lds.json", "lds.md", "lds-bars.svg"}


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("study", "options", "parameter", "refused"),
    [
        ("lds", ["--valuer", "random"], ("subsets", 4), {"--generated": "it trains"}),
        (
            "spaces",
            ["--space", "pixels@7"],
            ("spaces", ["pixels@7"]),
            {"--valuer": "it brings its own", "--generated": "it trains"},
        ),
    ],
)
def test_commands(
    study: str,
    options: list[str],
    parameter: tuple[str, Any],
    refused: dict[str, str],
    train: ImageSet,
    work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "digits.npz"
    np.savez(file, images=np.stack([train[row][:, :, 0] for row in range(len(train))]))
    monkeypatch.setattr(recipes, "QUICK_RECIPES", {"beta-vae": TINY})
    arguments = ["evaluate", study, str(file), "--generator", "beta-vae", *options]
    sizes = ["--seeds", "2", "--m", "6", "--subsets", "4", "--k", "10", "--json"]
    folders = ["--work", str(work), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, [*arguments, *sizes, *folders])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["parameters"][parameter[0]] == parameter[1]
    assert result["tables"][0]["title"] == "digits, beta-vae, elbo"
    values = {"--valuer": "random", "--generated": f"x={file}"}
    for option, reason in refused.items():
        wrong = CliRunner().invoke(cli, [*arguments, option, values[option], *folders])
        assert isinstance(wrong.exception, InputError)
        assert f"{study} does not take {option}: {reason}" in str(wrong.exception)
