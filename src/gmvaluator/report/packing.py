"""Tables inside an HTML file: compressed columns for a script to open, and JSON that cannot
leave its element.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

# the script knows these names of typed arrays
_KINDS = {"u1": "Uint8Array", "u2": "Uint16Array", "u4": "Uint32Array", "f4": "Float32Array"}
_KINDS |= {"f8": "Float64Array", "i4": "Int32Array"}
_LEVEL = 6
T = TypeVar("T")


def pack_array(array: NDArray[Any]) -> dict[str, str]:
    """A flat array as text: its kind, and base64 of its zlib-compressed byte planes.

    Bytes of equal weight come one after the other, as they repeat more than whole numbers do;
    little-endian.
    """
    flat = np.ascontiguousarray(array).ravel()
    flat = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    planes = np.frombuffer(flat.tobytes(), np.uint8).reshape(-1, flat.dtype.itemsize).T
    packed = zlib.compress(planes.tobytes(), _LEVEL)
    return {"kind": _KINDS[flat.dtype.str[1:]], "data": base64.b64encode(packed).decode("ascii")}


def pack_strings(strings: Sequence[str]) -> dict[str, str]:
    """A list of strings as text, compressed JSON; any string, lone surrogates included."""
    text = json.dumps(list(strings), separators=(",", ":"))
    packed = zlib.compress(text.encode("ascii"), _LEVEL)
    return {"kind": "strings", "data": base64.b64encode(packed).decode("ascii")}


def pack_rows(rows: NDArray[np.int64]) -> dict[str, str]:
    """Row numbers, ≥ 0, below 2³²."""
    return pack_array(rows.astype(np.uint32))


def codes_of(cells: Sequence[T]) -> tuple[tuple[T, ...], NDArray[np.int64]]:
    """The distinct cells in the order of their appearance, and the place of each cell in them."""
    places: dict[T, int] = {}
    codes = np.array([places.setdefault(cell, len(places)) for cell in cells], dtype=np.int64)
    return tuple(places), codes


def script_json(value: Any) -> str:
    """JSON in ASCII that can stand in a script element whatever its strings hold.

    `<` is escaped, or a string could close the element; all that is not ASCII is, lone surrogates
    and U+2028 included. NaN and infinity are no JSON and raise ValueError.
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
