"""Columns and JSON as text in an HTML file."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator.report.packing import pack_column, script_json

NASTY = "<script>window.hacked=1</script></style>\"'&{{}}\u2028\u202e" + "x" * 90


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.float32, np.float64])
def test_packed_arrays_come_back(dtype: Any) -> None:
    array: NDArray[Any] = np.random.default_rng(0).uniform(0, 250, (7, 3)).astype(dtype)
    packed = pack_column(array)
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), np.uint8)
    back = planes.reshape(array.itemsize, -1).T.tobytes()
    np.testing.assert_array_equal(np.frombuffer(back, dtype), array.ravel())
    assert len(pack_column(array[:0])["data"]) > 0


def test_json_cannot_leave_its_element() -> None:
    text = script_json([NASTY, "\udce9", "<!--"])
    assert not set("<>&\u2028") & set(text)
    assert text.isascii()
    assert json.loads(text) == [NASTY, "\udce9", "<!--"]
    with pytest.raises(ValueError, match="JSON compliant"):
        script_json(float("nan"))


def test_packed_strings_come_back_with_what_is_missing() -> None:
    packed = pack_column([NASTY, None, "\udce9", ""])
    assert packed["kind"] == "strings"
    text = zlib.decompress(base64.b64decode(packed["data"])).decode("ascii")
    assert json.loads(text) == [NASTY, None, "\udce9", ""]


def test_integers_are_packed_as_uint32() -> None:
    packed = pack_column(np.array([0, 7, 2**32 - 1]))
    assert packed["kind"] == "Uint32Array"
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), np.uint8)
    back = np.frombuffer(planes.reshape(4, -1).T.tobytes(), np.uint32)
    assert back.tolist() == [0, 7, 2**32 - 1]
