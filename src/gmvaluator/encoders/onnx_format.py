"""What an ONNX file says of itself, read without running or loading anything that it names.

An ONNX file is a protocol buffer (onnx.proto of the ONNX project). Only the fields that name files
of weights, and the metadata, are looked at here; OpenVINO reads the rest.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from gmvaluator.errors import InputError

# numbers of fields in onnx.proto
_GRAPH, _METADATA, _FUNCTIONS = 7, 14, 25  # of a model
_KEY, _VALUE = 1, 2  # of an entry of text
_INITIALIZERS, _SPARSE = 5, 15  # of a graph
_NODES = {_GRAPH: 1, _FUNCTIONS: 7}  # of a graph, of a function
_ATTRIBUTES = 5  # of a node
_TENSORS, _GRAPHS, _SPARSES = (5, 10), (6, 11), (22, 23)  # of an attribute
_SPARSE_PARTS = (1, 2)  # of a sparse tensor: values and indices
_EXTERNAL = 13  # of a tensor
_DEEPEST = 32
"""Graphs within graphs that are followed."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class OnnxFacts:
    """What an ONNX file says.

    Attributes:
        metadata: texts by key.
        files: of weights that lie beside the file, as named in it, sorted.
    """

    metadata: dict[str, str]
    files: tuple[str, ...]


def read_facts(path: Path) -> OnnxFacts:
    """The facts of an ONNX file; its files of weights are checked to lie in its folder.

    Raises:
        InputError: no ONNX file, or a file of weights that is missing or outside the folder.
    """
    try:
        with path.open("rb") as file:
            facts = _facts(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise InputError(
            f"{path} is no ONNX file; pass a network as .onnx, or as .xml of OpenVINO"
        ) from None
    for name in facts.files:
        _check_beside(path, name)
    return facts


def _facts(model: memoryview) -> OnnxFacts:
    metadata: dict[str, str] = {}
    files: set[str] = set()
    has_graph = False
    for number, content in _fields(model):
        if number == _METADATA:
            key, value = _entry(content)
            metadata[key] = value
        elif number in (_GRAPH, _FUNCTIONS):
            has_graph |= number == _GRAPH
            files.update(_files_of_graph(content, _NODES[number], 0))
    if not has_graph:
        raise ValueError("no graph")
    return OnnxFacts(metadata, tuple(sorted(files)))


def _files_of_graph(graph: memoryview, nodes: int, depth: int) -> Iterator[str]:
    """Files that the tensors of a graph, or of a function, name."""
    if depth > _DEEPEST:
        raise ValueError("graphs within graphs without end")
    for number, content in _fields(graph):
        if number == nodes:
            for kind, attribute in _fields(content):
                if kind == _ATTRIBUTES:
                    yield from _files_of_attribute(attribute, depth)
        elif nodes == _NODES[_GRAPH] and number == _INITIALIZERS:
            yield from _files_of_tensor(content)
        elif nodes == _NODES[_GRAPH] and number == _SPARSE:
            yield from _files_of_sparse(content)


def _files_of_attribute(attribute: memoryview, depth: int) -> Iterator[str]:
    for number, content in _fields(attribute):
        if number in _TENSORS:
            yield from _files_of_tensor(content)
        elif number in _SPARSES:
            yield from _files_of_sparse(content)
        elif number in _GRAPHS:
            yield from _files_of_graph(content, _NODES[_GRAPH], depth + 1)


def _files_of_sparse(tensor: memoryview) -> Iterator[str]:
    for number, content in _fields(tensor):
        if number in _SPARSE_PARTS:
            yield from _files_of_tensor(content)


def _files_of_tensor(tensor: memoryview) -> Iterator[str]:
    for number, content in _fields(tensor):
        if number == _EXTERNAL:
            key, value = _entry(content)
            if key == "location":
                yield value


def _entry(content: memoryview) -> tuple[str, str]:
    """Key and value of an entry of text; ValueError if they are no text."""
    texts = {number: bytes(text).decode("utf-8") for number, text in _fields(content)}
    return texts.get(_KEY, ""), texts.get(_VALUE, "")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of the fields that hold bytes; ValueError if it is no message."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        elif kind == _BYTES:
            length, at = _varint(message, at)
            if at + length > end:
                raise ValueError("cut field")
            yield number, message[at : at + length]
            at += length
        else:
            raise ValueError(f"unknown kind {kind}")
        if not number or at > end:
            raise ValueError("no field")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where the next begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("cut number")
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if not byte & 0x80:
            return value, at
    raise ValueError("endless number")


def _check_beside(path: Path, name: str) -> None:
    """InputError unless a file of weights lies in the folder of the network's file, or below."""
    # a path of either system, whichever this is
    parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    anchored = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor
    folder = path.parent.resolve()
    file = folder / name
    try:
        inside = not anchored and ".." not in parts and file.resolve().is_relative_to(folder)
        there = inside and file.is_file()
    except (OSError, ValueError):
        inside = there = False
    if not inside:
        raise InputError(
            f"{path} names the file of weights {name!r}, which is outside its folder; export the "
            "network again, with its weights beside it"
        )
    if not there:
        raise InputError(
            f"{path} keeps weights in {name!r}, which is missing; put that file into {path.parent}"
        )
