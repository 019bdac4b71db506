"""A user's own network or function as an encoder."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.backends import NetworkEncoder, Runtime
from gmvaluator.encoders.base import Encoder, Function, Network, flat, wrong_kind
from gmvaluator.errors import InputError
from gmvaluator.geometry import Metric
from gmvaluator.images import Preprocessing
from gmvaluator.images.tensors import as_numbers
from gmvaluator.weights import WeightFile

if TYPE_CHECKING:
    import torch

UNIT_MEAN = (0.0, 0.0, 0.0)
UNIT_STD = (1.0, 1.0, 1.0)


def wrap(
    encoder: torch.nn.Module | Function,
    *,
    name: str | None = None,
    metric: Metric = "cosine",
    preprocessing: Preprocessing | None = None,
    mean: Sequence[float] = UNIT_MEAN,
    std: Sequence[float] = UNIT_STD,
    runtime: Runtime | None = None,
) -> Encoder:
    """Make an encoder of a `torch.nn.Module` or of a function.

    Args:
        encoder: a module that takes (B, 3, H, W) float32 RGB in [0, 1], normalised by `mean` and
            `std`, or a function that takes (B, 3, H, W) uint8; either returns one vector an
            image (more dimensions are flattened).
        name: how results name it. Default: the class or function name.
        metric: how its vectors are compared.
        preprocessing: input size and resizing. Default: squashed to 224 px.
        mean, std: per channel, in [0, 1] units; for modules only.
        runtime: device; a module runs in torch, since others may not convert it.

    Raises:
        InputError: neither a module nor callable.
    """
    preprocessing = preprocessing or Preprocessing(224)
    if _is_module(encoder):
        from gmvaluator.encoders._modules import Normalised, state_file

        name = name or type(encoder).__name__
        module = Normalised(encoder, mean, std, name)
        network = Network(
            name=name,
            module=module,
            preprocessing=preprocessing,
            metric=metric,
            weights=(state_file(name, module),),
        )
        device = runtime.device if runtime else "auto"
        return NetworkEncoder(network, Runtime(device, "torch"))
    if not callable(encoder):
        raise InputError(
            f"{encoder!r} is no encoder; pass a name, a torch.nn.Module or a function of "
            "(B, 3, H, W) uint8 images"
        )
    called = name or str(getattr(encoder, "__name__", type(encoder).__name__))
    return FunctionEncoder(encoder, called, metric, preprocessing)


def _is_module(encoder: Any) -> TypeGuard[torch.nn.Module]:
    torch: Any = sys.modules.get("torch")  # whoever made a module has imported torch
    return torch is not None and isinstance(encoder, torch.nn.Module)


class FunctionEncoder:
    """A plain function as an encoder."""

    weights: tuple[WeightFile, ...] = ()

    def __init__(
        self, function: Function, name: str, metric: Metric, preprocessing: Preprocessing
    ) -> None:
        self._function = function
        self.name = name
        self.metric = metric
        self.preprocessing = preprocessing
        # a function's behaviour cannot be hashed: never mistake one object for another
        self.fingerprint = f"{name}|{uuid.uuid4().hex}"

    def prepare(self) -> None:
        """Nothing: a function comes ready."""

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, 3, H, W) uint8 → (B, dim) float32."""
        result = self._function(pixels)
        try:
            vectors = as_numbers(result).astype(np.float32, copy=False)
        except (TypeError, ValueError) as error:
            raise InputError(wrong_kind(self.name, result)) from error
        return flat(vectors)
