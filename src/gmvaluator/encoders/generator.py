"""Layers of a trained generative model as encoders: of a β-VAE's encoder or a diffusion network.

Their distances show which images the model tells apart. `train_generator` wrote the model's file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gmvaluator.encoders._modules import frozen
from gmvaluator.encoders.backends import NetworkEncoder, Runtime
from gmvaluator.encoders.base import Network
from gmvaluator.errors import InputError
from gmvaluator.files.store import Store
from gmvaluator.generators import load_generator
from gmvaluator.generators.beta_vae import VAE
from gmvaluator.generators.ddpm import DDPM
from gmvaluator.generators.files import read_metadata
from gmvaluator.generators.randomness import STATISTICS, generator
from gmvaluator.images import Preprocessing
from gmvaluator.weights import WeightFile, Weights, weights_digest

CODE, FIRST, MIDDLE = "code", "first", "middle"
LAYERS = {"beta-vae": (CODE, FIRST), "conv-beta-vae": (CODE, FIRST), "ddpm": (MIDDLE,)}
NOISE_LEVEL = 0.3  # of the times, where `middle` names none
NOISES = 4
SEED = 0


class GeneratorEncoder(NetworkEncoder):
    """The vectors of a layer of a trained generator; Euclidean distance.

    Args:
        file: of the generator.
        layer: of a β-VAE `code` (the mean codes, the default) or `first` (the first hidden
            layer); of a ddpm `middle`, or `middle:T` for the time T, 0 … times − 1, that images
            are noised to (default: three tenths of them), with the mean of four noises.
        runtime: where it runs.
        store: keeps its vectors.

    Raises:
        InputError: a layer that the family lacks, a family that reads no images, or a β-VAE with
            classes.
        RunError: no generator of this package.
    """

    def __init__(
        self,
        file: str | Path,
        layer: str | None = None,
        *,
        runtime: Runtime | None = None,
        store: Store | None = None,
    ) -> None:
        super().__init__(_network(Path(file), layer), runtime or Runtime(), store)


def build(variant: str | None, size: int | None, weights: Weights) -> Network:
    """`generator:FILE[#layer]`; the input has the size that the generator draws."""
    if not variant:
        raise InputError("encoder 'generator' wants a file: write generator:FILE, FILE.safetensors")
    file, _, layer = variant.partition("#")
    network = _network(Path(file), layer or None)
    if size not in (None, network.preprocessing.size):
        raise InputError(
            f"{file} draws images of {network.preprocessing.size} px, not {size}; leave @{size} out"
        )
    return network


def layers_of(file: Path) -> tuple[str, ...]:
    """The layers of a generator that read images; none of a GAN, whose file keeps no critic.

    Raises:
        RunError: the file cannot be read.
    """
    family = read_metadata(file).get("format", "").removeprefix("gmvaluator/")
    return LAYERS.get(family, ())


def _network(file: Path, layer: str | None) -> Network:
    model = load_generator(file)
    layers = layers_of(file)
    kind, _, time = (layer or (layers[0] if layers else "")).partition(":")
    if kind not in layers:
        raise InputError(
            f"{file.name}, a {model.config.name}, has no layer {layer or 'that reads images'}; "
            f"{'choose ' + ' or '.join(layers) if layers else 'pass a β-VAE or a ddpm'}"
        )
    module = _layer_of(model, kind, time, file)
    side = model.config.size
    named = f"{kind}:{module.time}" if isinstance(module, Middle) else kind
    digest = weights_digest(file)
    # its content tells it from others; no name that finds a file, which may be anywhere
    name = f"generator {file.name} {digest[:8]}"
    return Network(
        name=f"{name}#{named}@{side}",
        module=frozen(Channels(model.config.channels), module),
        preprocessing=Preprocessing(side),
        metric="euclidean",
        weights=(WeightFile(name, file, digest),),
    )


def _layer_of(model: Any, kind: str, time: str, file: Path) -> torch.nn.Module:
    if isinstance(model, DDPM):
        return Middle(model, _time_of(model, time, file))
    if time:
        raise InputError(f"layer {kind} of {file.name} has no time; leave :{time} out")
    if model.classes:
        raise InputError(
            f"{file.name} learned with classes, and reads no image without one; pass a generator "
            "without classes"
        )
    return MeanCode(model) if kind == CODE else FirstLayer(model)


def _time_of(model: DDPM, time: str, file: Path) -> int:
    times = model.config.times
    if not time:
        return round(NOISE_LEVEL * times)
    if not time.isdecimal() or int(time) >= times:
        raise InputError(f"{file.name} has no time {time!r}; pass middle:0 to middle:{times - 1}")
    return int(time)


class Channels(torch.nn.Module):
    """(B, 3, S, S) uint8 → (B, C, S, S) float32 in [0, 1]; the mean colour for a grey model."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        unit = pixels.float() / 255
        return unit.mean(dim=1, keepdim=True) if self.channels == 1 else unit


class MeanCode(torch.nn.Module):
    """(B, C, S, S) in [0, 1] → (B, latent), the mean of each image's Gaussian code."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.encode(pixels)[0]


class FirstLayer(torch.nn.Module):
    """(B, C, S, S) in [0, 1] → the first hidden layer of a VAE's encoder after its ReLU, flat."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.layer = model.encoder[:2]
        self.flat = isinstance(self.layer[0], torch.nn.Linear)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.layer(pixels.flatten(1) if self.flat else pixels)
        return hidden.flatten(1)


class Middle(torch.nn.Module):
    """(B, C, S, S) in [0, 1] → a diffusion model's middle layer, mean of fixed noises, flat."""

    noises: torch.Tensor

    def __init__(self, model: DDPM, time: int) -> None:
        super().__init__()
        self.model = model
        self.time = time
        drawn = torch.randn(
            (NOISES, *model.config.image_shape), generator=generator(SEED, STATISTICS, time)
        )
        self.register_buffer("noises", drawn)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        signed = 2 * pixels - 1
        activations = [
            self.model.middle(signed, noise.expand_as(signed), self.time) for noise in self.noises
        ]
        return torch.stack(activations).mean(dim=0)
