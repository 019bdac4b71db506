"""Convolutions with random filters: they respond to edges and their layout, not to objects.

Saxe et al., "On random weights and unsupervised feature learning" (ICML 2011): what filters are
matters less than that they are local, shared and pooled.
"""

from __future__ import annotations

import numpy as np
import torch

from gmvaluator.encoders._modules import Normalise, frozen, state_file
from gmvaluator.encoders.base import Network
from gmvaluator.encoders.variants import input_size, variant_of
from gmvaluator.images import Preprocessing
from gmvaluator.weights import Weights

DEFAULT_SIZE = 32
MINIMUM_SIZE = 8
SEED = 0
LAYERS = ((64, 5), (128, 3))  # filters and their side, a layer
POOL = 2  # each layer halves the sides; the last one halves the first layer's once more


def build(variant: str | None, size: int | None, weights: Weights) -> Network:
    """`random-conv[:1|2][@size]`: one or two layers of seeded filters, Euclidean distance.

    A layer is filters of mean 0 and length 1, ReLU and averages of 2 × 2; either form ends with a
    quarter of the image's side, in 64 or 128 maps.
    """
    depth = int(variant_of("random-conv", variant, ("1", "2")))
    side = input_size("random-conv", size, DEFAULT_SIZE, MINIMUM_SIZE)
    stages: list[torch.nn.Module] = []
    channels = 3
    for layer, (filters, width) in enumerate(LAYERS[:depth]):
        stages += [_convolution(channels, filters, width, layer), torch.nn.ReLU()]
        stages.append(torch.nn.AvgPool2d(POOL if layer or depth > 1 else 2 * POOL))
        channels = filters
    module = frozen(Normalise([0.0] * 3, [255.0] * 3), *stages, torch.nn.Flatten())
    name = f"random-conv:{depth}@{side}"
    return Network(
        name=name,
        module=module,
        preprocessing=Preprocessing(side, interpolation="bilinear"),
        metric="euclidean",
        weights=(state_file(name, module),),
    )


def _convolution(channels: int, filters: int, width: int, layer: int) -> torch.nn.Conv2d:
    """Filters of mean 0 and length 1 without bias; a flat image has no features but its border."""
    drawn = np.random.default_rng([SEED, layer]).normal(size=(filters, channels, width, width))
    drawn -= drawn.mean(axis=(1, 2, 3), keepdims=True)
    drawn /= np.sqrt(np.square(drawn).sum(axis=(1, 2, 3), keepdims=True))
    convolution = torch.nn.Conv2d(channels, filters, width, padding=width // 2, bias=False)
    with torch.no_grad():
        convolution.weight.copy_(torch.from_numpy(drawn))
    return convolution
