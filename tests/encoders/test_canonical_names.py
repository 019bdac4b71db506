"""Names of encoders: one spelling for each, and what an encoder says of its arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gmvaluator import versions
from gmvaluator.cli.doctor import OPTIONAL
from gmvaluator.encoders import FAMILIES, canonical_name, load_encoder
from gmvaluator.encoders.backends import NetworkEncoder, Runtime
from gmvaluator.encoders.base import Network, arithmetic_of
from gmvaluator.encoders.custom import wrap
from gmvaluator.encoders.mirrored import Mirrored, mirrored_of
from gmvaluator.encoders.mixture import Mixture
from gmvaluator.encoders.principal import PrincipalComponents
from gmvaluator.errors import InputError
from gmvaluator.files.store import Store
from gmvaluator.images import ImageSet, Preprocessing
from gmvaluator.weights import Weights
from image_makers import random_images

OFFLINE = Weights(offline=True)


@pytest.mark.parametrize(
    ("names", "canonical"),
    [
        (("l2", "pixels", "l2@32", "pixels@32"), "pixels@32"),
        (("pixels@28", "l2@28"), "pixels@28"),
        (
            ("efficientnet-lite0", "efficientnet-lite0:root", "efficientnet-lite0@160"),
            "efficientnet-lite0:root@160",
        ),
        (("efficientnet-lite0:plain",), "efficientnet-lite0:plain@160"),
        (("lpips", "lpips:alex", "lpips:alex@64"), "lpips:alex@64"),
        (("random-conv", "random-conv:1@32"), "random-conv:1@32"),
        (("clip", "clip:ViT-B-32/openai"), "clip:ViT-B-32/openai"),
        (("timm:resnet18",), "timm:resnet18"),
        (("generator:some/file.safetensors#mid",), "generator:some/file.safetensors#mid"),
    ],
)
def test_all_names_of_an_encoder_have_one_spelling(names: tuple[str, ...], canonical: str) -> None:
    assert {canonical_name(name) for name in names} == {canonical}
    assert canonical_name(canonical) == canonical


@pytest.mark.parametrize("family", ["pixels", "random-conv", "efficientnet-lite0", "st-lpips"])
def test_the_spelling_is_the_name_that_results_record(family: str) -> None:
    assert load_encoder(family, OFFLINE, Runtime("cpu")).name == canonical_name(family)


def test_defaults_are_those_of_the_builders() -> None:
    from gmvaluator.encoders import clip, dreamsim, lpips, torchvision

    assert FAMILIES["alexnet"].size == FAMILIES["densenet121"].size == torchvision.DEFAULT_SIZE
    assert (FAMILIES["lpips"].variant, FAMILIES["lpips"].size) == (
        next(iter(lpips.TRUNKS)),
        lpips.DEFAULT_SIZE,
    )
    assert (FAMILIES["dreamsim"].variant, FAMILIES["dreamsim"].size) == (
        next(iter(dreamsim.TYPES)),
        dreamsim.SIZE,
    )
    assert FAMILIES["clip"].variant == clip.DEFAULT_MODEL


def test_a_name_of_no_encoder_has_no_spelling() -> None:
    with pytest.raises(InputError, match="unknown encoder"):
        canonical_name("l3")


def mean_colour(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    colours: NDArray[np.float32] = pixels.mean(axis=(2, 3), dtype=np.float32)
    return colours


def test_every_encoder_says_its_arithmetic_or_none() -> None:
    torch_cpu, openvino = Runtime("cpu", "torch"), Runtime("cpu", "openvino")
    train = ImageSet.open(random_images(12))
    convolution = load_encoder("random-conv", OFFLINE, torch_cpu)
    compiled = load_encoder("random-conv", OFFLINE, openvino)
    function = wrap(mean_colour)
    assert arithmetic_of(convolution) == "torch-cpu-float32"
    assert arithmetic_of(compiled) == "openvino-cpu-float32"
    # nothing in it for OpenVINO to compile
    assert arithmetic_of(load_encoder("l2", OFFLINE, openvino)) == "numpy-cpu-float32"
    assert arithmetic_of(function) is None
    assert arithmetic_of(Mirrored(compiled)) == "openvino-cpu-float32"
    assert arithmetic_of(Mirrored(function)) is None
    components = PrincipalComponents.fit(train, 2, size=8, runtime=openvino)
    assert arithmetic_of(components) == "torch-cpu-float32"
    assert arithmetic_of(Mixture.fit(train, [convolution, components])) == "torch-cpu-float32"
    assert (
        arithmetic_of(Mixture.fit(train, [compiled, components]))
        == "openvino-cpu-float32+torch-cpu-float32"
    )


def test_an_encoder_has_one_mirrored(tmp_path: Path) -> None:
    """A new one at each call listed all shards on disk again."""
    encoder = load_encoder("random-conv", OFFLINE, Runtime("cpu", "torch"), Store(tmp_path))
    mirrored = mirrored_of(encoder)
    assert mirrored_of(encoder) is mirrored
    assert mirrored.table is not None
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    np.testing.assert_array_equal(
        mirrored.encode(pixels), encoder.encode(np.ascontiguousarray(pixels[..., ::-1]))
    )
    assert mirrored_of(load_encoder("l2", OFFLINE, Runtime("cpu"))) is not mirrored


class Sealed:
    """An encoder that takes no further attributes."""

    __slots__ = ("encode", "fingerprint", "metric", "name", "prepare", "preprocessing", "weights")

    def __init__(self) -> None:
        whole = wrap(mean_colour)
        for name in self.__slots__:
            setattr(self, name, getattr(whole, name))


def test_an_encoder_without_room_for_it_still_has_a_mirrored() -> None:
    encoder = Sealed()
    assert mirrored_of(encoder).name == "mean_colour mirrored"  # type: ignore[arg-type]


def test_versions_name_the_packages_that_compute() -> None:
    installed = versions.installed()
    assert {"python", "numpy", "scipy", "safetensors", "torch", "timm"} <= installed.keys()
    assert versions.installed(("numpy", "no-such-package")).keys() == {"python", "numpy"}


def test_optional_packages_of_the_families_are_diagnosed_and_recorded() -> None:
    packages = {family.optional for family in FAMILIES.values()} - {""}
    assert packages == {"open_clip", "lpips", "stlpips_pytorch"}
    assert packages <= OPTIONAL.keys()
    assert all(any(name.startswith(package) for name in versions.PACKAGES) for package in packages)


def test_arithmetic_names_the_backend() -> None:
    network = Network("net", torch.nn.Flatten(), Preprocessing(4), "cosine")
    assert arithmetic_of(NetworkEncoder(network, Runtime("cpu", "torch-compile"))) == (
        "torch-compile-cpu-float32"
    )
