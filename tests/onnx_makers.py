"""Makers of small ONNX files, byte by byte: the fields of onnx.proto that tests need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOAT, UINT8, INT64 = 1, 2, 7
TYPES: Mapping[Any, int] = {np.dtype(np.float32): FLOAT, np.dtype(np.int64): INT64}
Dims = Sequence[int | str]


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def nested(field: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def entry(key: str, value: str) -> bytes:
    return nested(1, key) + nested(2, value)


def tensor(name: str, values: NDArray[Any], location: str | None = None) -> bytes:
    """A constant; with `location` its bytes are in a file of that name."""
    dims = b"".join(number(1, dim) for dim in values.shape)
    head = dims + number(2, TYPES[values.dtype]) + nested(8, name)
    if location is None:
        return head + nested(9, values.tobytes())
    return head + nested(13, entry("location", location)) + number(14, 1)


def value_info(name: str, dims: Dims, kind: int = FLOAT) -> bytes:
    """The name, type and shape of an input or output; a text is a size that is open."""
    shape = b"".join(
        nested(1, nested(2, dim) if isinstance(dim, str) else number(1, dim)) for dim in dims
    )
    return nested(1, name) + nested(2, nested(1, number(1, kind) + nested(2, shape)))


def node(
    kind: str,
    inputs: Sequence[str],
    output: str,
    attributes: Mapping[str, int | Sequence[int]] | None = None,
) -> bytes:
    """A step; an attribute is a whole number or several."""
    fields = b""
    for name, value in (attributes or {}).items():
        numbers = (
            number(3, value) + number(20, 2)
            if isinstance(value, int)
            else b"".join(number(8, one) for one in value) + number(20, 7)
        )
        fields += nested(5, nested(1, name) + numbers)
    names = b"".join(nested(1, name) for name in inputs)
    return names + nested(2, output) + nested(4, kind) + fields


def model(
    nodes: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    constants: Sequence[bytes] = (),
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    graph = b"".join(nested(1, one) for one in nodes) + nested(2, "graph")
    graph += b"".join(nested(5, one) for one in constants)
    graph += b"".join(nested(11, one) for one in inputs)
    graph += b"".join(nested(12, one) for one in outputs)
    texts = b"".join(nested(14, entry(*pair)) for pair in (metadata or {}).items())
    return number(1, 8) + nested(7, graph) + nested(8, number(2, 13)) + texts


def pooling(
    path: Path,
    image: Dims = ("N", 3, "H", "W"),
    *,
    metadata: Mapping[str, str] | None = None,
    location: str | None = None,
    kind: int = FLOAT,
) -> Path:
    """A network from images to the mean of each channel times a (3, 4) matrix."""
    weights = np.arange(12, dtype=np.float32).reshape(3, 4) - 5
    axes = (1, 2) if image[3] == 3 else (2, 3)
    steps = [
        node("Cast", ["image"], "floats", {"to": FLOAT}),
        node("ReduceMean", ["floats"], "means", {"axes": axes, "keepdims": 0}),
        node("Reshape", ["means", "shape"], "flat"),
        node("MatMul", ["flat", "weights"], "vector"),
    ]
    path.write_bytes(
        model(
            steps,
            [value_info("image", image, kind)],
            [value_info("vector", (image[0], 4))],
            [
                tensor("shape", np.asarray([-1, 3], np.int64)),
                tensor("weights", weights, location),
            ],
            metadata,
        )
    )
    if location is not None:
        (path.parent / location).write_bytes(weights.tobytes())
    return path
