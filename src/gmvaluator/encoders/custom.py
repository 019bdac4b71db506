"""A user's own network or function as an encoder."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from gmvaluator.encoders._modules import state_file
from gmvaluator.encoders.backends import NetworkEncoder, Runtime
from gmvaluator.encoders.base import Encoder, Network
from gmvaluator.errors import InputError
from gmvaluator.geometry import Metric
from gmvaluator.images import Preprocessing
from gmvaluator.images.tensors import as_numbers
from gmvaluator.weights import WeightFile

Function = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Vectors = TypeVar("Vectors", torch.Tensor, NDArray[np.float32])

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
    if isinstance(encoder, torch.nn.Module):
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
        self.register_buffer("mean", _per_channel("mean", mean))
        self.register_buffer("std", _per_channel("std", std))
        if not bool((self.std > 0).all()):
            raise InputError(f"std={std}; pass numbers above 0")

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        vectors = self.module((pixels.float() / 255 - self.mean) / self.std)
        if not isinstance(vectors, torch.Tensor):
            raise InputError(_wrong_kind(self.name, vectors))
        return _flat(vectors)


def _per_channel(name: str, numbers: Sequence[float]) -> torch.Tensor:
    """(1, C, 1, 1) float32, C = 3 or one for all; InputError if they are no numbers."""
    try:
        values = as_numbers(numbers).astype(np.float32)
    except (TypeError, ValueError):
        values = np.empty(0, np.float32)
    if values.shape not in ((1,), (3,)) or not np.isfinite(values).all():
        raise InputError(f"{name}={numbers!r}; pass three numbers, one a channel")
    return torch.from_numpy(values).view(1, -1, 1, 1)


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
            raise InputError(_wrong_kind(self.name, result)) from error
        return _flat(vectors)


def _flat(vectors: Vectors) -> Vectors:
    """(B, …) as (B, dim). A number without a batch stays; `check_vectors` refuses it."""
    if not vectors.ndim:
        return vectors
    return vectors.reshape(len(vectors), math.prod(vectors.shape[1:]))


def _wrong_kind(name: str, result: object) -> str:
    return f"encoder {name} returned a {type(result).__name__}; return (B, dim) numbers"
