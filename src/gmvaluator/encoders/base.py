"""The protocol of encoders: images in, one vector per image out, with a metric to compare them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gmvaluator.geometry import Metric
from gmvaluator.images import Preprocessing
from gmvaluator.weights import WeightFile

if TYPE_CHECKING:
    import torch


@runtime_checkable
class Encoder(Protocol):
    """Turns images into vectors whose distance is `metric`.

    `fingerprint` changes whenever the vectors would: weights, input size, preprocessing, dtype.
    """

    @property
    def name(self) -> str: ...
    @property
    def metric(self) -> Metric: ...
    @property
    def preprocessing(self) -> Preprocessing: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def weights(self) -> tuple[WeightFile, ...]: ...

    def prepare(self) -> None:
        """Compile what `encode` needs; called before decoding threads start."""
        ...

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, 3, H, W) uint8 RGB, as `preprocessing` asks → (B, dim) float32."""
        ...


def arithmetic_of(encoder: Encoder) -> str | None:
    """What decides the last digits of an encoder's vectors besides its `fingerprint`.

    Backend, device and precision, such as `openvino-cpu-float32`. None for encoders that do not
    say it, such as a user's function.
    """
    arithmetic: str | None = getattr(encoder, "arithmetic", None)
    return arithmetic


@runtime_checkable
class NetworkOfFile(Protocol):
    """A network of a file that OpenVINO reads; it runs on a processor, wherever others run."""

    @property
    def path(self) -> Path: ...

    def openvino_model(self, openvino: Any) -> Any:
        """An `openvino.Model`, (B, 3, S, S) uint8 → (B, dim) float32; B may be 1 only."""
        ...


@runtime_checkable
class Described(Protocol):
    """A network that is built in the form that a backend runs; OpenVINO needs no torch for it."""

    def openvino_model(self, openvino: Any) -> Any:
        """The network as an `openvino.Model`, (B, 3, S, S) uint8 → (B, dim) float32."""
        ...

    def torch_module(self) -> torch.nn.Module:
        """The same network as a module."""
        ...


Array = TypeVar("Array", "torch.Tensor", NDArray[np.float32])
Function = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Arithmetic without weights: (B, 3, H, W) uint8 → (B, dim) float32."""


@dataclass(frozen=True)
class Network:
    """What an encoder family builds: a network and all that is needed to feed and compare it.

    `module` maps (B, 3, H, W) uint8 RGB to (B, dim) float32 and does its own normalisation, so
    that every inference backend compiles the same graph: a torch module, a description of a
    network, a network of a file, or a plain function of arrays. `kept` says whether its vectors are
    short enough to be kept on disk.
    """

    name: str
    module: torch.nn.Module | Described | NetworkOfFile | Function
    preprocessing: Preprocessing
    metric: Metric
    weights: tuple[WeightFile, ...] = ()
    kept: bool = True


def flat(vectors: Array) -> Array:
    """(B, …) as (B, dim). A number without a batch stays; `check_vectors` refuses it."""
    if not vectors.ndim:
        return vectors
    return vectors.reshape(len(vectors), math.prod(vectors.shape[1:]))


def wrong_kind(name: str, result: object) -> str:
    """The message about an encoder that returned no array."""
    return f"encoder {name} returned a {type(result).__name__}; return (B, dim) numbers"
