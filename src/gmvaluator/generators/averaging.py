"""Drawing of adversarial families: averaged weights, standing statistics, truncation.

Source: Brock et al. 2019 (arXiv 1809.11096), sections 3.1 and 4.1, appendices A and C.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gmvaluator.generators.base import GeneratorModel
from gmvaluator.generators.randomness import STATISTICS, image_noise

_STANDING = (16, 64)  # batches and their size behind the saved batch statistics


@torch.no_grad()
def average_step(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """average ← decay · average + (1 − decay) · network. Buffers are copied.

    The decay starts low, so that early weights are forgotten.
    """
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, 1.0 - decay)
    for held, buffer in zip(average.buffers(), network.buffers(), strict=True):
        held.copy_(buffer)


@torch.no_grad()
def restate(model: GeneratorModel) -> None:
    """Set standing statistics: the batch statistics of 1,024 images drawn by `model`."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    batches, size = _STANDING
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    # Only the norms: spectral norms in training mode would go on with their power iteration.
    model.eval()
    for norm in norms:
        norm.train()
    for at in range(batches):
        rows = range(at * size, (at + 1) * size)
        labels = torch.arange(size) % model.classes if model.classes else None
        model(image_noise(rows, model.noise_shape, STATISTICS), labels)
    for norm in norms:
        norm.momentum = 0.1
    model.eval()


def truncated(noise: Tensor, limit: float) -> Tensor:
    """Standard normal numbers → normal numbers conditioned on |z| ≤ limit. 0: no change.

    The distribution function is inverted, so that each number is a function of one noise number.
    """
    if limit == 0.0:
        return noise
    root = math.sqrt(2.0)
    inside = math.erf(limit / root)
    return root * torch.erfinv(inside * torch.erf(noise.double() / root)).to(noise.dtype)
