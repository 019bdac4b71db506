"""Arrays of a safetensors file, mapped into memory: read as they are used, shared by processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LONG = 1 << 20
"""Bytes from which an array is mapped; shorter ones are read."""
KINDS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "u1"}


def map_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays by name; the long ones are read-only memory maps.

    Raises:
        OSError, SafetensorError: the file is missing, cut short or no safetensors file.
        ValueError, KeyError: it holds numbers of another kind.
    """
    from safetensors import safe_open

    # the library checks that the header is whole and fits the length of the file
    with safe_open(path, "np"):
        pass
    with path.open("rb") as file:
        start = 8 + (length := int.from_bytes(file.read(8), "little"))
        entries: dict[str, Any] = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        arrays: dict[str, NDArray[Any]] = {}
        for name, entry in entries.items():
            first, end = entry["data_offsets"]
            kind, shape = np.dtype(KINDS[entry["dtype"]]), tuple(entry["shape"])
            if end - first >= LONG:
                arrays[name] = np.memmap(path, kind, "r", start + first, shape)
            else:
                file.seek(start + first)
                arrays[name] = np.frombuffer(file.read(end - first), kind).reshape(shape).copy()
    return arrays
