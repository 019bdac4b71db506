"""Gradients of the β-ELBO of single images, and their dot products.

A network can be factorised if every parameter belongs to a linear layer that is called once. The
gradient of such a layer is a sum of few outer products of its inputs a and the gradients δ at its
outputs. A dot product of two gradients is then Σ (a·a' + 1)(δ·δ'), so the gradients are never
written out. An encoder's inputs do not depend on the drawn code, so its δ is averaged over draws
before the products. Other networks get explicit gradients (`sample_gradients`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmvaluator.baselines.sample_gradients import Batch, sample_gradients
from gmvaluator.generators.beta_vae import kl_divergence

Loss = Literal["bce", "squared-error", "official"]
LOSSES: tuple[Loss, ...] = ("bce", "squared-error", "official")
# the official code divides every loss by 3 · 64 · 64, whatever the size of the images
_OFFICIAL_SCALE = 12_288


@dataclass(frozen=True)
class Objective:
    """The loss ℓ whose gradients are compared: reconstruction + β · KL of each image, in nats.

    Attributes:
        loss: `bce`: binary cross entropy summed over pixels. `squared-error`: squared error of the
            sigmoid of the logits, summed over pixels. `official`: the loss of Kong & Chaudhuri's
            code: the squared error divided by the number of channels, plus β · KL, all divided by
            12,288.
        beta: factor on the KL divergence from N(0, 1).
    """

    loss: Loss
    beta: float

    def __call__(self, logits: Tensor, pixels: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
        """(B, S, C, H, W) logits of S codes, (B, C, H, W), (B, z) and log variances → (B,)."""
        wanted = pixels[:, None].expand_as(logits)
        if self.loss == "bce":
            errors = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        else:
            errors = (torch.sigmoid(logits) - wanted).square()
        error = errors.flatten(2).sum(dim=2).mean(dim=1)
        divergence = kl_divergence(mean, spread)
        if self.loss == "official":
            channels = pixels.shape[1]
            return (error / channels + self.beta * divergence) / _OFFICIAL_SCALE
        return error + self.beta * divergence


class ElboNetwork(nn.Module):
    """A VAE whose forward pass is the loss of each image of a batch."""

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.network = network
        self.objective = objective

    def forward(self, pixels: Tensor, labels: Tensor | None, noise: Tensor) -> Tensor:
        """(B,) losses: the loss of an image is the mean over its draws."""
        label_arguments = () if labels is None else (labels,)
        mean, spread = self.network.encode(pixels, *label_arguments)  # type: ignore[operator]
        draws = noise.shape[1]
        codes = mean[:, None] + noise * torch.exp(0.5 * spread)[:, None]
        repeated = () if labels is None else (labels.repeat_interleave(draws),)
        logits: Tensor = self.network.decode(codes.flatten(0, 1), *repeated)  # type: ignore[operator]
        logits = logits.reshape(len(pixels), draws, *pixels.shape[1:])
        losses: Tensor = self.objective(logits, pixels, mean, spread)
        return losses


@dataclass(frozen=True)
class LayerFactors:
    """One linear layer's gradients: Σ_r δ_ir ⊗ a_ir for image i, and Σ_r δ_ir for the bias.

    Attributes:
        inputs: a, (B, R, d_in). R is 1 if the input does not depend on the draw.
        outputs: δ, (B, R, d_out), divided by the number of draws.
        bias: whether the layer has a bias.
    """

    inputs: Tensor
    outputs: Tensor
    bias: bool

    def dot(self, other: LayerFactors) -> Tensor:
        sizes = (*self.inputs.shape[:2], *other.inputs.shape[:2])
        inputs = self.inputs.flatten(0, 1) @ other.inputs.flatten(0, 1).T
        inputs += float(self.bias)
        inputs *= self.outputs.flatten(0, 1) @ other.outputs.flatten(0, 1).T
        return inputs.reshape(sizes).sum(dim=(1, 3))

    def squared_norms(self) -> Tensor:
        inputs = self.inputs @ self.inputs.transpose(1, 2) + float(self.bias)
        return (inputs * (self.outputs @ self.outputs.transpose(1, 2))).sum(dim=(1, 2))


class Gradients(ABC):
    """Gradients of a batch of B images, with their dot products."""

    @abstractmethod
    def dot(self, other: Self) -> Tensor:
        """(B, B') dot products with another batch's gradients."""

    @abstractmethod
    def squared_norms(self) -> Tensor:
        """(B,) squared lengths."""

    @classmethod
    @abstractmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The gradients of several batches, one after the other."""


@dataclass(frozen=True)
class FactorisedGradients(Gradients):
    """Gradients of a network of linear layers."""

    layers: tuple[LayerFactors, ...]

    def dot(self, other: FactorisedGradients) -> Tensor:
        pairs = zip(self.layers, other.layers, strict=True)
        return torch.stack([layer.dot(other_layer) for layer, other_layer in pairs]).sum(dim=0)

    def squared_norms(self) -> Tensor:
        return torch.stack([layer.squared_norms() for layer in self.layers]).sum(dim=0)

    @classmethod
    def join(cls, parts: Sequence[FactorisedGradients]) -> FactorisedGradients:
        return cls(
            tuple(
                LayerFactors(
                    torch.cat([layer.inputs for layer in layers]),
                    torch.cat([layer.outputs for layer in layers]),
                    layers[0].bias,
                )
                for layers in zip(*(part.layers for part in parts), strict=True)
            )
        )


@dataclass(frozen=True)
class ExplicitGradients(Gradients):
    """(B, P) gradients as one array."""

    flat: Tensor

    def dot(self, other: ExplicitGradients) -> Tensor:
        return self.flat @ other.flat.T

    def squared_norms(self) -> Tensor:
        return self.flat.square().sum(dim=1)

    @classmethod
    def join(cls, parts: Sequence[ExplicitGradients]) -> ExplicitGradients:
        return cls(torch.cat([part.flat for part in parts]))


def factorised(network: ElboNetwork, batch: Batch) -> FactorisedGradients:
    """The gradients of a network for which `can_factorise` holds."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    with _recorded(layers) as calls:
        losses = network(batch.pixels, batch.labels, batch.noise)
    outputs = [output for _, _, output in calls]
    gradients = torch.autograd.grad(losses.sum(), outputs)
    images = len(batch.pixels)
    return FactorisedGradients(
        tuple(
            LayerFactors(
                inputs.detach().reshape(images, -1, inputs.shape[-1]),
                gradient.reshape(images, -1, gradient.shape[-1]),
                layer.bias is not None,
            )
            for (layer, inputs, _), gradient in zip(calls, gradients, strict=True)
        )
    )


def explicit(network: ElboNetwork, batch: Batch) -> ExplicitGradients:
    """The gradients of any network without coupling between the images of a batch."""
    return ExplicitGradients(sample_gradients(network, batch))


def can_factorise(network: ElboNetwork, batch: Batch) -> bool:
    """Whether every parameter belongs to a linear layer that sees each image, or draw, once."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    linear = [id(parameter) for layer in layers for parameter in layer.parameters(recurse=False)]
    shared = len(set(linear)) < len(linear)
    if shared or {id(parameter) for parameter in network.parameters()} != set(linear):
        return False
    with torch.no_grad(), _recorded(layers) as calls:
        network(batch.pixels, batch.labels, batch.noise)
    images, draws = batch.noise.shape[:2]
    once = [layer for layer, _, _ in calls]
    rows = {inputs.shape[0] for _, inputs, _ in calls}
    flat = all(inputs.dim() == 2 for _, inputs, _ in calls)
    return len(once) == len(layers) == len(set(once)) and flat and rows <= {images, images * draws}


def gradient_numbers(network: ElboNetwork, draws: int, *, factors: bool) -> int:
    """Upper limit of the number of floats in one image's gradients."""
    if not factors:
        return sum(parameter.numel() for parameter in network.parameters())
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    return draws * sum(layer.in_features + layer.out_features for layer in layers)


Call = tuple[nn.Linear, Tensor, Tensor]


@contextmanager
def _recorded(layers: Sequence[nn.Linear]) -> Iterator[list[Call]]:
    """Record (layer, input, output) of every call inside the `with` block."""
    calls: list[Call] = []

    def note(layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((layer, inputs[0], output))

    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
