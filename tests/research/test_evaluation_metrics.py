"""The criteria on hand-made arrays, beside what scipy and a count by hand give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from gmvaluator.errors import InputError
from gmvaluator.evaluation import metrics

LABELS = np.array([["a", "a", "b"], ["b", "a", "a"], ["a", "b", "c"]], dtype=object)
DRAWN = np.array(["a", "b", "d"], dtype=object)


def test_class_ratio_counts_the_first_k() -> None:
    np.testing.assert_allclose(metrics.class_ratio(LABELS, DRAWN), [2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(metrics.class_ratio(LABELS, DRAWN, 1), [1, 1, 0])
    np.testing.assert_allclose(metrics.class_ratio(LABELS, DRAWN, 2), [1, 0.5, 0])


@pytest.mark.parametrize("k", [0, 4])
def test_k_out_of_reach_is_refused(k: int) -> None:
    with pytest.raises(InputError, match=rf"k={k} of 3 contributors; pass 1 ≤ k ≤ 3"):
        metrics.class_ratio(LABELS, DRAWN, k)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"pass \(m, k\) and \(m,\)"):
        metrics.class_ratio(LABELS, DRAWN[:2])


def test_weighted_share_follows_the_scores() -> None:
    scores = np.array([[0.5, 0.25, 0.25], [0.1, 0.0, 0.3], [0.0, 0.0, 0.0]])
    share = metrics.weighted_class_share(LABELS, DRAWN, scores)
    np.testing.assert_allclose(share, [0.75, 0.25, np.nan])
    equal = metrics.weighted_class_share(LABELS, DRAWN, np.ones((3, 3)))
    np.testing.assert_allclose(equal, metrics.class_ratio(LABELS, DRAWN))


def test_attributes_must_agree_together() -> None:
    tone = np.array([[1, 1, 2], [2, 2, 1]])
    kind = np.array([["x", "y", "x"], ["x", "x", "y"]], dtype=object)
    drawn = [np.array([1, 2]), np.array(["x", "y"], dtype=object)]
    np.testing.assert_allclose(metrics.attribute_ratio([tone], drawn[:1]), [2 / 3, 2 / 3])
    np.testing.assert_allclose(metrics.attribute_ratio([tone, kind], drawn), [1 / 3, 0])
    np.testing.assert_allclose(metrics.attribute_ratio([tone, kind], drawn, 1), [1, 0])
    with pytest.raises(InputError, match="1 attributes of contributors and 2 of generated"):
        metrics.attribute_ratio([tone], drawn)


def test_chance_is_what_random_contributors_reach() -> None:
    train = np.array(["a"] * 60 + ["b"] * 30 + ["c"] * 10, dtype=object)
    drawn = np.array(["a", "b", "d", "a"], dtype=object)
    assert metrics.chance_ratio(train, drawn) == pytest.approx((0.6 + 0.3 + 0 + 0.6) / 4)


values = arrays(np.float64, st.integers(2, 20), elements=st.integers(0, 5).map(float))


@given(values, st.randoms(use_true_random=False))
def test_auroc_equals_counting_pairs(numbers: NDArray[np.float64], random: object) -> None:
    chosen = np.arange(len(numbers)) % 2 == 0
    pairs = [
        1.0 if high > low else 0.5 if high == low else 0.0
        for high in numbers[chosen]
        for low in numbers[~chosen]
    ]
    assert metrics.auroc(numbers, chosen) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert metrics.auroc(-numbers, chosen) == pytest.approx(1 - np.mean(pairs), abs=1e-12)


def test_auroc_needs_both_kinds() -> None:
    with pytest.raises(InputError, match="3 positives and 0 negatives"):
        metrics.auroc([1.0, 2.0, 3.0], [True, True, True])


def test_ranks_share_ties() -> None:
    np.testing.assert_array_equal(metrics.average_ranks([5.0, 1.0, 5.0, 0.0]), [1.5, 3, 1.5, 4])


def test_mean_interval_is_students() -> None:
    samples = [0.9, 0.91, 0.95]
    found = metrics.mean_interval(samples)
    low, high = stats.t.interval(0.95, 2, np.mean(samples), stats.sem(samples))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(samples), low, high))
    single = metrics.mean_interval([0.5])
    assert single.mean == 0.5
    assert np.isnan(single.low)
    with pytest.raises(InputError, match="no repetition"):
        metrics.mean_interval([])


def test_welch_equals_its_formula_and_goes_below_the_underflow_of_p() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.3, 1, 80), rng.normal(0, 2, 50)
    found = metrics.welch_test(first, second)
    errors = first.var(ddof=1) / 80, second.var(ddof=1) / 50
    t = (first.mean() - second.mean()) / np.sqrt(sum(errors))
    freedom = sum(errors) ** 2 / (errors[0] ** 2 / 79 + errors[1] ** 2 / 49)
    assert found.t == pytest.approx(t, rel=1e-12)
    assert found.log10_p == pytest.approx(np.log10(2 * stats.t.sf(abs(t), freedom)), rel=1e-12)
    pooled = (79 * first.var(ddof=1) + 49 * second.var(ddof=1)) / 128
    assert found.effect == pytest.approx((found.means[0] - found.means[1]) / np.sqrt(pooled))
    far = metrics.welch_test(rng.normal(9, 1, 5000), rng.normal(0, 1, 5000))
    assert far.log10_p < -400
    assert far.effect == pytest.approx(9, abs=0.3)
    with pytest.raises(InputError, match="all values of both groups are equal"):
        metrics.welch_test([1.0, 1.0], [1.0, 1.0])


def test_rank_correlation_equals_scipy() -> None:
    rng = np.random.default_rng(1)
    first = rng.integers(0, 5, 40).astype(float)
    second = first + rng.normal(0, 2, 40)
    wanted = stats.spearmanr(first, second).statistic
    assert metrics.rank_correlation(first, second) == pytest.approx(wanted)
    assert np.isnan(metrics.rank_correlation(first, np.ones(40)))


def test_overlap_counts_common_contributors() -> None:
    first, second = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 1, 9], [6, 5, 4]])
    np.testing.assert_allclose(metrics.contributor_overlap(first, second), [2 / 3, 1])


def test_perplexity_of_equal_and_single_shares() -> None:
    scores = np.array([[0.25, 0.25, 0.25, 0.25], [0.7, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(metrics.perplexity(scores), [4, 1, np.nan])
