"""Pieces that several encoder families share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from gmvaluator.errors import InputError
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


class Root(torch.nn.Module):
    """Power normalisation, exponent ½, of non-negative features (Perronnin et al., ECCV 2010)."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.clamp(min=0).sqrt()


def frozen(*stages: torch.nn.Module) -> torch.nn.Module:
    """The stages one after the other, in evaluation mode and without gradients."""
    module = stages[0] if len(stages) == 1 else torch.nn.Sequential(*stages)
    return module.eval().requires_grad_(False)


def input_size(encoder: str, size: int | None, default: int, minimum: int) -> int:
    """The asked or default side in pixels; InputError below what the network can take."""
    if size is None:
        return default
    if size < minimum:
        raise InputError(
            f"encoder {encoder!r} cannot take images of {size} px; pass a size of at least "
            f"{minimum}, or leave @{size} out for its default {default}"
        )
    return size


def only_size(encoder: str, size: int | None, native: int) -> int:
    """`native`, for networks with a fixed input; InputError if another side is asked for."""
    if size not in (None, native):
        raise InputError(
            f"encoder {encoder!r} takes images of {native} px only, not {size}; leave @{size} out"
        )
    return native


def variant_of(encoder: str, variant: str | None, choices: Sequence[str]) -> str:
    """`variant`, or the first of `choices` for None; InputError if it is none of them."""
    if variant is None:
        return choices[0]
    if variant not in choices:
        raise InputError(
            f"encoder {encoder!r} has no variant {variant!r}; choose one of {', '.join(choices)}"
        )
    return variant


def no_variant(encoder: str, variant: str | None) -> None:
    """InputError if a variant is given to an encoder that has none."""
    if variant is not None:
        raise InputError(f"encoder {encoder!r} has no variants; write {encoder!r}, not :{variant}")


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
