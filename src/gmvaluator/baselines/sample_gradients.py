"""The gradient of each image's own number in all parameters of a network, written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@dataclass(frozen=True)
class Batch:
    """Images to take gradients of.

    Attributes:
        pixels: (B, C, H, W) in [0, 1].
        labels: (B,) class numbers, None for networks without classes.
        noise: (B, S, …) standard normal, S draws an image; (1, S, …) is the same for all.
    """

    pixels: Tensor
    labels: Tensor | None
    noise: Tensor


def sample_gradients(network: nn.Module, batch: Batch) -> Tensor:
    """(B, P) gradients with respect to all parameters that require gradients, in their order.

    Args:
        network: (pixels, labels, noise) of a batch → (B,) numbers. Each depends on one image only.
        batch: the images.
    """
    named = dict(network.named_parameters())
    parameters = {
        name: parameter.detach() for name, parameter in named.items() if parameter.requires_grad
    }

    def number(weights: dict[str, Tensor], pixels: Tensor, labels: Any, noise: Tensor) -> Tensor:
        alone = None if labels is None else labels[None]
        arguments = (pixels[None], alone, noise[None])
        output: Tensor = torch.func.functional_call(network, weights, arguments)[0]
        return output

    own_label = None if batch.labels is None else 0
    shared = len(batch.noise) == 1
    sides = (None, 0, own_label, None if shared else 0)
    gradients_of_each = torch.func.vmap(torch.func.grad(number), in_dims=sides, randomness="error")
    # the fused attention of a processor has no rule for vmap, the written-out one has
    with sdpa_kernel(SDPBackend.MATH):
        noise = batch.noise[0] if shared else batch.noise
        gradients = gradients_of_each(parameters, batch.pixels, batch.labels, noise)
    return torch.cat([part.flatten(1) for part in gradients.values()], dim=1)
