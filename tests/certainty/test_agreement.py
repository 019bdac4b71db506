"""Agreement of two valuations, beside scipy and beside counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gmvaluator.certainty.agreement import (
    common_top,
    rank_correlation,
    rank_correlations,
    same_label,
)
from gmvaluator.errors import InputError


def test_rank_correlations_equal_scipy_column_by_column() -> None:
    random = np.random.default_rng(0)
    first = random.integers(0, 6, (30, 7)).astype(float)
    second = first + random.normal(0, 3, (30, 7))
    by_scipy = [stats.spearmanr(a, b).statistic for a, b in zip(first.T, second.T, strict=True)]
    np.testing.assert_allclose(rank_correlations(first, second), by_scipy, rtol=0, atol=1e-12)
    alone = rank_correlation(first[:, 3], second[:, 3])
    assert alone == pytest.approx(by_scipy[3], abs=1e-12)


def test_a_constant_column_has_no_rank_correlation() -> None:
    column = np.arange(5.0)
    both = rank_correlations(np.stack([column, column], 1), np.stack([column, np.ones(5)], 1))
    np.testing.assert_array_equal(both, [1.0, np.nan])


def test_common_top_of_fewer_images_than_asked() -> None:
    assert common_top([1, 2, 3], [3, 1, 2], 50) == 1
    assert common_top([1, 2, 3, 0], [3, 1, 2, 0], 2) == 0.5


def test_equal_values_count_in_the_order_of_the_images() -> None:
    assert common_top([1, 1, 1, 0], [0, 1, 1, 1], 2) == 0.5


def test_same_label_looks_at_the_first_k() -> None:
    labels, drawn = np.array([["a", "b", "a"], ["b", "b", "a"]]), np.array(["a", "b"])
    np.testing.assert_array_equal(same_label(labels, drawn, 2), [[True, False], [True, True]])
    with pytest.raises(InputError, match=r"k=4 of 3 contributors; pass 1 ≤ k ≤ 3"):
        same_label(labels, drawn, 4)
