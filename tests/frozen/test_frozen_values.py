"""Values of real digits are those that were recorded before the package was rebuilt.

The last bits of a valuation depend on the processor and on the libraries. `arithmetic.json` says
what computed the recorded ones. Where this machine computes alike, `test_values_to_the_bit`
compares bit for bit; elsewhere it is skipped and says what differs. `test_values_nearly` compares
everywhere.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frozen.frozen_shapes import with_shared_ranks
from frozen.frozen_values import (
    ARITHMETIC,
    SETTINGS,
    TOLD,
    VALUES,
    Arrays,
    arithmetic,
    measure,
    read_digits,
)

RTOL, ATOL = 1e-4, 1e-5
SAME_CONTRIBUTORS = 0.99
"""Share of the generated images' contributors that other arithmetic may not change."""
# what holds whatever the last bits are
EXACT = ("train_ids", "generated_ids", "train_keys", "inputs")


class Measured:
    """Valuations by the name of their settings, each made once, of one cache."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digits = read_digits()
        self._made: dict[str, tuple[Arrays, dict[str, Any]]] = {}

    def __call__(self, name: str) -> tuple[Arrays, dict[str, Any]]:
        if name not in self._made:
            self._made[name] = measure(name, self._digits, self._folder)
        return self._made[name]


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return Measured(tmp_path_factory.mktemp("frozen-cache"))


@cache
def recorded() -> dict[str, tuple[Arrays, dict[str, Any]]]:
    """Recorded arrays, and what the record told, by the name of the settings."""
    told = json.loads(TOLD.read_text(encoding="utf-8"))
    arrays: dict[str, Arrays] = {name: {} for name in told}
    with np.load(VALUES) as kept:
        for path in kept.files:
            name, array = path.split("/")
            arrays[name][array] = kept[path]
    return {name: (arrays[name], told[name]) for name in told}


@cache
def other_arithmetic() -> str:
    """How this machine computes otherwise than the one that recorded; empty where it does not."""
    then, now = json.loads(ARITHMETIC.read_text(encoding="utf-8")), arithmetic()
    return ", ".join(name for name in then if then[name] != now.get(name))


def test_every_setting_is_recorded() -> None:
    assert set(recorded()) == set(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_values_to_the_bit(name: str, measured: Measured) -> None:
    if other_arithmetic():
        pytest.skip(f"compared nearly only: recorded with other arithmetic ({other_arithmetic()})")
    (arrays, told), (now, told_now) = recorded()[name], measured(name)
    assert told_now == told
    assert now.keys() == arrays.keys()
    for array, kept in arrays.items():
        if array == "ranks":
            kept = with_shared_ranks(kept, arrays["values"])
        if array != "contributors":
            assert now[array].dtype == kept.dtype, array
        assert np.array_equal(now[array], kept), array


@pytest.mark.parametrize("name", SETTINGS)
def test_values_nearly(name: str, measured: Measured) -> None:
    (arrays, told), (now, told_now) = recorded()[name], measured(name)
    assert {key: told_now[key] for key in EXACT} == {key: told[key] for key in EXACT}
    assert {*now} == {*arrays}
    alike = [
        len(set(one) & set(other)) / len(one)
        for one, other in zip(now["contributors"], arrays["contributors"], strict=True)
    ]
    assert np.mean(alike) >= SAME_CONTRIBUTORS
    assert np.allclose(now["quality"], arrays["quality"], rtol=RTOL, atol=ATOL)
    # where a contributor changed, values of two training images did
    same = [
        set(one) == set(other)
        for one, other in zip(now["contributors"], arrays["contributors"], strict=True)
    ]
    if all(same):
        assert np.allclose(now["values"], arrays["values"], rtol=RTOL, atol=ATOL)
    else:
        assert np.allclose(now["values"].sum(), arrays["values"].sum(), rtol=RTOL)
        assert np.corrcoef(now["values"], arrays["values"])[0, 1] > 0.999
