"""TRAK and D-TRAK: gradients, projection, kernel, scores, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from generator_checks import halves, train_tiny, write_halves
from gmvaluator import Valuation
from gmvaluator.baselines import trak_features
from gmvaluator.baselines.functionals import Differentiated, Functional, differentiated
from gmvaluator.baselines.projection import SparseProjection
from gmvaluator.baselines.reading import Pixels
from gmvaluator.baselines.sample_gradients import Batch, sample_gradients
from gmvaluator.baselines.trak import TRAK, DampedKernel
from gmvaluator.errors import InputError, RunError
from gmvaluator.generators import load_generator
from gmvaluator.generators.base import GeneratorModel
from gmvaluator.generators.beta_vae import BetaVAE, BetaVAEConfig
from gmvaluator.generators.conv_beta_vae import ConvBetaVAE, ConvBetaVAEConfig
from gmvaluator.generators.ddpm import DDPM, DDPMConfig, add_noise

WRONG: Any = "mean"
MLP: dict[str, Any] = {"network": "mlp", "hidden": (12,), "label_dropout": 1.0}
MADE: dict[str, Callable[[], GeneratorModel]] = {
    "beta-vae": lambda: BetaVAE(BetaVAEConfig(size=8, hidden=(12,), latent=3, beta=2.0)),
    "conditional": lambda: BetaVAE(BetaVAEConfig(size=8, hidden=(12,), latent=3, classes=2)),
    "conv-beta-vae": lambda: ConvBetaVAE(ConvBetaVAEConfig(size=28, width=2, latent=3)),
    "unet": lambda: DDPM(DDPMConfig(size=28, classes=2, width=8)),
    "mlp": lambda: DDPM(DDPMConfig(size=28, classes=2, network="mlp", hidden=(12,))),
    "image": lambda: DDPM(
        DDPMConfig(size=28, classes=2, network="mlp", hidden=(12,), predicts="image")
    ),
}


def made(kind: str) -> GeneratorModel:
    """A small generator, far from its initial weights of zero."""
    model = MADE[kind]()
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.1 * torch.randn(each.shape, generator=chance))
    return model


def batch(network: Differentiated, model: GeneratorModel, n: int = 3, *, own: bool = True) -> Batch:
    drawn = torch.Generator().manual_seed(1)
    return Batch(
        torch.rand((n, *model.config.image_shape), generator=drawn),
        torch.arange(n) % 2 if model.classes else None,
        torch.randn((n if own else 1, *network.noise_shape), generator=drawn),
    )


@pytest.mark.parametrize("functional", ["loss", "square"])
@pytest.mark.parametrize("kind", list(MADE))
def test_gradients_are_those_of_autograd(kind: str, functional: Functional) -> None:
    model = made(kind)
    network = differentiated(model, functional, 4)
    for own in (True, False):
        images = batch(network, model, own=own)
        found = sample_gradients(network, images)
        for i in range(3):
            noise = images.noise[i : i + 1] if own else images.noise
            labels = None if images.labels is None else images.labels[i : i + 1]
            number = network(images.pixels[i : i + 1], labels, noise)
            alone = torch.autograd.grad(number.sum(), list(model.parameters()), allow_unused=True)
            flat = [
                torch.zeros_like(each) if part is None else part
                for part, each in zip(alone, model.parameters(), strict=True)
            ]
            wanted = torch.cat([part.flatten() for part in flat])
            torch.testing.assert_close(found[i], wanted, rtol=1e-3, atol=1e-5)


def test_numbers_are_means_of_what_training_minimises() -> None:
    model = made("conditional")
    assert isinstance(model, BetaVAE)
    network = differentiated(model, "loss", 4)
    images = batch(network, model)
    labels = images.labels
    draws = [model.elbo_terms(images.pixels, labels, images.noise[:, s]) for s in range(4)]
    wanted = torch.stack([error + divergence for error, divergence in draws]).mean(dim=0)
    torch.testing.assert_close(network(images.pixels, labels, images.noise), wanted)
    logits = []
    for s in range(4):
        mean, spread = model.encode(images.pixels, labels)
        logits.append(model.decode(mean + images.noise[:, s] * (spread / 2).exp(), labels))
    squares = torch.stack(logits).square().mean(dim=(0, 2, 3, 4))
    square = differentiated(model, "square", 4)
    torch.testing.assert_close(square(images.pixels, labels, images.noise), squares)


@pytest.mark.parametrize("kind", ["unet", "image"])
def test_numbers_of_a_diffusion_model(kind: str) -> None:
    model = made(kind)
    assert isinstance(model, DDPM)
    network = differentiated(model, "loss", 4)
    images = batch(network, model)
    signed, labels = 2 * images.pixels - 1, images.labels
    assert labels is not None
    losses, squares = [], []
    for s, time in enumerate((125, 375, 625, 875)):
        times, noise = torch.full((3,), time), images.noise[:, s]
        losses.append(model.errors(signed, noise, times, labels))
        noisy = add_noise(signed, noise, model.shares[times])
        squares.append(model.network(noisy, times / 1000, labels).square().mean(dim=(1, 2, 3)))
    found = network(images.pixels, labels, images.noise)
    torch.testing.assert_close(found, torch.stack(losses).mean(dim=0))
    square = differentiated(model, "square", 4)
    found = square(images.pixels, labels, images.noise)
    torch.testing.assert_close(found, torch.stack(squares).mean(dim=0))
    # without labels: the class that stands for none
    free = network(images.pixels, None, images.noise)
    torch.testing.assert_close(free, network(images.pixels, torch.full((3,), 2), images.noise))


def test_projection_keeps_dot_products() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 3_000)).astype(np.float32)
    wanted = rows @ rows.T / 3_000
    errors = []
    for seed in range(4):
        projected = SparseProjection(3_000, 400, (seed,))(rows)
        assert projected.shape == (40, 400)
        assert projected.dtype == np.float32
        errors.append(projected @ projected.T / 3_000 - wanted)
    # a dense matrix of signs errs by √(1 / size), on the diagonal by √2 of it
    apart = np.array(errors)[:, ~np.eye(40, dtype=bool)]
    assert apart.std() == pytest.approx(400**-0.5, rel=0.1)
    assert abs(apart.mean()) < 0.005
    again = SparseProjection(3_000, 400, (3,))
    np.testing.assert_array_equal(again(rows), projected)
    assert not np.allclose(SparseProjection(3_000, 400, (4,))(rows), projected)
    np.testing.assert_allclose(again(rows[:1] + rows[1:2]), projected[:1] + projected[1:2], 1e-3)
    with pytest.raises(InputError, match="size=10 of 4 parts; pass a multiple of 4"):
        SparseProjection(3_000, 10, (0,))


@pytest.mark.parametrize("shape", [(30, 12), (12, 30)])
def test_kernel_scores_solve_the_damped_system(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=shape).astype(np.float32)
    asked = rng.normal(size=(5, shape[1])).astype(np.float32)
    kernel = DampedKernel(features, 0.3)
    double = features.astype(np.float64)
    gram = double.T @ double
    assert kernel.regularizer == pytest.approx(0.3 * np.trace(gram) / 12)
    wanted = double @ np.linalg.solve(gram + kernel.regularizer * np.eye(shape[1]), asked.T)
    np.testing.assert_allclose(kernel.scores(asked), wanted, rtol=1e-8)


def test_features_that_depend_on_each_other_need_damping() -> None:
    with pytest.raises(InputError, match=r"9 gradients of 4 numbers depend .* damping=0"):
        DampedKernel(np.ones((9, 4), np.float32), 0.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Tiny β-VAEs of `halves` from two seeds."""
    folder = tmp_path_factory.mktemp("trak")
    data = write_halves(folder / "halves.npz", 40, channels=1)
    files = [folder / f"vae{seed}.safetensors" for seed in range(2)]
    for seed, file in enumerate(files):
        train_tiny("beta-vae", data, file, steps=60, seed=seed, settings={"hidden": (6,)})
    return files


def images(rows: slice | list[int]) -> NDArray[np.uint8]:
    return halves(60, channels=1)[0][rows, ..., 0]


def slow(
    file: Path, functional: Functional, valuer: TRAK, train: Any, test: Any, draws: int
) -> NDArray[np.float64]:
    """Scores by a loop of autograd and a full inverse, for gradients that are not projected."""
    model = load_generator(file)
    network = differentiated(model, functional, draws)
    number = valuer._files.index(file)
    noise = trak_features.ProjectedGradients(
        network, projections=None, seed=(0, number), memory=1 << 20, name=""
    )._noise

    def gradient(image: Any) -> NDArray[np.float64]:
        pixels = torch.from_numpy(image.copy())[None, None].float() / 255
        alone = torch.autograd.grad(network(pixels, None, noise).sum(), list(model.parameters()))
        return torch.cat([part.flatten() for part in alone]).double().numpy()

    phi, asked = (np.stack([gradient(each) for each in side]) for side in (train, test))
    gram = phi.T @ phi
    damping = valuer._damping * np.trace(gram) / min(phi.shape)
    inverse = np.linalg.inv(gram + damping * np.eye(len(gram)))
    return np.asarray(phi @ inverse @ asked.T)


@pytest.mark.parametrize("functional", ["loss", "square"])
def test_scores_equal_a_slow_reference(trained: list[Path], functional: Functional) -> None:
    train, test = images(slice(12)), images(slice(40, 44))
    found = []
    for files in (trained[:1], trained[1:], trained):
        valuer = TRAK(files, functional=functional, draws=3, projections=None)
        found.append(valuer.fit(train).influence(test))
        wanted = [slow(file, functional, valuer, train, test, 3) for file in files]
        np.testing.assert_allclose(found[-1], np.mean(wanted, axis=0), rtol=1e-3, atol=1e-6)
    assert not np.allclose(found[0], found[1], rtol=0.1)


def test_scores_equal_those_of_dattri(trained: list[Path]) -> None:
    from dattri.algorithm.trak import TRAKAttributor
    from dattri.task import AttributionTask
    from torch.utils.data import DataLoader, TensorDataset

    train, test = images(slice(12)), images(slice(40, 44))
    ours = TRAK(trained[0], draws=3, projections=None).fit(train)
    model = load_generator(trained[0])
    network = differentiated(model, "loss", 3)
    noise = trak_features.ProjectedGradients(
        network, projections=None, seed=(0, 0), memory=1 << 20, name=""
    )._noise

    def loss(weights: Any, data: Any) -> Tensor:
        arguments = (data[0][None], None, noise)
        found: Tensor = torch.func.functional_call(network, weights, arguments)[0]
        return found

    def no_probability(weights: Any, data: Any) -> Tensor:
        return torch.zeros(())

    loaders = [
        DataLoader(TensorDataset(torch.from_numpy(side.copy())[:, None].float() / 255), 12)
        for side in (train, test)
    ]
    length = model.n_parameters
    theirs = TRAKAttributor(
        AttributionTask(loss, network, network.state_dict()),
        no_probability,
        # theirs is of gradients divided by √length
        regularization=ours._kernels[0].regularizer / length,
        projector_kwargs={"proj_dim": length, "proj_type": "identity", "device": "cpu"},
    )
    theirs.cache(loaders[0])
    wanted = theirs.attribute(loaders[1]).numpy()
    np.testing.assert_allclose(ours.influence(test), wanted, rtol=1e-2, atol=1e-4)


def test_projected_scores_are_near_the_whole_ones(trained: list[Path]) -> None:
    train, test = images(slice(30)), images(slice(40, 50))
    whole = TRAK(trained[0], draws=3, projections=None).fit(train).influence(test)
    near = TRAK(trained[0], draws=3, projections=2048).fit(train).influence(test)
    assert np.corrcoef(whole.ravel(), near.ravel())[0, 1] > 0.95
    again = TRAK(trained[0], draws=3, projections=2048).fit(train).influence(test)
    np.testing.assert_array_equal(near, again)
    other = TRAK(trained[0], draws=3, projections=2048, seed=1).fit(train).influence(test)
    assert not np.allclose(near, other, rtol=1e-3)


def test_batches_and_blocks_change_nothing(
    trained: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = images(slice(30)), images(slice(40, 46))
    whole = TRAK(trained[0], draws=3).fit(train).influence(test)
    monkeypatch.setattr(trak_features, "_MOST_BYTES", 1)
    small = TRAK(trained[0], draws=3)
    small._memory = 4 * 3 * 8 * 30 * 2  # scores of two images; features on disk
    found = list(
        small.fit(train)._blocks(Pixels(np.empty((30, 0), np.uint8)), small._read(test).pixels)
    )
    assert [each.shape for each in found] == [(30, 2)] * 3
    scale = abs(whole).max()
    np.testing.assert_allclose(np.concatenate(found, axis=1), whole, rtol=1e-3, atol=1e-4 * scale)


def test_valuation_holds_the_best_and_is_kept(trained: list[Path], tmp_path: Path) -> None:
    train, test = images(slice(30)), images(slice(40, 46))
    valuer = TRAK(trained[0], functional="square", draws=3, k=4).fit(train)
    influence, valuation = valuer.influence(test), valuer.value(test)
    best = np.argsort(-influence, axis=0, kind="stable")[:4].T
    np.testing.assert_array_equal(valuation.contributions.rows, best)
    np.testing.assert_allclose(
        valuation.contributions.scores, np.take_along_axis(influence, best.T, axis=0).T
    )
    settings = valuation.info["settings"]
    assert (settings["valuer"], settings["signed"], settings["models"]) == ("d-trak", True, 1)
    assert set(valuation.info["seconds"]) == {"gradients", "values"}
    dense = TRAK(trained[0], functional="square", draws=3, k=None).fit(train).value(test)
    np.testing.assert_allclose(dense.values, influence.sum(axis=1), rtol=1e-9)
    dense.save(tmp_path / "run")
    np.testing.assert_allclose(Valuation.load(tmp_path / "run").values, dense.values, rtol=1e-9)


@pytest.mark.parametrize("functional", ["loss", "square"])
@pytest.mark.parametrize("family", ["beta-vae", "ddpm"])
def test_own_copy_is_at_the_top(family: str, functional: Functional, tmp_path: Path) -> None:
    side = 8 if family == "beta-vae" else 28
    # eight images of noise, which a small network learns by heart
    data = np.random.default_rng(0).integers(0, 256, (8, side, side), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=data, labels=["a"] * 8)
    file = tmp_path / "model.safetensors"
    settings: dict[str, Any] = {"batch_size": 8, "learning_rate": 3e-3}
    settings |= {"hidden": (64,), "latent": 8} if family == "beta-vae" else MLP
    train_tiny(family, tmp_path / "data.npz", file, steps=300, settings=settings)
    valuer = TRAK(file, functional=functional, draws=8, k=1, damping=0.1).fit(data)
    rows = valuer.value(data).contributions.rows[:, 0]
    np.testing.assert_array_equal(rows, np.arange(8))


def test_labels_are_read_where_a_model_learnt_them(tmp_path: Path) -> None:
    data = write_halves(tmp_path / "halves.npz", 16, size=28, channels=1)
    hidden, told = tmp_path / "hidden.safetensors", tmp_path / "told.safetensors"
    train_tiny("ddpm", data, hidden, settings={"label_dropout": 1.0})
    train_tiny("ddpm", data, told)
    unlabelled = halves(16, 28, channels=1)[0][..., 0]
    assert TRAK(hidden, draws=2, k=2).fit(unlabelled).value(unlabelled[:3]).values.shape == (16,)
    with pytest.raises(InputError, match="images of a conditional network"):
        TRAK(told, draws=2).fit(unlabelled)
    # the class changes the gradient
    labelled = TRAK(told, draws=2, k=None).fit(data)
    np.savez(tmp_path / "swapped.npz", images=unlabelled, labels=["right", "left"] * 8)
    swapped = TRAK(told, draws=2, k=None).fit(tmp_path / "swapped.npz")
    assert not np.allclose(labelled.influence(data), swapped.influence(data), rtol=1e-3)


def test_gradients_that_are_not_finite_are_told(trained: list[Path], tmp_path: Path) -> None:
    model = load_generator(trained[0])
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    model.save(tmp_path / "broken.safetensors")
    with pytest.raises(RunError, match=r"broken.safetensors are not finite"):
        TRAK(tmp_path / "broken.safetensors").fit(images(slice(6)))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda files: TRAK([]), "no model was given"),
        (lambda files: TRAK(files[0], functional=WRONG), "functional='mean'; choose from loss"),
        (lambda files: TRAK(files[0], projections=10), "projections=10; pass a multiple of 4"),
        (lambda files: TRAK(files[0], draws=0), "draws=0 was given"),
        (lambda files: TRAK(files[0], projections=0), "projections=0 was given"),
        (lambda files: TRAK(files[0], damping=-1.0), "damping=-1.0 was given; pass a number"),
        (lambda files: TRAK(files[0]).value(images(slice(2))), "is not fitted"),
        (
            lambda files: TRAK(files[0], k=9, draws=2).fit(images(slice(8))).value(images([1])),
            "k=9 exceeds the 8 training images",
        ),
        (
            lambda files: TRAK(files[0]).fit(halves(4)[0]),
            "has colour images, and the network takes grey ones",
        ),
    ],
)
def test_bad_input_is_named(trained: list[Path], ask: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(trained)


def test_models_that_do_not_fit_are_named(trained: list[Path], tmp_path: Path) -> None:
    data = write_halves(tmp_path / "halves.npz", channels=1)
    train_tiny("gan", data, tmp_path / "gan.safetensors")
    with pytest.raises(InputError, match="a gan has no loss of single images"):
        TRAK(tmp_path / "gan.safetensors")
    train_tiny("beta-vae", data, tmp_path / "other.safetensors", settings={"hidden": (17,)})
    with pytest.raises(InputError, match=r"other.safetensors is another beta-vae than"):
        TRAK([trained[0], tmp_path / "other.safetensors"])
