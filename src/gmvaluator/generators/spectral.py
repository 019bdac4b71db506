"""Spectral normalisation: layers whose weight matrix has a largest singular value of about 1.

Source: Miyato et al. 2018 (arXiv 1802.05957), algorithm 1: one power iteration for each pass in
training, from where the last one ended.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SpectralConv2d(nn.Conv2d):
    """A convolution by weight / σ; the weight is read as (outputs, inputs · k · k)."""

    u: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, padding: int = 0) -> None:
        super().__init__(inputs, outputs, kernel, padding=padding)
        self.register_buffer("u", torch.ones(outputs))

    def forward(self, images: Tensor) -> Tensor:
        return F.conv2d(images, normalised(self), self.bias, padding=self.padding)


class SpectralLinear(nn.Linear):
    """A linear layer by weight / σ."""

    u: Tensor

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.register_buffer("u", torch.ones(outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, normalised(self), self.bias)


def normalised(layer: SpectralConv2d | SpectralLinear) -> Tensor:
    """The layer's weight divided by its estimated largest singular value."""
    # float32: in bfloat16 the estimate would be off by a percent
    with torch.autocast("cpu", enabled=False):
        matrix = layer.weight.flatten(1)  # (outputs, n)
        with torch.no_grad():
            v = F.normalize(matrix.T @ layer.u, dim=0)
            u = layer.u
            if layer.training:
                u = F.normalize(matrix @ v, dim=0)
                layer.u.copy_(u)
        return layer.weight / torch.dot(u, matrix @ v).clamp(min=1e-12)


@torch.no_grad()
def settle(network: nn.Module, generator: torch.Generator) -> None:
    """Start every estimate from a random vector and bring it near the weights at hand."""
    layers: list[Any] = [
        layer for layer in network.modules() if isinstance(layer, SpectralConv2d | SpectralLinear)
    ]
    for layer in layers:
        layer.u.copy_(F.normalize(torch.randn(layer.u.shape, generator=generator), dim=0))
        for _ in range(10):
            normalised(layer)
