"""Any network of a file that maps an image to one vector: ONNX, or OpenVINO's own format (IR).

OpenVINO reads and runs both; neither torch nor the package onnx is needed.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from gmvaluator.encoders.backends import import_openvino
from gmvaluator.encoders.base import Network
from gmvaluator.encoders.onnx_format import read_facts
from gmvaluator.errors import InputError, MissingPackageError
from gmvaluator.files.seals import hash_file
from gmvaluator.geometry import Metric
from gmvaluator.images import Preprocessing
from gmvaluator.weights import WeightFile, Weights, weights_digest

Layout = Literal["NCHW", "NHWC"]
Pool = Literal["first", "mean"]
Channels = Literal["rgb", "bgr"]
Fit = Literal["squash", "crop"]

NORMALISATIONS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
"""Mean and standard deviation of pixels in 0..1, by the name that `mean` may have."""
RANGES = {"0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0), "0..255": (0.0, 255.0)}
_ONNX_RANGES = {
    "NominalRange_0_255": "0..255",
    "Normalized_0_1": "0..1",
    "Normalized_1_1": "-1..1",
}
"""Values of `Image.NominalPixelRange` (MetadataProps.md of the ONNX project)."""
KEYS = ("size", "mean", "std", "range", "layout", "channels", "output", "pool", "fit", "metric")
MOST_SIDE = 4_096


@dataclass(frozen=True)
class Choices:
    """What a name says after `?`, or a file says of itself; None where nothing is said.

    Attributes:
        size: side of the input, in pixels.
        mean, std: of a channel, or of each; pixels minus `mean`, divided by `std`, go in.
        range: what pixels of 0 … 255 become before that, a key of `RANGES`.
        layout: order of the input's axes.
        channels: order of the colours.
        output: name of the output that is the vector.
        pool: makes one vector of an output that has several: the first one, or their mean.
        fit: see `Preprocessing`.
        metric: of the vectors.
    """

    size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    range: str | None = None
    layout: Layout | None = None
    channels: Channels | None = None
    output: str | None = None
    pool: Pool | None = None
    fit: Fit | None = None
    metric: Metric | None = None

    def over(self, other: Choices) -> Choices:
        """These choices; those of `other` where nothing is said here."""
        said = {name: value for name, value in vars(self).items() if value is not None}
        if said.keys() & {"mean", "std", "range"}:  # these belong together
            other = replace(other, mean=None, std=None, range=None)
        return replace(other, **said)


@dataclass(frozen=True)
class NetworkFile:
    """A network of a file, from pixels to vectors, in the form that OpenVINO compiles.

    Attributes:
        path: of the file.
        choices: how images go in and the vector comes out; `size`, `mean`, `std`, `range`,
            `layout` and `channels` are known.
    """

    path: Path
    choices: Choices

    def openvino_model(self, openvino: Any) -> Any:
        """(B, 3, S, S) uint8 → (B, dim) float32; B is 1 for a network that takes one image.

        Raises:
            InputError: the network does not map such an image to one vector.
        """
        try:
            return _prepared(openvino, self.path, self.choices)
        except RuntimeError as error:
            side = self.choices.size
            raise InputError(
                f"{self.path} does not take images of {side} × {side} px: {_first_line(error)}"
            ) from error


def build(variant: str | None, size: int | None, weights: Weights) -> Network:
    """`onnx:PATH[?size=…&mean=…][@size]`; see `Choices` for what may follow `?`.

    Raises:
        InputError: the file is no such network, or what it leaves open is not given.
        MissingPackageError: OpenVINO is not installed.
    """
    if not variant:
        raise InputError(
            "encoder 'onnx' wants a file: write onnx:PATH, such as onnx:net.onnx?size=224"
            "&mean=imagenet"
        )
    text, _, query = variant.partition("?")
    path = Path(text)
    given = read_choices(query, path)
    if size is not None and given.size not in (None, size):
        raise InputError(f"onnx:{variant} asks for {given.size} px and for {size} px; give one")
    given = replace(given, size=size or given.size)
    members = _members(path)
    try:
        openvino = import_openvino()
    except ImportError as error:
        raise MissingPackageError("encoder 'onnx' needs OpenVINO: pip install openvino") from error
    whole = _read(openvino, path)
    image = _cut(openvino, whole, given.output, path).input()
    metadata = {} if path.suffix == ".xml" else read_facts(path).metadata
    known = given.over(_said_by_file(image.element_type, whole, metadata))
    known = _complete(known, path, image.partial_shape)
    network = NetworkFile(path, known)
    network.openvino_model(openvino)  # refuses what cannot work
    digest = weights_digest(path.parent, members) if len(members) > 1 else hash_file(path)
    side = cast("int", known.size)
    # its content tells it from others; no name that finds a file, which may be anywhere
    name = f"onnx {path.name} {digest[:8]}"
    return Network(
        name=f"{name}{_described(known)}@{side}",
        module=cast("Any", network),
        preprocessing=Preprocessing(side, fit=known.fit or "squash"),
        metric=known.metric or "centred-cosine",
        weights=(WeightFile(name, path, digest),),
    )


def _members(path: Path) -> tuple[str, ...]:
    """Names of the files of a network, the first its own, all in or below its folder."""
    if path.suffix == ".xml":
        file = path.with_suffix(".bin")
        for wanted in (path, file):
            if not wanted.is_file():
                raise InputError(f"{wanted} is missing; a network of OpenVINO is .xml and .bin")
        return path.name, file.name
    if not path.exists():
        raise InputError(f"there is no file {path}; pass onnx:PATH with the path of a network")
    return path.name, *read_facts(path).files


def _read(openvino: Any, path: Path) -> Any:
    try:
        return openvino.Core().read_model(path)
    except RuntimeError as error:
        raise InputError(f"OpenVINO cannot read {path}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """What an exception of OpenVINO says, without the places in its source."""
    lines = [line.strip(" -") for line in str(error).splitlines()]
    frame = ("Exception from", "Check '", "FrontEnd API failed", "Model wasn't", "Summary:", "[")
    reasons = [line for line in lines if line and not line.startswith(frame)]
    return " ".join((reasons or lines or [type(error).__name__])[:2])[:200].rstrip(".:;, ")


# --- what the name and the file say --------------------------------------------------------------


def read_choices(query: str, path: Path) -> Choices:
    """The choices after `?` of a name.

    Raises:
        InputError: an unknown key, or a value that cannot be read.
    """
    try:
        pairs = urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        pairs = [(query, "")]
    chosen = dict(pairs)
    for key in chosen:
        if key not in KEYS or len(chosen) < len(pairs):
            raise InputError(
                f"onnx:{path}?{query} cannot be read; write ?KEY=VALUE&KEY=VALUE, each of "
                f"{', '.join(KEYS)} at most once"
            )
    named = chosen.get("mean") in NORMALISATIONS
    if named and ("std" in chosen or chosen.get("range", "0..1") != "0..1"):
        raise InputError(f"mean={chosen['mean']} comes with its own std and range; leave them out")
    if named:
        mean, std = NORMALISATIONS[chosen["mean"]]
    else:
        mean, std = _numbers("mean", chosen), _numbers("std", chosen)  # type: ignore[assignment]
    return Choices(
        size=_side(chosen["size"]) if "size" in chosen else None,
        mean=mean,
        std=std,
        range=_one_of("range", chosen, tuple(RANGES)),
        layout=cast("Layout | None", _one_of("layout", chosen, get_args(Layout))),
        channels=cast("Channels | None", _one_of("channels", chosen, get_args(Channels))),
        output=chosen.get("output"),
        pool=cast("Pool | None", _one_of("pool", chosen, get_args(Pool))),
        fit=cast("Fit | None", _one_of("fit", chosen, get_args(Fit))),
        metric=cast("Metric | None", _one_of("metric", chosen, get_args(Metric))),
    )


def _side(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= MOST_SIDE):
        raise InputError(f"size={text}; pass a side in pixels from 1 to {MOST_SIDE}")
    return int(text)


def _numbers(key: str, chosen: Mapping[str, str]) -> tuple[float, ...] | None:
    if key not in chosen:
        return None
    try:
        numbers = tuple(float(part) for part in chosen[key].split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3) or not all(
        np.isfinite(number) and (key == "mean" or number > 0) for number in numbers
    ):
        names = f", or {' or '.join(NORMALISATIONS)}" if key == "mean" else " above 0"
        raise InputError(f"{key}={chosen[key]}; pass one number or three, one a channel{names}")
    return numbers


def _one_of(key: str, chosen: Mapping[str, str], choices: Sequence[str]) -> str | None:
    if key in chosen and chosen[key] not in choices:
        raise InputError(f"{key}={chosen[key]}; choose {' or '.join(choices)}")
    return chosen.get(key)


def _said_by_file(kind: Any, model: Any, metadata: Mapping[str, str]) -> Choices:
    """What a file says of its input.

    Args:
        kind: type of the input's numbers.
        model: whole.
        metadata: of an ONNX file.
    """
    if kind.get_type_name() == "u8":
        return Choices(range="0..255")
    said = Choices(
        range=_ONNX_RANGES.get(metadata.get("Image.NominalPixelRange", "")),
        channels="bgr" if metadata.get("Image.BitmapPixelFormat", "").startswith("Bgr") else None,
    )
    mean, std = _of_model_api(model, "mean_values"), _of_model_api(model, "scale_values")
    if mean or std:
        said = replace(said, mean=mean, std=std, range="0..255")
    if model.has_rt_info(["model_info", "reverse_input_channels"]):
        info = str(model.get_rt_info(["model_info", "reverse_input_channels"]).value)
        said = replace(said, channels="bgr" if info.lower() in ("yes", "true", "1") else None)
    return said


def _of_model_api(model: Any, key: str) -> tuple[float, ...] | None:
    """Numbers a channel that OpenVINO's Model API keeps in a file, of pixels in 0..255."""
    if not model.has_rt_info(["model_info", key]):
        return None
    text = str(model.get_rt_info(["model_info", key]).value).replace(",", " ").strip("[]() ")
    try:
        numbers = tuple(map(float, text.split()))
    except ValueError:
        return None
    return numbers if len(numbers) in (1, 3) else None


def _complete(known: Choices, path: Path, shape: Any) -> Choices:
    """The choices with what the shape of the input decides.

    Raises:
        InputError: the input is no image, or what it leaves open is not given.
    """
    shown = _shown(shape)
    if shape.rank.is_dynamic:
        raise InputError(f"{path} takes an input of any shape; wanted is (N, 3, H, W)")
    dims = [dim.get_length() if dim.is_static else None for dim in shape]
    if len(dims) != 4:
        raise InputError(f"{path} takes no image: its input is {shown}, not (N, 3, H, W)")
    layout: Layout = known.layout or ("NHWC" if dims[1] != 3 and dims[3] == 3 else "NCHW")
    channels, *sides = (dims[axis] for axis in ((1, 2, 3) if layout == "NCHW" else (3, 1, 2)))
    if channels not in (3, None):
        raise InputError(f"{path} takes no RGB image: its input is {shown}, read as {layout}")
    fixed = {side for side in sides if side is not None}
    if len(fixed) > 1:
        raise InputError(f"{path} takes images of {sides[1]} × {sides[0]} px; wanted is a square")
    if not fixed and known.size is None:
        raise InputError(
            f"{path} leaves the size of its images open, {shown}; write onnx:{path}?size=224, or "
            "the size that it was trained with"
        )
    side = next(iter(fixed), known.size)
    if known.size not in (side, None):
        raise InputError(f"{path} takes images of {side} px only, not {known.size}; leave it out")
    if known.mean is None and known.std is None and known.range is None:
        raise InputError(
            f"{path} does not say how pixels are normalised; write onnx:{path}?mean=imagenet, "
            "mean=clip, mean=0.5&std=0.5, or range=0..255, as it was trained"
        )
    return replace(
        known,
        size=side,
        layout=layout,
        range=known.range or "0..1",
        mean=known.mean or (0.0,),
        std=known.std or (1.0,),
        channels=known.channels or "rgb",
    )


def _described(known: Choices) -> str:
    """What decides the vectors besides the file and the size, as a name has it."""
    parts = []
    for key in ("range", "mean", "std", "layout", "channels", "output", "pool", "metric"):
        if (value := getattr(known, key)) is not None:
            text = (
                ",".join(f"{number:.9g}" for number in value) if isinstance(value, tuple) else value
            )
            parts.append(f"{key}={text}")
    return f"?{'&'.join(parts)}"


# --- the graph -----------------------------------------------------------------------------------


def _cut(openvino: Any, model: Any, output: str | None, path: Path) -> Any:
    """The network from its one input to its one output.

    Raises:
        InputError: several outputs without a choice, an unknown one, or several inputs.
    """
    chosen = _chosen_output(model, output, path)
    needed, waiting, seen = [], [chosen.get_node()], set()
    while waiting:
        node = waiting.pop()
        if node.get_name() in seen:
            continue
        seen.add(node.get_name())
        if node.get_type_name() == "Parameter":
            needed.append(node)
        waiting += [value.get_node() for value in node.input_values()]
    if len(needed) != 1:
        names = ", ".join(sorted(node.output(0).any_name for node in needed)) or "none"
        raise InputError(
            f"{path} wants {len(needed)} inputs ({names}); wanted is one image: choose an output "
            "that needs the image alone (?output=NAME), or export the image encoder by itself"
        )
    return openvino.Model([chosen.get_node()], needed, "cut")


def _chosen_output(model: Any, output: str | None, path: Path) -> Any:
    """The output of a name, which may be inside the network; the only one where none is given."""
    ports = model.outputs
    if output is None:
        if len(ports) == 1:
            return ports[0]
        names = ", ".join(f"{port.any_name} {_shown(port.partial_shape)}" for port in ports)
        raise InputError(f"{path} has {len(ports)} outputs: {names}; choose one by ?output=NAME")
    for port in ports:
        if output in port.names:
            return port
    try:
        return model.add_outputs(output)[0]
    except RuntimeError:
        names = ", ".join(port.any_name for port in ports)
        raise InputError(f"{path} has no output {output!r}; its outputs are {names}") from None


def _prepared(openvino: Any, path: Path, choices: Choices) -> Any:
    """The network for batches, or for single images where its batch is fixed; see `NetworkFile`."""
    side = choices.size
    image = (3, side, side) if choices.layout == "NCHW" else (side, side, 3)
    # a batch of two shows whether the network keeps images apart
    try:
        model = _sized(openvino, path, choices, [2, *image])
        width = _width(model.output().partial_shape, 2)
    except RuntimeError:
        width = None
    if width is None:
        model = _sized(openvino, path, choices, [1, *image])
        width = _width(model.output().partial_shape, 1)
    if width is None:
        raise InputError(
            f"{path} gives no vector: its output for one image is "
            f"{_shown(model.output().partial_shape)}, not (1, dim); choose another output "
            "(?output=NAME), or pool it (?pool=first or ?pool=mean)"
        )
    first = model.output().partial_shape[0].get_length()
    model.reshape(openvino.PartialShape([-1 if first == 2 else 1, *image]))
    return _from_pixels(openvino, model, choices)


def _sized(openvino: Any, path: Path, choices: Choices, shape: list[Any]) -> Any:
    """The network for inputs of a shape, with its vectors pooled and flat."""
    ops = openvino.opset13
    model = _cut(openvino, _read(openvino, path), choices.output, path)
    model.reshape(openvino.PartialShape(shape))
    value = model.output().get_node().input_value(0)
    rank = len(value.get_partial_shape())
    if choices.pool == "first" and rank == 3:
        value = ops.gather(value, np.int64(0), np.int64(1)).output(0)
    elif choices.pool == "mean" and rank in (3, 4):
        axes = {(3, "NCHW"): [1], (3, "NHWC"): [1], (4, "NCHW"): [2, 3], (4, "NHWC"): [1, 2]}
        over = np.asarray(axes[rank, choices.layout or "NCHW"], np.int64)
        value = ops.reduce_mean(value, over, keep_dims=False).output(0)
    return openvino.Model([ops.result(value)], model.get_parameters(), "sized")


def _width(shape: Any, batch: int) -> int | None:
    """Numbers in the vector of an image; None if the output is no vector for each of the batch."""
    if shape.is_dynamic or len(shape) < 2 or shape[0].get_length() != batch:
        return None
    dims = [dim.get_length() for dim in list(shape)[1:]]
    wide = [dim for dim in dims if dim != 1]
    return wide[0] if len(wide) == 1 else None


def _from_pixels(openvino: Any, model: Any, choices: Choices) -> Any:
    """The network with its normalisation before it: (B, 3, S, S) uint8 RGB → (B, dim) float32."""
    ops, low, high = openvino.opset13, *RANGES[cast("str", choices.range)]
    unit = 255 / (high - low)
    steps = openvino.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8)
    steps.input().tensor().set_layout(openvino.Layout("NCHW"))
    steps.input().model().set_layout(openvino.Layout(choices.layout))
    process = steps.input().preprocess().convert_element_type(openvino.Type.f32)
    if choices.channels == "bgr":
        process.reverse_channels()
    process.mean([(value - low) * unit for value in _three(choices.mean)])
    process.scale([value * unit for value in _three(choices.std)])
    steps.output().tensor().set_element_type(openvino.Type.f32)
    model = steps.build()
    value = model.output().get_node().input_value(0)
    flat = ops.reshape(value, np.asarray([0, -1], np.int64), special_zero=True)
    return openvino.Model([ops.result(flat)], model.get_parameters(), "pixels to vectors")


def _three(numbers: tuple[float, ...] | None) -> list[float]:
    """One a channel."""
    return list(numbers or ()) * (3 // len(numbers or (0.0,)))


def _shown(shape: Any) -> str:
    """A shape, with ? for sizes that are open."""
    if shape.rank.is_dynamic:
        return "of any shape"
    return f"({', '.join(str(dim.get_length()) if dim.is_static else '?' for dim in shape)})"
