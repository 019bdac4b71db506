"""The arrays of a weight file by name, read without torch: safetensors, or what torch.save wrote.

A checkpoint of torch is a pickle, which can name any function. The reader here knows the few names
that a state dict needs, and gives none of them an attribute that a pickle could change. A storage
is data of the file, never code.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError

STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
"""Type of the numbers of a storage, by the class that a checkpoint names."""
MAGIC = 0x1950A86A20F9469CFC6C
"""The number that files of torch before version 1.6 begin with."""
WRAPPERS = ("state_dict", "model")


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file or of a state dict that torch.save wrote, by name.

    Nothing in the file is executed. A checkpoint's `state_dict` or `model` wrapper is removed.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return dict(load_file(path))
        state = _checkpoint(path)
    # unpickling, ZIP and safetensors failures share no base class
    except Exception as error:
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise InputError(
            f"the weight file {path} cannot be read ({reason[0]}); wanted is a safetensors file "
            "or a state dict saved by torch.save; delete it to fetch it again, or pass another"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping):
        raise InputError(f"the weight file {path} holds a {type(state).__name__}, not a state dict")
    others = [name for name, array in state.items() if not isinstance(array, np.ndarray)]
    if others:
        raise InputError(
            f"the weight file {path} holds {others[0]!r}, which is no array; pass a state dict"
        )
    return {str(name): array for name, array in state.items()}


def _checkpoint(path: Path) -> Any:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return _read_legacy(file, path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        folder = pickled.removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist():
            order = archive.read(f"{folder}byteorder")
            if order != b"little":
                raise pickle.UnpicklingError(f"numbers in {order!r} byte order")

        def storage(kind: str, key: str, length: int) -> NDArray[Any]:
            return np.frombuffer(bytearray(archive.read(f"{folder}data/{key}")), kind, length)

        return _ArraysOnly(io.BytesIO(archive.read(pickled)), storage).load()


def _read_legacy(file: io.BufferedReader, size: int) -> Any:
    """A file of torch before 1.6: the pickle comes first, then the content of each storage."""
    storages: dict[str, NDArray[Any]] = {}
    left = size

    def storage(kind: str, key: str, length: int) -> NDArray[Any]:
        nonlocal left
        if key not in storages:
            n_bytes = length * np.dtype(kind).itemsize
            if not 0 <= n_bytes <= left:
                raise pickle.UnpicklingError(f"a storage of {length} numbers in {size} bytes")
            left -= n_bytes
            storages[key] = np.empty(length, kind)
        return storages[key]

    def load() -> Any:
        return _ArraysOnly(file, storage).load()

    if load() != MAGIC:
        raise pickle.UnpicklingError("not a file of torch")
    load()  # version of the format
    load()  # sizes of numbers in C
    state, keys = load(), load()
    for key in keys:
        content = storages[key]
        if int.from_bytes(file.read(8), "little") != len(content):
            raise pickle.UnpicklingError(f"storage {key} has another length than its tensors say")
        if file.readinto(content.data) != content.nbytes:
            raise EOFError("the file is cut short")
    return state


class _Rebuild:
    """In place of `torch._utils._rebuild_tensor_v2`: an array over a part of a storage.

    An object without attributes: a pickle may set attributes of what it names.
    """

    __slots__ = ()

    def __call__(
        self,
        storage: NDArray[Any],
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        *_: object,
    ) -> NDArray[Any]:
        numbers = (offset, *shape, *strides)
        if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in numbers):
            raise pickle.UnpicklingError(f"a tensor of shape {shape} and strides {strides}")
        steps = sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if math.prod(shape) and offset + steps >= len(storage):
            raise pickle.UnpicklingError(f"a tensor of shape {shape} beyond its storage")
        in_bytes = tuple(step * storage.itemsize for step in strides)
        return np.lib.stride_tricks.as_strided(storage[offset:], shape, in_bytes)


class _Parameter:
    """In place of `torch._utils._rebuild_parameter`: the array itself."""

    __slots__ = ()

    def __call__(self, array: NDArray[Any], *_: object) -> NDArray[Any]:
        return array


_KNOWN: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
    ("torch._utils", "_rebuild_parameter"): _Parameter(),
    **{("torch", name): kind for name, kind in STORAGES.items()},
}


class _ArraysOnly(pickle.Unpickler):
    """Unpickles dicts, lists, numbers, text and arrays; anything else is an error."""

    def __init__(self, file: BinaryIO, storage: Callable[[str, str, int], NDArray[Any]]) -> None:
        super().__init__(file, encoding="utf-8")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no array") from None

    def persistent_load(self, pid: Any) -> NDArray[Any]:
        what, kind, key, _, length, *_ = pid
        if what != "storage" or kind not in STORAGES.values() or type(length) is not int:
            raise pickle.UnpicklingError(f"it refers to a {what!r} of {kind!r}")
        return self._storage(kind, str(key), length)
