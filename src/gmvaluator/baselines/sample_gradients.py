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
    """(B, P) gradients in all parameters that have them, in their order.

    Args:
        network: (pixels, labels, noise) of a batch → (B,) numbers, each by its own image alone.
        batch: the images.
    """
    named = dict(network.named_parameters())
    parameters = {name: each.detach() for name, each in named.items() if each.requires_grad}

    def number(weights: dict[str, Tensor], pixels: Tensor, labels: Any, noise: Tensor) -> Tensor:
        alone = None if labels is None else labels[None]
        arguments = (pixels[None], alone, noise[None])
        found: Tensor = torch.func.functional_call(network, weights, arguments)[0]
        return found

    own_label = None if batch.labels is None else 0
    shared = len(batch.noise) == 1
    sides = (None, 0, own_label, None if shared else 0)
    each = torch.func.vmap(torch.func.grad(number), in_dims=sides, randomness="error")
    # the fused attention of a processor has no rule for vmap, the written-out one has
    with sdpa_kernel(SDPBackend.MATH):
        noise = batch.noise[0] if shared else batch.noise
        gradients = each(parameters, batch.pixels, batch.labels, noise)
    return torch.cat([part.flatten(1) for part in gradients.values()], dim=1)
