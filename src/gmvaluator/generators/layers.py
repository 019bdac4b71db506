"""Parts that several families share: initial weights, moving averages, number formats."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

Scheme = Literal["kaiming", "fan-in", "narrow", "orthogonal"]

_INITIAL: dict[Scheme, Callable[[Tensor, torch.Generator], Any]] = {
    "kaiming": lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=g),
    # Linear and convolutional layers of torch start like this too.
    "fan-in": lambda w, g: nn.init.kaiming_uniform_(w, a=math.sqrt(5), generator=g),
    "narrow": lambda w, g: nn.init.normal_(w, std=0.02, generator=g),  # Radford et al. 2016
    "orthogonal": lambda w, g: nn.init.orthogonal_(w, generator=g),  # Brock et al. 2019
}


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Restore torch's global generator afterwards, so that layers may draw default weights."""
    with torch.random.fork_rng(devices=[]):
        yield


def initialise(
    network: nn.Module, generator: torch.Generator, scheme: Scheme, spread: float = 0.02
) -> None:
    """Draw all weights anew; biases are zero, embeddings normal with deviation `spread`."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            _INITIAL[scheme](layer.weight, generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, std=spread, generator=generator)


def mlp(widths: tuple[int, ...], between: Callable[[int, int], list[nn.Module]]) -> nn.Sequential:
    """Linear layers of these widths. `between(width, place)`: the modules after a hidden layer."""
    modules: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        modules.append(nn.Linear(inputs, outputs))
        if i < len(widths) - 2:
            modules += between(outputs, i)
    return nn.Sequential(*modules)


def with_class(inputs: Tensor, labels: Tensor | None, classes: int, scale: float = 1.0) -> Tensor:
    """(B, d), (B,) int64 → (B, d + classes): `scale` at the class's place, else 0."""
    if labels is None or not classes:
        return inputs
    # by comparison: torch's one_hot looks at the numbers, which torch.func.vmap does not allow
    hot = labels[:, None] == torch.arange(classes, device=labels.device)
    return torch.cat([inputs, scale * hot.to(inputs.dtype)], dim=1)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Compute no gradients of the network's weights. Gradients pass through the network."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def to_signed(images: Tensor) -> Tensor:
    """uint8 → float32 in [−1, 1]."""
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def to_unit(signed: Tensor) -> Tensor:
    """[−1, 1] → [0, 1], clipped."""
    return signed.add(1.0).div(2.0).clamp(0.0, 1.0)


def fast_precision() -> Literal["float32", "bfloat16"]:
    """bfloat16 if this processor multiplies bfloat16 in hardware, else float32."""
    supports_bfloat16 = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return "bfloat16" if supports_bfloat16 is not None and supports_bfloat16() else "float32"


def autocast(precision: str) -> torch.autocast:
    """Convolutions and matrix products in bfloat16, weights in float32; or nothing changed."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
