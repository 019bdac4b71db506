"""Weighting expected-rank: its formula, its laws, and the dimension that it reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from gmvaluator import GMValuator, InputError, Valuation
from gmvaluator.engine.train import LEAST_DIMENSION
from gmvaluator.geometry import intrinsic_dimension
from gmvaluator.matching.rerank import Contributors
from gmvaluator.scoring.scores import contribute
from gmvaluator.scoring.weightings import WEIGHTINGS, Remaining
from gmvaluator.scoring.weightings.expected_rank import LEAST_ADDED, ExpectedRank

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]
SMALL: dict[str, Any] = {
    "encoder": "pixels@8",
    "rerank": "none",
    "quality": "none",
    "null": "off",
    "weighting": "expected-rank",
    "k": 8,
    "candidates": 20,
    "cache": False,
}
rows_of = arrays(np.float32, (2, 5), elements=st.integers(0, 60).map(float)).map(
    lambda each: np.sort(each, axis=1)
)
weights_of = arrays(np.float64, (2, 5), elements=st.integers(0, 9).map(float))


def of(distances: NDArray[np.float32], ridge: NDArray[np.float64]) -> Contributors:
    rows = np.tile(np.arange(distances.shape[1]), (len(distances), 1))
    return Contributors(rows, distances, distances.shape[1], ridge=ridge)


def test_shares_fall_with_the_expected_rank() -> None:
    distances = np.array([[1.0, 2.0, 3.0]], np.float32)
    ridge = np.array([[4.0, 1.0, 0.0]])
    dimension, temperature = 5.0, 0.5
    rank = np.array([1.0, 2.0**dimension, 3.0**dimension])
    wanted = rank ** (-1 / temperature) * (np.array([1.0, 0.25, 0.0]) + LEAST_ADDED)
    shares = ExpectedRank().shares(of(distances, ridge), temperature / dimension)
    np.testing.assert_allclose(shares[0], wanted / wanted.sum())


@given(rows_of, weights_of)
def test_shares_have_no_unit_and_sum_to_one(
    distances: NDArray[np.float32], ridge: NDArray[np.float64]
) -> None:
    weighting = WEIGHTINGS["expected-rank"]
    shares = weighting.shares(of(distances, ridge), 0.1)
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(weighting.shares(of(4 * distances, 3 * ridge), 0.1), shares)


@given(rows_of, weights_of, st.sampled_from([0.03, 0.2, 2.0, "auto"]))
def test_another_temperature_needs_the_recorded_scores_alone(
    distances: NDArray[np.float32], ridge: NDArray[np.float64], after: Any
) -> None:
    weighting = WEIGHTINGS["expected-rank"]
    contributors = of(distances, ridge)
    recorded = weighting.shares(contributors, 0.1) * 0.5
    np.testing.assert_allclose(
        weighting.reshared(distances, recorded, 0.1, after),
        weighting.shares(contributors, after),
        rtol=1e-9,
        atol=1e-300,
    )


def test_a_copy_gets_nearly_all_and_copies_of_it_share() -> None:
    weighting = WEIGHTINGS["expected-rank"]
    distances = np.array([[1e-7, 1.0, 1.1], [0.0, 1e-8, 1.0]], np.float32)
    shares = weighting.shares(of(distances, np.ones((2, 3))), 0.1)
    assert shares[0, 0] > 0.999
    # what rounding keeps apart is equally near
    np.testing.assert_allclose(shares[1, :2], 0.5, atol=1e-6)


def test_who_says_what_others_say_gets_less(digits: Digits) -> None:
    """Three near copies of one neighbour share about as much as the neighbour alone would get."""
    train = digits[0][:60].copy()
    generated = digits[0][60:61]
    single = GMValuator(**SMALL).fit(train).value(generated)
    best = int(single.contributions.rows[0, 0])
    copies = [train[best], np.clip(train[best].astype(int) + 1, 0, 255).astype(np.uint8)]
    many = GMValuator(**SMALL).fit(np.concatenate([train, copies])).value(generated)
    together = many.values[[best, 60, 61]].sum()
    by_softmax = GMValuator(**(SMALL | {"weighting": "softmax", "temperature": "spacing"}))
    before = by_softmax.fit(train).value(generated).values[best]
    after = by_softmax.fit(np.concatenate([train, copies])).value(generated).values[[best, 60, 61]]
    assert together < 1.6 * single.values[best]
    assert together / single.values[best] < after.sum() / before


def test_contributors_are_listed_by_share(digits: Digits) -> None:
    valuation = GMValuator(**SMALL).fit(digits[0][:60]).value(digits[0][60:80])
    scores, distances = valuation.contributions.scores, valuation.contributions.distances
    assert (np.diff(scores, axis=1) <= 0).all()
    assert (np.diff(distances, axis=1) < 0).any()


def test_the_temperature_is_divided_by_the_dimension(digits: Digits) -> None:
    settings = GMValuator(**SMALL).fit(digits[0][:60]).value(digits[0][60:62]).record.settings
    assert settings.temperature == 0.7
    assert settings.dimension_used is not None
    assert settings["temperature_used"] == pytest.approx(0.7 / settings.dimension_used)


@pytest.mark.parametrize("dimension", [2, 6, 12])
def test_the_dimension_of_points_in_a_cube(dimension: int) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(size=(20_000, dimension))
    found = []
    for point in points[:200]:
        distances = np.sort(np.linalg.norm(points - point, axis=1))[1:21]
        found.append(intrinsic_dimension(distances))
    # faces of the cube lower what is found in many dimensions
    assert 0.7 * dimension < np.median(np.asarray(found, float)) < 1.15 * dimension


def test_neighbours_that_tell_no_dimension() -> None:
    assert intrinsic_dimension(np.array([1.0, 2.0])) is None
    assert intrinsic_dimension(np.array([2.0, 2.0, 2.0])) is None


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_small_sets(digits: Digits, n: int) -> None:
    settings = SMALL | {"k": None, "candidates": None}
    valuation = GMValuator(**settings).fit(digits[0][:n]).value(digits[0][10:12])
    np.testing.assert_allclose(valuation.values.sum(), 2)
    if n < 4:
        assert valuation.record.settings.dimension_used == LEAST_DIMENSION


def test_twins_do_not_set_the_dimension(digits: Digits) -> None:
    darker = np.arange(1, 26)[:, None, None, None] / 40
    twins = (digits[0][:8] * (1 - darker)).astype(np.uint8).reshape(-1, 28, 28)
    valuation = GMValuator(**SMALL).fit(twins).value(digits[0][10:12])
    assert valuation.record.settings.dimension_used == LEAST_DIMENSION


def test_mirrored_sources_are_seen(digits: Digits) -> None:
    train = digits[0][:60]
    mirrored = train[:6, :, ::-1]
    valuation = GMValuator(**SMALL, mirror=True).fit(train).value(mirrored)
    np.testing.assert_array_equal(valuation.contributions.rows[:, 0], np.arange(6))
    assert (valuation.contributions.scores[:, 0] > 0.95).all()


def test_a_withdrawal_shares_what_is_recorded() -> None:
    weighting = WEIGHTINGS["expected-rank"]
    contributors = of(np.array([[1.0, 1.2, 1.5]], np.float32), np.array([[1.0, 0.5, 0.2]]))
    scores = weighting.shares(contributors, 0.1)
    stays = np.array([[False, True, True]])
    resettled = weighting.resettle(Remaining(contributors.distances, scores, stays), 0.1)
    np.testing.assert_allclose(resettled[0, 1:], scores[0, 1:] / scores[0, 1:].sum())
    # a score too small to divide by: the ranks decide
    faint = np.array([[1.0, 1e-250, 1e-260]])
    by_rank = weighting.resettle(Remaining(contributors.distances, faint, stays), 0.1)
    assert by_rank[0, 1] == pytest.approx(1 / (1 + (1.5 / 1.2) ** -10))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(InputError, match="temperature spacing/5 is a distance"):
        GMValuator(**SMALL, temperature="spacing/5")
    bare = replace(of(np.ones((1, 3), np.float32), np.ones((1, 3))), ridge=None)
    with pytest.raises(InputError, match="no ridge weights"):
        contribute(bare, np.ones(1), "expected-rank", 0.1)


def test_a_run_is_weighed_again_at_another_temperature(digits: Digits, tmp_path: Path) -> None:
    fit = GMValuator(**SMALL).fit(digits[0][:60])
    fit.value(digits[0][60:70]).save(tmp_path / "run")
    recorded = Valuation.load(tmp_path / "run")
    sharper = GMValuator(**SMALL, temperature=0.2).fit(digits[0][:60]).value(digits[0][60:70])
    again = recorded.reweigh(temperature=0.2)
    np.testing.assert_allclose(again.values, sharper.values, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(again.contributions.rows, sharper.contributions.rows)
    assert dict(again.record.settings) == dict(sharper.record.settings)
    # shares by distances forget what each adds
    soft = recorded.reweigh(weighting="softmax", temperature=0.5)
    assert soft.record.settings.dimension_used is None
    assert (np.diff(soft.contributions.distances, axis=1) >= 0).all()
    with pytest.raises(InputError, match="leave k out"):
        recorded.reweigh(k=3)
    with pytest.raises(InputError, match="reads vectors"):
        soft.reweigh(weighting="expected-rank")
