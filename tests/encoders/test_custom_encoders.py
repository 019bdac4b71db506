"""A user's own network or function as an encoder, and encoders by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gmvaluator.encoders import (
    ALIASES,
    FAMILIES,
    EncoderName,
    as_encoder,
    load_encoder,
    parse_name,
)
from gmvaluator.encoders.backends import Runtime
from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.custom import wrap
from gmvaluator.encoders.embedding import embed
from gmvaluator.errors import InputError
from gmvaluator.images import ImageSet, Preprocessing
from gmvaluator.weights import Weights
from image_makers import random_images

CPU = Runtime("cpu")
OFFLINE = Weights(offline=True)
SMALL = Preprocessing(8)


@pytest.fixture
def images() -> ImageSet:
    """5 images of noise, 8 px, in memory."""
    return ImageSet.open(random_images(5))


def small_net(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.5)
    )


def mean_colour(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    colours: NDArray[np.float32] = pixels.mean(axis=(2, 3), dtype=np.float32)
    return colours


class Head(torch.nn.Module):
    """Returns what a function makes of its input."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


# --- modules


def test_a_module_gets_normalised_floats_and_is_flattened(images: ImageSet) -> None:
    net, mean, std = small_net(), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    encoder = wrap(net, preprocessing=SMALL, mean=mean, std=std, runtime=CPU)
    vectors = embed(images, encoder).vectors
    x = torch.from_numpy(random_images(5).transpose(0, 3, 1, 2).copy()) / 255
    x = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        wanted = net.eval()(x).flatten(1).numpy()
    assert vectors.shape == (5, 4 * 6 * 6)
    np.testing.assert_allclose(vectors, wanted, rtol=1e-5, atol=1e-6)


def test_a_module_runs_in_evaluation_mode(images: ImageSet) -> None:
    encoder = wrap(small_net().train(), preprocessing=SMALL, runtime=CPU)
    first, second = (embed(images, encoder).vectors for _ in range(2))
    np.testing.assert_array_equal(first, second)
    one = embed(images.select([2]), encoder).vectors
    np.testing.assert_allclose(one, first[[2]], rtol=1e-5, atol=1e-6)


def test_a_module_is_described_by_its_defaults_or_the_users_words() -> None:
    plain = wrap(small_net(), runtime=CPU)
    assert isinstance(plain, Encoder)
    assert (plain.name, plain.metric) == ("Sequential", "cosine")
    assert plain.preprocessing == Preprocessing(224)
    named = wrap(small_net(), name="mine", metric="euclidean", preprocessing=SMALL)
    assert (named.name, named.metric, named.preprocessing) == ("mine", "euclidean", SMALL)
    assert [file.name for file in named.weights] == ["mine"]
    assert len(named.weights[0].sha256) == 64


def test_the_fingerprint_follows_the_modules_weights() -> None:
    def fingerprint(net: torch.nn.Module, **options: Any) -> str:
        return wrap(net, runtime=CPU, **options).fingerprint

    net = small_net()
    before = fingerprint(net)
    assert fingerprint(net) == fingerprint(small_net()) == before
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] += 1e-3  # type: ignore[index]
    others = [
        fingerprint(net),
        fingerprint(small_net(1)),
        fingerprint(torch.nn.Sequential(small_net(), torch.nn.ReLU())),
        fingerprint(small_net(), preprocessing=SMALL),
        fingerprint(small_net(), name="mine"),
    ]
    assert len({before, *others}) == 1 + len(others)


def test_the_fingerprint_follows_the_normalisation() -> None:
    options: tuple[dict[str, Any], ...] = ({}, {"mean": (0.5,) * 3}, {"std": (0.5,) * 3})
    prints = {wrap(small_net(), runtime=CPU, **each).fingerprint for each in options}
    assert len(prints) == 3


def test_a_module_of_half_precision_can_be_wrapped(images: ImageSet) -> None:
    class Half(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.full((), 2.0, dtype=torch.bfloat16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.bfloat16() * self.gain

    vectors = embed(images, wrap(Half(), preprocessing=SMALL, runtime=CPU)).vectors
    assert vectors.dtype == np.float32


# --- functions


def test_a_function_gets_the_pixels_as_they_are(images: ImageSet) -> None:
    encoder = wrap(mean_colour, preprocessing=SMALL, metric="euclidean")
    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.metric, encoder.weights) == ("mean_colour", "euclidean", ())
    vectors = embed(images, encoder).vectors
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, random_images(5).mean(axis=(1, 2)), rtol=1e-6)


def test_a_functions_feature_maps_are_flattened(images: ImageSet) -> None:
    vectors = embed(
        images, wrap(lambda pixels: pixels.astype(np.float32), preprocessing=SMALL)
    ).vectors
    assert vectors.shape == (5, 3 * 8 * 8)


def test_a_function_may_return_tensors_of_any_kind(images: ImageSet) -> None:
    def colour(pixels: NDArray[np.uint8]) -> Any:
        return torch.from_numpy(mean_colour(pixels)).requires_grad_().bfloat16()

    vectors = embed(images, wrap(colour, preprocessing=SMALL)).vectors
    wanted = embed(images, wrap(mean_colour, preprocessing=SMALL)).vectors
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, wanted, rtol=0.01)


def test_two_functions_are_never_taken_for_each_other() -> None:
    assert wrap(mean_colour).fingerprint != wrap(mean_colour).fingerprint


class Callable:
    """Callable, but without a `__name__`."""

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return mean_colour(pixels)


def test_any_callable_will_do(images: ImageSet) -> None:
    encoder = wrap(Callable(), preprocessing=SMALL)
    assert encoder.name == "Callable"
    assert embed(images, encoder).vectors.shape == (5, 3)


@pytest.mark.parametrize(
    "encoder",
    [
        lambda pixels: mean_colour(pixels)[:, 0],
        Head(lambda x: x.mean((1, 2, 3))),
    ],
)
def test_one_number_an_image_is_a_vector_of_length_1(encoder: Any, images: ImageSet) -> None:
    assert embed(images, wrap(encoder, name="mine", preprocessing=SMALL)).vectors.shape == (5, 1)


# --- what cannot be compared


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda pixels: mean_colour(pixels)[1:], r"returned shape \(4, 3\) for 5 images"),
        (lambda pixels: mean_colour(pixels).ravel(), r"returned shape \(15, 1\) for 5 images"),
        (lambda pixels: mean_colour(pixels).sum(), r"returned shape \(\) for 5 images"),
        (lambda pixels: mean_colour(pixels)[:0], r"returned shape \(0, .*\) for 5 images"),
        (lambda pixels: mean_colour(pixels) * np.nan, "returned NaN or infinite numbers"),
        (lambda pixels: mean_colour(pixels) + np.inf, "returned NaN or infinite numbers"),
        (lambda pixels: None, r"returned shape \(\) for 5 images"),
        (lambda pixels: "vectors", "returned a str"),
    ],
)
def test_wrong_output_of_a_function_is_said(function: Any, message: str, images: ImageSet) -> None:
    with pytest.raises(InputError, match=f"encoder mine {message}"):
        embed(images, wrap(function, name="mine", preprocessing=SMALL))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.mean((2, 3))[1:], r"returned shape \(4, 3\) for 5 images"),
        (lambda x: x.sum(), r"returned shape \(\) for 5 images"),
        (lambda x: (x, x), "returned a tuple"),
        (lambda x: x * torch.nan, "returned NaN or infinite numbers"),
    ],
)
def test_wrong_output_of_a_module_is_said(function: Any, message: str, images: ImageSet) -> None:
    encoder = wrap(Head(function), name="mine", preprocessing=SMALL, runtime=CPU)
    with pytest.raises(InputError, match=f"encoder mine {message}"):
        embed(images, encoder)


def test_vectors_of_changing_length_are_refused(images: ImageSet) -> None:
    lengths = iter([3, 2, 1])

    def shrinking(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return mean_colour(pixels)[:, : next(lengths)]

    with pytest.raises(InputError, match="encoder shrinking returned"):
        embed(images, wrap(shrinking, preprocessing=SMALL), batch_size=2)


@pytest.mark.parametrize("wrong", [3, None, ["pixels"]])
def test_what_is_no_encoder_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"is no encoder; pass a name, a torch\.nn\.Module or a"):
        as_encoder(wrong, OFFLINE, CPU)


# --- names


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("pixels", EncoderName("pixels", None, None)),
        ("l2@28", EncoderName("pixels", None, 28)),
        ("lpips:vgg@64", EncoderName("lpips", "vgg", 64)),
        ("clip:ViT-B-32/openai", EncoderName("clip", "ViT-B-32/openai", None)),
        ("timm:resnet18.a1_in1k", EncoderName("timm", "resnet18.a1_in1k", None)),
    ],
)
def test_a_name_is_family_variant_and_size(name: str, parts: EncoderName) -> None:
    assert parse_name(name) == parts


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("pixel", "pixels"),
        ("efficientnet-lite", "efficientnet-lite0"),
        ("dreamsin", "dreamsim"),
        ("st_lpips", "st-lpips"),
        ("Clip", "clip"),
    ],
)
def test_a_misspelt_name_gets_a_suggestion(name: str, near: str) -> None:
    with pytest.raises(InputError, match=f"unknown encoder '{name}'; did you mean '{near}'"):
        parse_name(name)


@pytest.mark.parametrize("name", ["", "xyz123", "@28", ":alex", "lpips:", "pixels@", "pixels@big"])
def test_an_unusable_name_lists_the_families(name: str) -> None:
    with pytest.raises(InputError, match="unknown encoder") as caught:
        parse_name(name)
    assert all(family in str(caught.value) for family in FAMILIES)


@pytest.mark.parametrize("size", [0, 4097, 10**9])
def test_an_impossible_size_says_which_are_possible(size: int) -> None:
    with pytest.raises(InputError, match=f"asks for {size} px; pass a size from 1 to 4096"):
        parse_name(f"pixels@{size}")


def test_aliases_name_families() -> None:
    assert set(ALIASES.values()) <= set(FAMILIES)


def test_a_name_becomes_an_encoder(images: ImageSet) -> None:
    encoder = as_encoder("l2@8", OFFLINE, CPU)
    assert encoder.fingerprint == load_encoder("pixels@8", OFFLINE, CPU).fingerprint
    wanted = random_images(5).transpose(0, 3, 1, 2).reshape(5, -1) / 255
    np.testing.assert_allclose(embed(images, encoder).vectors, wanted, rtol=1e-6)


def test_a_ready_encoder_stays_itself_and_a_module_is_wrapped() -> None:
    encoder = wrap(mean_colour)
    assert as_encoder(encoder, OFFLINE, CPU) is encoder
    net = small_net()
    assert as_encoder(net, OFFLINE, CPU).fingerprint == wrap(net, runtime=CPU).fingerprint
