"""Ranks that equal values share, and lists of low values that no group of equals is cut by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gmvaluator.runs.ranking import equally_low, idle_text, shared_ranks

FEW = st.lists(st.sampled_from([-1.0, 0.0, -0.0, 0.5, 2.0]), min_size=1, max_size=12)


@given(values=FEW)
def test_a_rank_is_one_more_than_the_number_of_higher_values(values: list[float]) -> None:
    found = shared_ranks(np.array(values))
    assert found.tolist() == [1 + sum(other > value for other in values) for value in values]


@given(values=FEW, data=st.data())
def test_equal_images_are_listed_all_or_none(values: list[float], data: st.DataObject) -> None:
    distances = st.sampled_from([0.1, 0.2, np.nan])
    n = len(values)
    nearest = np.array(data.draw(st.lists(distances, min_size=n, max_size=n)), dtype=np.float32)
    wanted = data.draw(st.integers(0, n))
    rows, equal = equally_low(np.array(values), nearest, wanted)
    far = np.where(np.isnan(nearest), np.inf, nearest)
    keys = [(value, -distance) for value, distance in zip(values, far.tolist(), strict=True)]
    assert [keys[row] for row in rows] == sorted(keys)[: len(rows)]
    assert len(rows) >= wanted
    if wanted:
        last = sorted(keys)[wanted - 1]
        assert set(rows) == {row for row in range(n) if keys[row] <= last}
        assert equal == keys.count(last)


def test_order_of_names_decides_nothing() -> None:
    values = np.array([0, 0, 0, 0, 0.5])
    nearest = np.array([0.3, 0.1, np.nan, 0.2, 0.1], dtype=np.float32)
    rows, equal = equally_low(values, nearest, 2)
    assert (rows.tolist(), equal) == ([2, 0], 1)
    rows, equal = equally_low(values, None, 2)
    assert (rows.tolist(), equal) == ([0, 1, 2, 3], 4)


@pytest.mark.parametrize(
    ("supported", "text"),
    [
        ([2, 1, 3], ""),
        (
            [2, 0, 3],
            "1 of 3 training images contributed to nothing: its value is 0, and its rank is 3",
        ),
        (
            [2, *[0] * 1999],
            "1,999 of 2,000 training images contributed to nothing: their value is 0, and they "
            "share rank 2",
        ),
    ],
)
def test_images_without_a_part_are_counted(supported: list[int], text: str) -> None:
    counts: NDArray[np.int64] = np.array(supported)
    assert idle_text(counts, shared_ranks(counts.astype(np.float64))) == text
