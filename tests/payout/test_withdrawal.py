"""A withdrawal is the valuation of the recorded contributors that remain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gmvaluator.payout.withdrawal import withdraw
from gmvaluator.scoring.scores import Contributions
from gmvaluator.scoring.weightings import recorded_weighting
from gmvaluator.scoring.weightings.shapley import shapley_weights
from gmvaluator.scoring.weightings.softmax import softmax_weights
from run_makers import made_valuation


@pytest.mark.parametrize("weighting", ["softmax", "shapley"])
def test_those_that_remain_weigh_as_if_they_were_all(weighting: str) -> None:
    valuation = made_valuation(n=9, m=60, k=5, weighting=weighting)
    whole = valuation.contributions
    gone = np.zeros(9, dtype=bool)
    gone[[1, 4, 5, 7]] = True
    found = withdraw(whole, gone, weighting=weighting)
    for j in range(60):
        stays = ~gone[whole.rows[j]]
        distances = whole.distances[j, stays][None]
        beyond = whole.distances[j, -1:] + np.float32(0.1)
        assert stays.any()
        alone = (
            softmax_weights(distances, 1.0)
            if weighting == "softmax"
            else shapley_weights(distances, beyond)
        )
        expected = np.zeros(5)
        expected[stays] = valuation.quality[j] * alone[0]
        np.testing.assert_allclose(found.contributions.scores[j], expected, atol=1e-7)
    assert not found.released.any()


@pytest.mark.parametrize("weighting", ["softmax", "shapley", "ridge", "global-ridge", ""])
def test_what_is_shared_stays_the_same(weighting: str) -> None:
    made = made_valuation(n=5, m=40, k=3, seed=2).contributions
    gone = np.array([True, True, True, False, False])
    found = withdraw(made, gone, weighting=weighting)
    left = (~gone[made.rows]).any(axis=1)
    assert left.any()
    assert not left.all()
    sums = found.contributions.scores.sum(axis=1)
    np.testing.assert_allclose(sums + found.released, made.scores.sum(axis=1), rtol=1e-12)
    assert not found.released[left].any()
    assert not sums[~left].any()
    assert not found.contributions.scores[gone[made.rows]].any()
    assert (found.contributions.scores >= 0).all()
    # images that lose nobody keep their scores to the last bit
    whole = ~gone[made.rows].any(axis=1)
    np.testing.assert_array_equal(found.contributions.scores[whole], made.scores[whole])


def test_nobody_leaves_and_nothing_changes() -> None:
    made = made_valuation().contributions
    found = withdraw(made, np.zeros(6, dtype=bool), weighting="softmax")
    np.testing.assert_array_equal(found.contributions.scores, made.scores)


def far_behind(second: float, third: float) -> Contributions:
    distances = np.array([[0, second, third]], dtype=np.float32)
    return Contributions(np.array([[0, 1, 2]]), distances, softmax_weights(distances, 0.01), 3)


@pytest.mark.parametrize("distances", [(8.0, 8.01), (7.3, 7.31)])
def test_weights_that_vanished_beside_a_copy_come_back(distances: tuple[float, float]) -> None:
    made = far_behind(*distances)
    assert made.scores[0, 1] < 1e-300
    gone = np.array([True, False, False])
    found = withdraw(made, gone, weighting="softmax", temperature=0.01)
    expected = softmax_weights(made.distances[:, 1:], 0.01)
    np.testing.assert_allclose(found.contributions.scores[0, 1:], expected[0], rtol=1e-12)


def test_equally_near_contributors_share_by_the_coverage_game() -> None:
    distances = np.full((1, 3), 2, dtype=np.float32)
    made = Contributions(np.array([[0, 1, 2]]), distances, np.full((1, 3), 1 / 3), 3)
    found = withdraw(made, np.array([False, True, False]), weighting="shapley")
    np.testing.assert_allclose(found.contributions.scores, [[0.5, 0, 0.5]])


def test_coverage_without_quality_stays_nothing() -> None:
    made = made_valuation(weighting="shapley", quality=np.zeros(4)).contributions
    found = withdraw(made, np.arange(6) == 0, weighting="shapley")
    assert not found.contributions.scores.any()
    assert not found.released.any()


def test_weightings_say_what_a_withdrawal_is() -> None:
    assert recorded_weighting("softmax").withdrawal.startswith(
        "exact within the recorded contributors"
    )
    assert recorded_weighting("global-ridge").withdrawal == recorded_weighting("ridge").withdrawal
    assert recorded_weighting("ridge").withdrawal.startswith("an approximation")
    assert recorded_weighting("anything").withdrawal.startswith("an approximation")


def test_the_recorded_contributions_are_left_alone() -> None:
    made = made_valuation().contributions
    kept = replace(made, scores=made.scores.copy())
    withdraw(made, np.arange(6) < 3, weighting="softmax")
    np.testing.assert_array_equal(made.scores, kept.scores)
