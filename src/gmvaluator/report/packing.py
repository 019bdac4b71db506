"""Text inside an HTML file: compressed columns for the script to open, and JSON that cannot leave
its element.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# dtypes by the name of the script's typed array
_KINDS = {"u1": "Uint8Array", "u4": "Uint32Array", "f4": "Float32Array", "f8": "Float64Array"}
_LEVEL = 6


def pack_column(cells: Sequence[str | None] | NDArray[Any]) -> dict[str, str]:
    """A column as text: its kind, and base64 of its zlib-compressed content.

    Numbers: uint8, float32, float64, or integers from 0 to 2³² − 1. They are stored little-endian,
    as one plane of bytes after the other: bytes of equal weight repeat more than whole numbers do.
    Strings, lone surrogates included, and None: as ASCII JSON.
    """
    if not isinstance(cells, np.ndarray):
        text = json.dumps(list(cells), separators=(",", ":")).encode("ascii")
        return {"kind": "strings", "data": _compressed(text)}
    flat = cells.ravel()
    flat = flat.astype(np.uint32) if flat.dtype.kind == "i" else flat
    flat = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    planes = np.frombuffer(flat.tobytes(), np.uint8).reshape(-1, flat.dtype.itemsize).T
    return {"kind": _KINDS[flat.dtype.str[1:]], "data": _compressed(planes.tobytes())}


def script_json(value: Any) -> str:
    """JSON in ASCII that can stand in a script element whatever its strings hold.

    `<` is escaped, or a string could close the element. So is everything that is not ASCII, lone
    surrogates and U+2028 included. NaN and infinity are not JSON and raise ValueError.
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _compressed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, _LEVEL)).decode("ascii")
