"""Long arrays of a safetensors file are mapped, short ones read, and damage is an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from gmvaluator.files.mapped import map_arrays


def test_arrays_are_those_that_were_saved(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    saved = {
        "long": random.normal(size=(600, 512)).astype(np.float32),
        "odd": random.integers(0, 256, 1_300_001, np.uint8),
        "order": np.arange(7),
        "number": np.array(2.5),
        "empty": np.empty((0, 3), np.float32),
    }
    save_file(saved, tmp_path / "arrays.safetensors")
    mapped = map_arrays(tmp_path / "arrays.safetensors")
    assert mapped.keys() == saved.keys()
    for name, array in saved.items():
        np.testing.assert_array_equal(mapped[name], array)
        assert mapped[name].dtype == array.dtype
        assert isinstance(mapped[name], np.memmap) == (name in ("long", "odd"))


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_cut_file_is_an_error(kept: int, tmp_path: Path) -> None:
    file = tmp_path / "arrays.safetensors"
    save_file({"long": np.zeros((600, 512), np.float32)}, file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises((SafetensorError, OSError, ValueError)):
        map_arrays(file)
