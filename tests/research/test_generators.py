"""Generator families: the laws of each, what they draw, their files, and the one that ships."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from generator_checks import TINY, train_tiny, write_halves
from gmvaluator.errors import InputError, RunError
from gmvaluator.generators import FAMILIES, demo_generator, generator_class, load_generator
from gmvaluator.generators.averaging import truncated
from gmvaluator.generators.base import GeneratorModel
from gmvaluator.generators.beta_vae import BetaVAE, BetaVAEConfig
from gmvaluator.generators.biggan import BigGAN, BigGANConfig, Critic
from gmvaluator.generators.config import config_from_json, parse_settings
from gmvaluator.generators.conv_beta_vae import ConvBetaVAE, ConvBetaVAEConfig
from gmvaluator.generators.ddpm import DDPM, DDPMConfig, add_noise, ddim, signal_shares
from gmvaluator.generators.gan import GAN, GANConfig
from gmvaluator.generators.unet import UNet

NAMES = tuple(FAMILIES)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tiny(name: str, channels: int = 1, classes: int = 2) -> GeneratorModel:
    """An untrained tiny model."""
    kind = generator_class(name)
    return kind(kind.config_class(**TINY[name], channels=channels, classes=classes), seed=3)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- β-VAE ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        BetaVAE(BetaVAEConfig(size=6, hidden=(16,), latent=3, beta=4.0), seed=1),
        ConvBetaVAE(ConvBetaVAEConfig(width=2, latent=3, beta=4.0), seed=1),
    ],
    ids=["fully connected", "convolutional"],
)
def test_the_kl_term_and_the_loss_are_those_of_the_paper(model: BetaVAE | ConvBetaVAE) -> None:
    pixels = torch.rand((4, *model.config.image_shape), generator=torch.Generator().manual_seed(0))
    noise = normal(4, 3)
    mean, log_variance = model.encode(pixels)
    error, divergence = model.elbo_terms(pixels, None, noise)
    posterior = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    prior = torch.distributions.Normal(torch.zeros(3), torch.ones(3))
    expected = torch.distributions.kl_divergence(posterior, prior).sum(dim=1)
    torch.testing.assert_close(divergence, expected)
    shown = torch.sigmoid(model.decode(mean + noise * torch.exp(0.5 * log_variance)))
    slow = -(pixels * shown.log() + (1 - pixels) * (1 - shown).log()).sum(dim=(1, 2, 3))
    torch.testing.assert_close(error, slow, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.loss(pixels, None, noise), (error + 4.0 * divergence).mean())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert model.elbo_terms(pixels, None, noise)[1].abs().max() == 0


# --- DDPM ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("times", [50, 1000])
def test_the_forward_process_keeps_the_variance(schedule: str, times: int) -> None:
    shares = signal_shares(DDPMConfig(classes=1, schedule=schedule, times=times))  # type: ignore[arg-type]
    assert shares.shape == (times,)
    assert bool((shares.diff() < 0).all())
    assert 0.9 < float(shares[0]) < 1
    assert 0 <= float(shares[-1]) < 0.01
    images, noise = normal(1, 1, 100, 100, seed=1), normal(1, 1, 100, 100, seed=2)
    for at in (0, times // 2, times - 1):
        noisy = add_noise(images, noise, shares[at : at + 1])
        assert float(noisy.var()) == pytest.approx(1.0, abs=0.05)


def test_ddim_with_the_true_noise_returns_the_image() -> None:
    config = DDPMConfig(classes=1, schedule="linear")
    shares = signal_shares(config)
    image = normal(3, 1, 8, 8, seed=1).clamp(-1, 1)
    noise = normal(3, 1, 8, 8, seed=2)
    start = add_noise(image, noise, shares[-1:].expand(3))

    def true_noise(noisy: torch.Tensor, time: int) -> torch.Tensor:
        return (noisy - shares[time].sqrt() * image) / (1 - shares[time]).sqrt()

    for steps in (1, 2, 50):
        torch.testing.assert_close(ddim(start, shares, steps, true_noise), image, atol=1e-3, rtol=0)


@pytest.mark.parametrize("network", ["unet", "mlp"])
def test_a_network_that_predicts_the_image_says_the_same_of_the_noise(network: str) -> None:
    settings = {**TINY["ddpm"], "network": network, "hidden": (8,), "predicts": "image"}
    model = DDPM(DDPMConfig(**settings, classes=1), seed=3)
    for i, parameter in enumerate(model.parameters()):
        parameter.data = 0.1 * normal(*parameter.shape, seed=i)
    images, noise = normal(3, 1, 28, 28, seed=1).clamp(-1, 1), normal(3, 1, 28, 28, seed=2)
    times, labels = torch.tensor([10, 500, 900]), torch.zeros(3, dtype=torch.int64)
    share = signal_shares(model.config)[times]
    noisy = add_noise(images, noise, share)
    with torch.no_grad():
        image = model.network(noisy, times / model.config.times, labels)
        found = model.predict(noisy, times, labels)
        errors = model.errors(images, noise, times, labels)
    torch.testing.assert_close(add_noise(image, found, share), noisy)
    torch.testing.assert_close(errors, ((image - images) ** 2).mean(dim=(1, 2, 3)))
    assert float(errors.max()) > 0


def test_a_fully_connected_diffusion_model_is_drawn_saved_and_learns(tmp_path: Path) -> None:
    data = write_halves(tmp_path / "halves.npz", size=28, channels=1)
    settings = {"network": "mlp", "hidden": (32,), "predicts": "image", "learning_rate": 1e-2}
    losses = []
    for steps in (1, 60):
        file = tmp_path / f"{steps}.safetensors"
        train_tiny("ddpm", data, file, steps=steps, settings=settings)
        model = load_generator(file)
        assert isinstance(model, DDPM)
        assert model.sample(3, seed=1).shape == (3, 28, 28)
        images = torch.full((8, 1, 28, 28), -0.85)
        images[:, :, :, :14] = 0.7
        times, labels = torch.full((8,), 300), torch.zeros(8, dtype=torch.int64)
        with torch.no_grad():
            losses.append(float(model.errors(images, normal(*images.shape), times, labels).mean()))
    assert losses[1] < 0.5 * losses[0]


def test_guidance_of_one_is_the_conditional_model_and_of_zero_the_free_one() -> None:
    model = tiny("ddpm")
    assert isinstance(model, DDPM)
    for i, parameter in enumerate(model.parameters()):
        parameter.data = 0.1 * normal(*parameter.shape, seed=i)
    noisy, times, labels = (
        normal(3, 1, 28, 28),
        torch.tensor([1, 500, 999]),
        torch.tensor([0, 1, 1]),
    )
    conditional = model.predict(noisy, times, labels)
    free = model.predict(noisy, times, torch.full_like(labels, 2))
    assert (conditional - free).abs().max() > 1e-3
    for scale in (0.0, 1.0, 2.5):
        guided = model.with_sampling(guidance=scale).guided(noisy, times, labels)
        torch.testing.assert_close(guided, free + scale * (conditional - free), atol=1e-4, rtol=0)
    assert model.config.guidance == 1.5


def test_a_model_whose_training_hid_all_labels_has_no_classes() -> None:
    told = tiny("ddpm")
    assert isinstance(told.config, DDPMConfig)
    config = replace(told.config, label_dropout=1.0, sampling_steps=2)
    hidden = DDPM(config, ("a", "b"), seed=3)
    for i, parameter in enumerate(hidden.parameters()):
        parameter.data = 0.1 * normal(*parameter.shape, seed=i)
    assert (told.classes, hidden.classes, hidden.class_names) == (2, 0, ())
    with pytest.raises(InputError):
        hidden.sample(2, [0, 1])
    # it draws by the null class alone, whatever the guidance
    noise = normal(2, 1, 28, 28)
    drawn = hidden.draw(noise, None)
    torch.testing.assert_close(hidden.draw(noise, torch.full((2,), hidden.nobody)), drawn)
    torch.testing.assert_close(hidden.with_sampling(guidance=3.0).draw(noise, None), drawn)
    assert (hidden.draw(noise, torch.zeros(2, dtype=torch.int64)) - drawn).abs().max() > 1e-3


def test_dropped_labels_teach_the_null_class() -> None:
    model = tiny("ddpm")
    assert isinstance(model, DDPM)
    learner = model.learner(steps=10)
    labels = torch.arange(10_000) % 2
    dropped = learner.dropped(labels, torch.Generator().manual_seed(1))
    hidden = dropped == 2
    assert 0.08 < hidden.float().mean() < 0.12
    assert torch.equal(dropped[~hidden], labels[~hidden])
    for i, parameter in enumerate(model.parameters()):
        parameter.data = 0.1 * normal(*parameter.shape, seed=i)
    assert isinstance(model.network, UNet)
    before = model.network.label.weight.detach().clone()
    loss = model.predict(normal(2, 1, 28, 28), torch.tensor([3, 4]), torch.tensor([2, 2])).sum()
    learner.descend("optimizer", loss)
    changed = (model.network.label.weight != before).any(dim=1)
    assert changed.tolist() == [False, False, True]


# --- BigGAN and GAN ------------------------------------------------------------------------------


def test_spectral_norms_are_about_one() -> None:
    config = BigGANConfig(width=4, latent=8, shared=4, classes=3)
    for network in (BigGAN(config, seed=1), Critic(config, seed=1)):
        network.train()
        layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
        assert len(layers) > 10
        for layer in layers:
            with torch.no_grad():
                original = layer.parametrizations.weight.original  # type: ignore[union-attr]
                original.mul_(7.0)  # type: ignore[operator]
                norms = [
                    torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2) for _ in range(20)
                ]
            assert 0.95 < float(norms[-1]) < 1.1


def test_a_biggan_of_an_earlier_version_draws_the_same() -> None:
    config = BigGANConfig(width=4, latent=8, shared=4, classes=3)
    model = BigGAN(config, seed=1).eval()
    older = {
        name.replace("parametrizations.weight.original", "weight").replace(
            "parametrizations.weight.0._u", "u"
        ): tensor
        for name, tensor in model.state_dict().items()
        if not name.endswith("._v")
    }
    assert "leave.u" in older
    learner = model.learner(1)
    with pytest.raises(RunError, match="of an earlier version of gmvaluator"):
        learner.restore({**learner.state(), "generator": older})
    other = BigGAN(config, seed=2)
    other.load_state_dict(older)
    again = BigGAN(config, seed=3)
    again.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(other.sample(3), again.sample(3))
    # the estimates of v that torch keeps are one half-step older than those made of u
    apart = other.sample(3).astype(int) - model.sample(3).astype(int)
    assert np.abs(apart).max() <= 2


def test_truncated_codes_are_normal_within_the_limit() -> None:
    noise = normal(20_000)
    assert torch.equal(truncated(noise, 0.0), noise)
    codes = truncated(noise, 1.0)
    assert float(codes.abs().max()) <= 1.0
    # the order stays, and the spread is that of a normal distribution cut at ± 1
    assert bool((codes[noise.argsort()].diff() >= 0).all())
    assert float(codes.std()) == pytest.approx(0.5396, abs=0.01)
    torch.testing.assert_close(truncated(noise, 9.0), noise, atol=1e-3, rtol=0)


def test_norms_of_the_gan_can_be_chosen() -> None:
    for norm, kind in (("batch", torch.nn.BatchNorm1d), ("layer", torch.nn.LayerNorm)):
        model = GAN(GANConfig(norm=norm, hidden=(8, 8, 8)))  # type: ignore[arg-type]
        assert sum(isinstance(layer, kind) for layer in model.modules()) == 2
    kinds = {type(layer).__name__ for layer in GAN(GANConfig(norm="none")).modules()}
    assert not {name for name in kinds if "Norm" in name}


# --- drawing and files, every family -------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_right_shape_and_depend_on_the_seed(name: str) -> None:
    for channels, colour in ((1, ()), (3, (3,))):
        model = tiny(name, channels)
        side = model.config.size
        first = model.sample(5, seed=1)
        assert first.shape == (5, side, side, *colour)
        assert first.dtype == np.uint8
        assert np.array_equal(first, model.sample(5, [0, 1, 0, 1, 0], seed=1))
        assert not np.array_equal(first, model.sample(5, seed=2))
        # an image does not depend on how many are drawn with it
        fewer = model.sample(3, seed=1).astype(int)
        assert np.abs(fewer - first[:3]).max() <= 1
        assert model.sample(0).shape == (0, side, side, *colour)


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_generators_draw_the_same(name: str, tmp_path: Path) -> None:
    kind = generator_class(name)
    model = kind(kind.config_class(**TINY[name], classes=2), ("cat", "dog"), seed=7)
    model.save(tmp_path / "g.safetensors")
    loaded = load_generator(tmp_path / "g.safetensors")
    assert type(loaded) is kind
    assert (loaded.config, loaded.label_names) == (model.config, ("cat", "dog"))
    assert loaded.n_parameters == model.n_parameters > 0
    assert np.array_equal(model.sample(6, seed=1), loaded.sample(6, seed=1))
    model.save(tmp_path / "half.safetensors", dtype="float16")
    half = load_generator(tmp_path / "half.safetensors").sample(6, seed=1).astype(int)
    assert np.abs(half - model.sample(6, seed=1).astype(int)).mean() <= 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g.safetensors", "half.safetensors"]


def test_large_draws_go_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("beta-vae")
    sizes: list[int] = []
    draw = model.draw

    def counted(noise: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        sizes.append(len(noise))
        return draw(noise, labels)

    monkeypatch.setattr(model, "draw", counted)
    assert len(model.sample(300)) == 300
    assert sizes == [128, 128, 44]


def test_other_files_are_refused_with_one_line(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = tiny("beta-vae")
    config = {**vars(model.config), "latent": 9}
    metadata = {"format": "gmvaluator/beta-vae", "config": json.dumps(config)}
    (tmp_path / "garbage.safetensors").write_bytes(b"not tensors at all")
    save_file({"x": torch.zeros(2)}, tmp_path / "plain.safetensors")
    save_file(model.state_dict(), tmp_path / "wrong.safetensors", metadata=metadata)
    for name, changed in (
        ("unknown", {"config": json.dumps({"depth": 3})}),
        ("family", {"format": "gmvaluator/transformer"}),
        ("names", {"config": json.dumps(vars(model.config)), "label_names": '["a"]'}),
        ("text", {"config": "{"}),
    ):
        save_file({}, tmp_path / f"{name}.safetensors", metadata={**metadata, **changed})
    for path in (*sorted(tmp_path.iterdir()), tmp_path / "missing.safetensors"):
        for opener in (load_generator, BetaVAE.load):
            with pytest.raises(RunError, match=path.name) as caught:
                opener(path)
            assert "\n" not in str(caught.value)


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("file", "missing"):
        with pytest.raises(RunError, match="cannot write"):
            tiny("gan").save(tmp_path / folder / "g.safetensors")


def test_labels_that_do_not_fit_are_refused() -> None:
    model = tiny("gan")
    with pytest.raises(InputError, match="Label 2 is not one of the classes 0 to 1"):
        model.sample(1, [2])
    with pytest.raises(InputError, match="3 labels for 4 images"):
        model.sample(4, [0, 1, 0])
    with pytest.raises(InputError, match="whole numbers"):
        model.sample(1, [0.5])  # type: ignore[list-item]
    with pytest.raises(InputError, match="without classes"):
        tiny("gan", classes=0).sample(1, [0])
    with pytest.raises(InputError, match="n=-1"):
        model.sample(-1)
    with pytest.raises(InputError, match="1 label names"):
        GAN(GANConfig(classes=2), ("a",))


def test_sampling_settings_are_those_of_the_family() -> None:
    model = tiny("biggan")
    other = model.with_sampling(truncation=0.5)
    assert not np.array_equal(other.sample(3), model.sample(3))
    with pytest.raises(InputError, match="biggan has no sampling setting guidance; it has: trunc"):
        model.with_sampling(guidance=2.0)
    for name in ("gan", "dcgan"):
        plain = tiny(name)
        narrow = plain.with_sampling(truncation=0.5)
        assert not np.array_equal(narrow.sample(3), plain.sample(3))
    with pytest.raises(InputError, match="sampling_steps=0"):
        tiny("ddpm").with_sampling(sampling_steps=0)


# --- settings ------------------------------------------------------------------------------------


def test_settings_are_read_from_texts() -> None:
    texts = {"hidden": "64,32", "beta": "2", "latent": "5", "schedule": "constant"}
    read = parse_settings(BetaVAEConfig, texts)
    assert read == {"hidden": (64, 32), "beta": 2.0, "latent": 5, "schedule": "constant"}
    config = BetaVAEConfig(**read)
    assert config_from_json(BetaVAEConfig, json.loads(json.dumps(vars(config)))) == config


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("beta-vae", {"depth": 3}, "no setting 'depth'; it has: batch_size, beta, hidden"),
        ("beta-vae", {"classes": 3}, "no setting 'classes'"),
        ("beta-vae", {"latent": "many"}, "latent='many' cannot be read; wanted: whole number"),
        ("beta-vae", {"latent": 2.5}, "latent=2.5 cannot be read"),
        ("beta-vae", {"hidden": "64,"}, "whole numbers such as 512,256"),
        ("beta-vae", {"hidden": ()}, "at least one width"),
        ("beta-vae", {"beta": -1}, "beta=-1.0"),
        ("beta-vae", {"learning_rate": "nan"}, "learning_rate=nan"),
        ("beta-vae", {"optimizer": "lion"}, "adam, sgd"),
        ("conv-beta-vae", {"size": 30}, "size=30; conv-beta-vae wants one of: 28, 32"),
        ("gan", {"norm": "group"}, "batch, layer, none"),
        ("gan", {"batch_size": 1}, "batch_size=1; gan wants a whole number ≥ 2"),
        ("dcgan", {"width": 0}, "width=0"),
        ("ddpm", {"width": 12}, "width=12; ddpm wants one of: 8"),
        ("ddpm", {"sampling_steps": 2000}, "≤ 1000"),
        ("ddpm", {"network": "rnn"}, "network='rnn'; ddpm wants one of: unet, mlp"),
        ("ddpm", {"predicts": "score"}, "noise, image"),
        ("ddpm", {"network": "mlp", "hidden": ()}, "at least one width"),
        ("ddpm", {"guidance": "inf"}, "guidance=inf"),
        ("biggan", {"latent": 10}, "latent=10"),
        ("biggan", {"size": 28}, "size=28; biggan wants one of: 32"),
        ("vqgan", {}, "no generator 'vqgan'; pass one of: beta-vae, conv-beta-vae"),
    ],
)
def test_bad_settings_say_what_is_allowed(
    name: str, settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    data = write_halves(tmp_path / "data.npz")
    from gmvaluator.generators.training import train_generator

    with pytest.raises(InputError, match=message):
        train_generator(name, data, tmp_path / "g.safetensors", settings=settings)
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


# --- the whole -----------------------------------------------------------------------------------


def test_the_package_loads_without_torch() -> None:
    code = (
        "import sys, gmvaluator.generators, gmvaluator.generators.config; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_nothing_touches_the_global_random_state(tmp_path: Path) -> None:
    data = write_halves(tmp_path / "data.npz", size=28)
    before = torch.get_rng_state()
    for name in NAMES:
        trained = train_tiny(name, data, tmp_path / f"{name}.safetensors", steps=1)
        load_generator(trained.path).sample(2)
    assert torch.equal(before, torch.get_rng_state())


def test_the_demo_generator_draws_the_digit_that_was_asked_for(
    digits: tuple[NDArray[np.uint8], NDArray[np.int64]],
) -> None:
    pixels, labels = digits
    train = torch.from_numpy(pixels.reshape(len(pixels), -1).astype(np.float32))
    wanted = np.arange(200) % 10
    drawn = demo_generator().sample(200, seed=11).reshape(200, -1).astype(np.float32)
    nearest = torch.cdist(torch.from_numpy(drawn), train).argmin(dim=1).numpy()
    assert (labels[nearest] == wanted).mean() >= 0.95
    # Distinct images, not one prototype a class.
    assert len(np.unique(drawn, axis=0)) == 200
