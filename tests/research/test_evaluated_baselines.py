"""The published rivals as valuers of a study: in its tables, and refused where they cannot work."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from test_evaluation import Digits, _quick_classifier, files, open_setup, row, rows_of

from generator_checks import train_tiny
from gmvaluator.baselines.gan_steps import GANRecipe
from gmvaluator.baselines.if4gan import IF4GAN
from gmvaluator.baselines.trak import TRAK
from gmvaluator.errors import InputError
from gmvaluator.evaluation import traced_gan
from gmvaluator.evaluation.studies.calibration import calibration
from gmvaluator.evaluation.studies.efficiency import efficiency
from gmvaluator.evaluation.studies.identical_class import identical_class
from gmvaluator.evaluation.studies.out_of_distribution import out_of_distribution
from gmvaluator.evaluation.valuers import choose_valuers
from gmvaluator.files.seals import hash_file

__all__ = ["files"]


@pytest.fixture
def vae(files: tuple[Path, Path], tmp_path: Path) -> Path:
    """A conditional β-VAE of the training digits, with snapshots."""
    file = tmp_path / "vae.safetensors"
    settings = {"size": 28, "hidden": (32,), "latent": 4, "batch_size": 32}
    train_tiny("beta-vae", files[0], file, steps=200, keep=2, conditional=True, settings=settings)
    return file


def test_vae_tracin_stands_in_tables_beside_others(
    files: tuple[Path, Path], tmp_path: Path, vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _quick_classifier(monkeypatch)
    setup = open_setup(
        files, tmp_path, generators=(str(vae),), valuers=("vae-tracin", "random"), m=20
    )
    context = setup.context()
    result = identical_class(context, (5, 10))
    of_drawn, of_real = result.tables
    ratio = row(of_drawn, "vae-tracin")["k = 5"]
    assert ratio.n == 2
    assert ratio.mean > 2 * row(of_drawn, "random")["k = 5"].mean
    # real images have no generator to look into
    assert np.isnan(row(of_real, "vae-tracin")["k = 5"].mean)
    assert "| vae-tracin |  |  |  |" in of_real.as_markdown()
    spent = efficiency(context, 5).tables[0]
    assert row(spent, "vae-tracin")["values"] > 0


def test_draws_and_loss_of_vae_tracin_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "valuers.toml"
    file.write_text('[few]\nvaluer = "vae-tracin"\ndraws = 2\nloss = "squared-error"\n')
    (few,) = choose_valuers((), file)
    assert few.settings == {"valuer": "vae-tracin", "draws": 2, "loss": "squared-error"}
    file.write_text('[few]\nvaluer = "vae-tracin"\nencoder = "pixels"\n')
    with pytest.raises(InputError, match="unknown settings encoder; choose from draws, antithetic"):
        choose_valuers((), file)
    file.write_text('[other]\nvaluer = "tracin"\n')
    wanted = "other is a 'tracin'; write valuer = 'vae-tracin' or 'nda' or 'trak' or 'd-trak'"
    with pytest.raises(InputError, match=wanted):
        choose_valuers((), file)


def test_vae_tracin_without_a_vae_is_told(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _quick_classifier(monkeypatch)
    setup = open_setup(files, tmp_path, valuers=("vae-tracin",))
    with pytest.raises(InputError, match=r"pass a β-VAE whose training kept snapshots .* --keep 5"):
        identical_class(setup.context(), (5,))


def test_if4gan_ranks_noised_images_and_tells_its_agreement(
    tmp_path: Path, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    _quick_classifier(monkeypatch)
    monkeypatch.setattr(traced_gan, "RECIPE", GANRecipe(epochs=2, batch_size=40))
    monkeypatch.setattr(traced_gan, "CLASSIFIER_EPOCHS", 1)
    # 40 removals are 40 trainings, and 40 times so many images are measured
    monkeypatch.setattr(traced_gan, "IF4GAN", partial(IF4GAN, validation=200))
    images, labels = digits
    sets = tmp_path / "small-train.npz", tmp_path / "small-real.npz"
    for file, rows in zip(sets, (slice(0, 100), slice(100, 200)), strict=True):
        np.savez(file, images=images[rows, 6:22, 6:22], labels=labels[rows])
    asked = {"valuers": ("if4gan", "random"), "held_out": sets[1], "seeds": 1, "m": 20}
    setup = open_setup(sets, tmp_path, **asked)
    planted = setup.plant(20, 0.8)
    context = setup.context(planted)
    result = out_of_distribution(context, planted, (5,))
    assert {each["valuer"] for each in rows_of(result.tables[0])} == {"if4gan", "random"}
    found = row(result.tables[0], "real", "if4gan")
    assert 0 <= found["AUROC"].mean <= 1
    # a score for every image, not for the nearest five
    assert found["clean without value"].mean < 0.5
    assert "Kendall's tau" in result.notes[-1]
    assert "leaving out 40 images" in result.notes[-1]
    with pytest.raises(InputError, match="if4gan has no quality; pass variants of GMValuator"):
        calibration(*setup.mixed(planted, 0.25, 0.8), planted, 5)


def test_if4gan_needs_held_out_images(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"measures by images .* pass --held-out"):
        open_setup(files, tmp_path, valuers=("if4gan",))


def test_trak_takes_its_settings_and_models_from_a_file(vae: Path, tmp_path: Path) -> None:
    file, second = tmp_path / "valuers.toml", tmp_path / "second.safetensors"
    second.write_bytes(vae.read_bytes())
    file.write_text(
        f'[two]\nvaluer = "d-trak"\ndraws = 2\nmodels = ["{second}"]\n'
        '[one]\nvaluer = "trak"\nprojections = 64\n'
    )
    two, one = choose_valuers((), file)
    assert one.settings == {"valuer": "trak", "projections": 64}
    assert two.settings["models"] == [hash_file(second)[:16]]
    bound = two.suited(vae)
    assert bound is not None
    made = bound.make(3, 0)
    assert isinstance(made, TRAK)
    assert made._settings() | {"projections": 0} == {
        "valuer": "d-trak",
        "signed": True,
        "k": 3,
        "models": 2,
        "draws": 2,
        "projections": 0,
        "damping": 1.0,
    }
    with pytest.raises(InputError, match=r"two looks into the generator: pass a VAE or a ddpm"):
        two.make(3, 0)
    file.write_text('[one]\nvaluer = "trak"\nmodels = ["nowhere.safetensors"]\n')
    with pytest.raises(InputError, match=r"valuer one: nowhere.safetensors is no file"):
        choose_valuers((), file)
    file.write_text('[one]\nvaluer = "trak"\nmodels = "vae.safetensors"\n')
    with pytest.raises(InputError, match=r"models = 'vae.safetensors'; list generator files"):
        choose_valuers((), file)


def test_trak_looks_only_into_generators_that_fit(
    files: tuple[Path, Path], vae: Path, tmp_path: Path
) -> None:
    gan, other = tmp_path / "gan.safetensors", tmp_path / "other.safetensors"
    train_tiny("gan", files[0], gan)
    train_tiny("beta-vae", files[0], other)
    (alone,) = choose_valuers(("trak",), None)
    assert alone.suited(None) is None
    assert alone.suited(gan) is None
    assert alone.suited(other) is not None
    file = tmp_path / "valuers.toml"
    file.write_text(f'[two]\nvaluer = "trak"\nmodels = ["{other}"]\n')
    (two,) = choose_valuers((), file)
    assert two.suited(vae) is None
    assert two.suited(other) is not None
