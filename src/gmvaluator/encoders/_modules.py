"""Pieces that several encoder families share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from gmvaluator.encoders.base import flat, wrong_kind
from gmvaluator.errors import InputError
from gmvaluator.images.tensors import as_numbers
from gmvaluator.weights import WeightFile


class Normalise(torch.nn.Module):
    """(B, 3, H, W) uint8 RGB → (pixels − offset) / scale, float32; both in units of 0 … 255."""

    offset: torch.Tensor
    scale: torch.Tensor

    def __init__(self, offset: Sequence[float], scale: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("offset", _per_channel(offset))
        self.register_buffer("scale", _per_channel(scale))

    @classmethod
    def from_unit(cls, mean: Sequence[float], std: Sequence[float]) -> Normalise:
        """The mean and standard deviation that model cards give, for pixels in [0, 1]."""
        return cls([255 * value for value in mean], [255 * value for value in std])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.float() - self.offset) / self.scale


class Normalised(torch.nn.Module):
    """uint8 images → normalised floats → the module → one flat vector an image."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, module: torch.nn.Module, mean: Sequence[float], std: Sequence[float], name: str
    ) -> None:
        super().__init__()
        self.module = module
        self.name = name
        self.register_buffer("mean", _numbers_per_channel("mean", mean))
        self.register_buffer("std", _numbers_per_channel("std", std))
        if not bool((self.std > 0).all()):
            raise InputError(f"std={std}; pass numbers above 0")

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        vectors = self.module((pixels.float() / 255 - self.mean) / self.std)
        if not isinstance(vectors, torch.Tensor):
            raise InputError(wrong_kind(self.name, vectors))
        return flat(vectors)


class Root(torch.nn.Module):
    """Power normalisation, exponent ½, of non-negative features (Perronnin et al., ECCV 2010)."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.clamp(min=0).sqrt()


def frozen(*stages: torch.nn.Module) -> torch.nn.Module:
    """The stages one after the other, in evaluation mode and without gradients."""
    module = stages[0] if len(stages) == 1 else torch.nn.Sequential(*stages)
    return module.eval().requires_grad_(False)


def state_file(name: str, module: torch.nn.Module) -> WeightFile:
    """The module's state as if it were a file, so that results record which weights were used."""
    digest = hashlib.sha256(repr(module).encode())
    for key, tensor in module.state_dict().items():
        digest.update(key.encode())
        # as bytes: numpy has no bfloat16
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return WeightFile(name=name, path=None, sha256=digest.hexdigest())


def _per_channel(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(list(values), dtype=torch.float32).reshape(1, -1, 1, 1)


def _numbers_per_channel(name: str, numbers: Sequence[float]) -> torch.Tensor:
    """(1, C, 1, 1) float32, C = 3 or one for all; InputError if they are no numbers."""
    try:
        values = as_numbers(numbers).astype(np.float32)
    except (TypeError, ValueError):
        values = np.empty(0, np.float32)
    if values.shape not in ((1,), (3,)) or not np.isfinite(values).all():
        raise InputError(f"{name}={numbers!r}; pass three numbers, one a channel")
    return torch.from_numpy(values).view(1, -1, 1, 1)
