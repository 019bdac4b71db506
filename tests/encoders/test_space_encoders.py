"""Encoders that are made, not downloaded: components, random filters, stages, generators, mixtures.

Every vector is compared with what the same thing is by hand.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gmvaluator import GMValuator, ImageSet
from gmvaluator.encoders import load_encoder
from gmvaluator.encoders.backends import Runtime
from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.custom import wrap
from gmvaluator.encoders.embedding import embed
from gmvaluator.encoders.generator import NOISES, GeneratorEncoder, layers_of
from gmvaluator.encoders.mixture import Mixture
from gmvaluator.encoders.principal import PrincipalComponents
from gmvaluator.errors import InputError, RunError
from gmvaluator.generators import generator_class
from gmvaluator.generators.data import read_training_data
from gmvaluator.generators.layers import to_signed
from gmvaluator.images import Preprocessing
from gmvaluator.images.decoding import refit
from gmvaluator.progress import Silent
from gmvaluator.weights import Weights
from image_makers import random_images

OFFLINE = Weights(offline=True)
TORCH = Runtime("cpu", "torch")

SHAPES: dict[str, dict[str, Any]] = {
    "beta-vae": {"hidden": (9, 8), "latent": 3},
    "conv-beta-vae": {"width": 4, "latent": 3},
    "ddpm": {"classes": 2, "width": 8, "label_dropout": 1.0},
    "mlp-ddpm": {"classes": 2, "network": "mlp", "hidden": (7, 6, 5)},
    "gan": {"hidden": (8,), "critic_hidden": (8,), "norm": "none"},
}


def model_of(name: str, seed: int = 0, **changes: Any) -> Any:
    """An untrained grey generator of 28 px; what starts at zero is drawn at random."""
    kind = generator_class(name.removeprefix("mlp-"))
    model = kind(kind.config_class(size=28, channels=1, **SHAPES[name], **changes), seed=seed)
    chance = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1, generator=chance)
    return model.eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of every generator in `SHAPES`."""
    folder = tmp_path_factory.mktemp("generators")
    for name in SHAPES:
        model_of(name).save(folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in SHAPES}


@pytest.fixture(scope="module")
def train(digits: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> ImageSet:
    """Thirty digits."""
    return ImageSet.open(list(digits[0][:30]))


def named(name: str) -> Encoder:
    return load_encoder(name, OFFLINE, TORCH)


Make = Callable[[ImageSet, dict[str, Path]], Encoder]
MADE: dict[str, tuple[Make, int]] = {
    "random-conv:1@28": (lambda train, files: named("random-conv@28"), 64 * 7 * 7),
    "random-conv:2@28": (lambda train, files: named("random-conv:2@28"), 128 * 7 * 7),
    "efficientnet-lite0:stage1@32": (
        lambda train, files: named("efficientnet-lite0:stage1@32"),
        16 * 16,
    ),
    "efficientnet-lite0:stage7@32": (
        lambda train, files: named("efficientnet-lite0:stage7@32"),
        16 * 320,
    ),
    "pca:5@28": (lambda train, files: PrincipalComponents.fit(train, 5, runtime=TORCH), 5),
    "pca:5:whitened@14": (
        lambda train, files: PrincipalComponents.fit(train, 5, size=14, whiten=True, runtime=TORCH),
        5,
    ),
    "mixture(": (
        lambda train, files: Mixture.fit(train, [named("pixels@28"), named("pixels@7")]),
        3 * (28 * 28 + 7 * 7),
    ),
    "generator:beta-vae.safetensors#code@28": (
        lambda train, files: GeneratorEncoder(files["beta-vae"], runtime=TORCH),
        3,
    ),
    "generator:conv-beta-vae.safetensors#first@28": (
        lambda train, files: GeneratorEncoder(files["conv-beta-vae"], "first", runtime=TORCH),
        4 * 14 * 14,
    ),
    "generator:ddpm.safetensors#middle:300@28": (
        lambda train, files: GeneratorEncoder(files["ddpm"], runtime=TORCH),
        16 * 7 * 7,
    ),
    "generator:mlp-ddpm.safetensors#middle:40@28": (
        lambda train, files: GeneratorEncoder(files["mlp-ddpm"], "middle:40", runtime=TORCH),
        6,
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_vectors_have_their_length_whatever_the_batch(
    name: str, train: ImageSet, files: dict[str, Path]
) -> None:
    make, dim = MADE[name]
    encoder = make(train, files)
    assert isinstance(encoder, Encoder)
    # a generator is named by its content too
    assert re.sub(r"^generator (\S+) [0-9a-f]{8}", r"generator:\1", encoder.name).startswith(name)
    whole = embed(train, encoder, batch_size=30).vectors
    assert whole.shape == (30, dim)
    assert whole.dtype == np.float32
    assert (whole.std(axis=0) > 0).any()
    parts = embed(train, encoder, batch_size=7).vectors
    lengths = np.linalg.norm(whole, axis=1)
    assert (np.linalg.norm(parts - whole, axis=1) <= 1e-5 * lengths).all()


@pytest.mark.parametrize("name", MADE)
def test_making_it_again_gives_the_same(name: str, train: ImageSet, files: dict[str, Path]) -> None:
    make, _ = MADE[name]
    first, second = make(train, files), make(train, files)
    assert first.fingerprint == second.fingerprint
    one, other = (embed(train, each).vectors for each in (first, second))
    np.testing.assert_array_equal(one, other)


def test_fingerprints_differ_between_all_of_them(train: ImageSet, files: dict[str, Path]) -> None:
    made = [make(train, files).fingerprint for make, _ in MADE.values()]
    assert len(set(made)) == len(made)


@pytest.mark.parametrize(
    ("family", "layer"), [("beta-vae", "code"), ("conv-beta-vae", "first"), ("ddpm", "middle")]
)
def test_openvino_runs_generators(
    family: str, layer: str, train: ImageSet, files: dict[str, Path]
) -> None:
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    wanted, found = (
        embed(train, GeneratorEncoder(files[family], layer, runtime=runtime)).vectors
        for runtime in (TORCH, Runtime("cpu", "openvino"))
    )
    assert np.linalg.norm(found - wanted) <= 1e-3 * np.linalg.norm(wanted)


# --- principal components


@pytest.mark.parametrize("n", [20, 90])
def test_components_are_those_of_the_singular_values(n: int) -> None:
    images = random_images(n, size=5, seed=n)
    encoder = PrincipalComponents.fit(list(images), 6, size=5, runtime=TORCH)
    flat = images.transpose(0, 3, 1, 2).reshape(n, -1) / 255
    centred = flat - flat.mean(axis=0)
    scores = np.abs(centred @ np.linalg.svd(centred, full_matrices=False)[2][:6].T)
    np.testing.assert_allclose(np.abs(embed_all(images, encoder)), scores, atol=2e-5)


def embed_all(images: NDArray[np.uint8], encoder: Encoder) -> NDArray[np.float32]:
    return embed(ImageSet.open(list(images)), encoder).vectors


def test_all_components_keep_every_distance_and_white_ones_have_variance_one() -> None:
    images = random_images(12, size=6)
    whole = embed_all(images, PrincipalComponents.fit(list(images), 11, size=6, runtime=TORCH))
    flat = images.transpose(0, 3, 1, 2).reshape(12, -1) / 255
    apart = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    np.testing.assert_allclose(
        np.linalg.norm(whole[:, None] - whole[None], axis=2), apart, atol=1e-4
    )
    white = PrincipalComponents.fit(list(images), 11, size=6, whiten=True, runtime=TORCH)
    np.testing.assert_allclose(embed_all(images, white).var(axis=0), 1, atol=1e-3)


def test_components_of_other_images_are_another_encoder() -> None:
    made = [
        PrincipalComponents.fit(list(random_images(9, seed=seed)), 3, size=8).fingerprint
        for seed in (0, 1)
    ]
    assert made[0] != made[1]


def test_too_many_components_are_refused() -> None:
    with pytest.raises(InputError, match="9 components asked of 9 images of 192 numbers; pass 1"):
        PrincipalComponents.fit(list(random_images(9)), 9, size=8)
    twins = [*random_images(2), *random_images(2), *random_images(2)]
    with pytest.raises(InputError, match="vary in 1 directions, not 2"):
        PrincipalComponents.fit(twins, 2, size=8)


# --- random filters and stages


def test_random_filters_do_not_see_a_flat_image() -> None:
    for depth in (1, 2):
        encoder = named(f"random-conv:{depth}@32")
        flat = np.full((1, 3, 32, 32), 200, np.uint8)
        maps = encoder.encode(flat).reshape(1, -1, 8, 8)
        assert np.abs(maps[:, :, 2:-2, 2:-2]).max() < 1e-4 * np.abs(maps).max()


def test_early_stages_are_what_the_network_computes() -> None:
    import timm

    from gmvaluator.encoders.timm import load_efficientnet_lite0

    pixels = random_images(2, size=64).transpose(0, 3, 1, 2)
    model: Any = load_efficientnet_lite0(OFFLINE.resolve("efficientnet-lite0")).eval()
    assert timm.is_model("tf_efficientnet_lite0")
    seen: list[torch.Tensor] = []
    model.blocks[2].register_forward_hook(lambda _m, _i, output: seen.append(output))
    with torch.no_grad():
        model((torch.from_numpy(pixels).float() - 127) / 128)
    cells = seen[0].reshape(2, 40, 4, 2, 4, 2).mean(dim=(3, 5))  # 8 × 8 positions here
    found = named("efficientnet-lite0:stage3@64").encode(pixels)
    np.testing.assert_allclose(found, cells.flatten(1).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("random-conv:3", "choose one of 1, 2"),
        ("random-conv@7", "at least 8"),
        ("efficientnet-lite0:stage8", "stage7"),
        ("generator", "write generator:FILE"),
    ],
)
def test_names_that_cannot_be_built(name: str, wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        named(name)


# --- mixtures


def test_a_mixture_adds_scaled_squared_distances(train: ImageSet) -> None:
    parts = {named("pixels@28"): 1.0, named("random-conv:1@28"): 0.5}
    mixture = Mixture.fit(train, parts)
    wanted = np.zeros((30, 30))
    for encoder, weight in parts.items():
        vectors = embed(train, encoder).vectors.astype(np.float64)
        squared = np.square(vectors[:, None] - vectors[None]).sum(axis=2)
        nearest = np.where(np.eye(30, dtype=bool), np.inf, squared).min(axis=1)
        wanted += weight * squared / np.median(nearest)
    mixed = embed(train, mixture).vectors.astype(np.float64)
    found = np.square(mixed[:, None] - mixed[None]).sum(axis=2)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_mixture_places_and_shrinks_for_each_part(train: ImageSet) -> None:
    small, photo = named("pixels@14"), named("efficientnet-lite0:stage1@32")
    mixture = Mixture.fit(train, [small, photo])
    assert mixture.preprocessing == photo.preprocessing
    assert {file.name for file in mixture.weights} == {"efficientnet-lite0"}
    (batch,) = train.batches(photo.preprocessing, batch_size=30)
    found = mixture.encode(batch.pixels)
    first, second = mixture.parts
    shrunk = small.encode(refit(batch.pixels, small.preprocessing))
    np.testing.assert_allclose(found[:, : shrunk.shape[1]], first.factor * shrunk, rtol=1e-5)
    placed = np.linalg.norm(found[:, shrunk.shape[1] :], axis=1)
    np.testing.assert_allclose(placed, second.factor, rtol=1e-5)  # centred cosine: unit vectors


def test_a_mixture_is_its_parts_and_weights(train: ImageSet) -> None:
    one, other = named("pixels@14"), named("random-conv@14")
    made = [
        Mixture.fit(train, [one, other]),
        Mixture.fit(train, {one: 1.0, other: 2.0}),
        Mixture.fit(train, [one, named("random-conv:2@14")]),
    ]
    assert len({each.fingerprint for each in made}) == 3
    assert made[0].fingerprint == Mixture.fit(train, {one: 1.0, other: 1.0}).fingerprint


def test_mixtures_that_make_no_sense_are_refused(train: ImageSet) -> None:
    pixels = named("pixels@8")
    with pytest.raises(InputError, match="mixture of 1 encoders"):
        Mixture.fit(train, [pixels])
    with pytest.raises(InputError, match=r"pixels@8 has weight 0\.0"):
        Mixture.fit(train, {pixels: 0.0, named("pixels@4"): 1.0})

    def blind(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.ones((len(images), 2), np.float32)

    with pytest.raises(InputError, match="blind does not tell the training images apart"):
        Mixture.fit(train, [pixels, wrap(blind, preprocessing=Preprocessing(8))])
    cropping = wrap(blind, preprocessing=Preprocessing(8, fit="crop"))
    with pytest.raises(InputError, match="blind crops images and pixels@8 squashes them"):
        Mixture.fit(train, [pixels, cropping])


# --- generators


def grey(train: ImageSet) -> torch.Tensor:
    """(30, 1, 28, 28) uint8."""
    return torch.from_numpy(read_training_data(train, 28, Silent(), conditional=False).images)


@pytest.mark.parametrize("family", ["beta-vae", "conv-beta-vae"])
def test_codes_and_first_layers_are_the_models(
    family: str, train: ImageSet, files: dict[str, Path]
) -> None:
    model = model_of(family)
    seen: list[torch.Tensor] = []
    model.encoder[1].register_forward_hook(lambda _m, _i, output: seen.append(output))
    with torch.no_grad():
        mean, _ = model.encode(grey(train).float() / 255)
    for layer, wanted in (("code", mean), ("first", seen[0].flatten(1))):
        found = embed(train, GeneratorEncoder(files[family], layer, runtime=TORCH)).vectors
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("family", "at"), [("ddpm", "middle_out"), ("mlp-ddpm", "layers.3")])
def test_middle_layers_are_the_networks_at_their_noise_level(
    family: str, at: str, train: ImageSet, files: dict[str, Path]
) -> None:
    model = model_of(family)
    seen: list[torch.Tensor] = []
    model.network.get_submodule(at).register_forward_hook(lambda _m, _i, out: seen.append(out))
    encoder: Any = GeneratorEncoder(files[family], "middle:200", runtime=TORCH)
    images, times = to_signed(grey(train)), torch.full((30,), 200)
    share = model.shares[200]
    with torch.no_grad():
        for noise in encoder._network.module[1].noises:
            noisy = share.sqrt() * images + (1 - share).sqrt() * noise
            model.predict(noisy, times, torch.full((30,), 2))
    assert len(seen) == NOISES
    wanted = torch.stack(seen).mean(dim=0).flatten(1).numpy()
    np.testing.assert_allclose(embed(train, encoder).vectors, wanted, rtol=1e-3, atol=1e-5)


def test_a_generator_is_its_content_wherever_it_is(files: dict[str, Path], tmp_path: Path) -> None:
    file = files["beta-vae"]
    copy = shutil.copy(file, tmp_path / file.name)
    here, there = (GeneratorEncoder(each).fingerprint for each in (file, copy))
    assert here == there
    model_of("beta-vae", seed=1).save(copy)
    assert GeneratorEncoder(copy).fingerprint != here
    layers = [GeneratorEncoder(file, layer).fingerprint for layer in ("code", "first")]
    times = [GeneratorEncoder(files["ddpm"], f"middle:{time}").fingerprint for time in (0, 999)]
    assert len({*layers, *times}) == 4


def test_a_generator_by_name_values_images(train: ImageSet, files: dict[str, Path]) -> None:
    name = f"generator:{files['beta-vae']}#code"
    valuator = GMValuator(encoder=name, rerank="none", k=3, candidates=5, cache=False).fit(train)
    valuation = valuator.value(train.select(np.arange(4)))
    assert valuation.contributions.rows[:, 0].tolist() == [0, 1, 2, 3]
    assert valuation.info["settings"]["encoder"] == name
    (weight,) = valuation.info["weights"]
    assert re.fullmatch(r"generator beta-vae.safetensors [0-9a-f]{8}", weight)
    with pytest.raises(InputError, match=r"draws images of 28 px, not 32; leave @32 out"):
        named(f"{name}@32")


def test_generators_of_one_file_name_are_kept_apart(
    train: ImageSet, files: dict[str, Path], tmp_path: Path
) -> None:
    other = tmp_path / files["beta-vae"].name
    model_of("beta-vae", seed=1).save(other)
    one, two = (f"generator:{file}#code" for file in (files["beta-vae"], other))
    valuator = GMValuator(encoder=one, rerank=two, k=3, candidates=5, cache=False).fit(train)
    assert len(valuator.value(train.select(np.arange(4))).info["weights"]) == 2
    valuator.save(tmp_path / "index")
    assert GMValuator.load(tmp_path / "index").fitted_ is not None
    own = GMValuator(encoder=GeneratorEncoder(other), rerank="none", k=3, candidates=5, cache=False)
    own.fit(train).save(tmp_path / "own")
    with pytest.raises(InputError, match="an encoder given in Python; pass it again"):
        GMValuator.load(tmp_path / "own")
    again = GMValuator.load(tmp_path / "own", encoder=GeneratorEncoder(other))
    assert again.fitted_ is not None


def test_what_generators_lack_is_told(files: dict[str, Path], tmp_path: Path) -> None:
    assert layers_of(files["gan"]) == ()
    for family, layer, wanted in (
        ("gan", None, "a gan, has no layer that reads images; pass a β-VAE or a ddpm"),
        ("beta-vae", "middle", "has no layer middle; choose code or first"),
        ("beta-vae", "code:3", "code of beta-vae.safetensors has no time"),
        ("ddpm", "middle:1000", "no time '1000'; pass middle:0 to middle:999"),
    ):
        with pytest.raises(InputError, match=wanted):
            GeneratorEncoder(files[family], layer)
    model_of("beta-vae", classes=4).save(tmp_path / "classes.safetensors")
    with pytest.raises(InputError, match="learned with classes"):
        GeneratorEncoder(tmp_path / "classes.safetensors")
    with pytest.raises(RunError, match="Cannot read"):
        GeneratorEncoder(tmp_path / "nowhere.safetensors")
