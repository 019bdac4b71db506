"""How value is spread."""

from __future__ import annotations

import numpy as np
import pytest

from gmvaluator.runs.distribution import Concentration, histogram


def test_concentration_agrees_with_sorting_by_hand() -> None:
    values = np.random.default_rng(1).pareto(2.0, 1000)
    curve = Concentration(values)
    assert curve.held_by(0.1) == pytest.approx(np.sort(values)[-100:].sum() / values.sum())
    assert curve.held_by(0.0) == 0.0
    assert curve.held_by(1.0) == pytest.approx(1.0)
    points = curve.points()
    np.testing.assert_allclose(points[[0, -1]], [[0, 0], [1, 1]])
    assert (np.diff(points, axis=0) >= 0).all()
    assert Concentration(np.array([1.0, 0.0, 0.0])).n_zero == 2
    assert Concentration(np.zeros(3)).held_by(1.0) == 0.0
    # of few images the top is one of them, and is called what it is
    few = Concentration(np.array([3.0, *[1.0] * 39]))
    assert few.named(0.01) == "top 2.5 %"
    assert few.held_by(0.01) == pytest.approx(3 / 42)
    assert [curve.named(top) for top in (0.01, 0.1, 0.5)] == ["top 1 %", "top 10 %", "top 50 %"]
    assert Concentration(np.array([2.0])).named(0.5) == "top 100 %"


@pytest.mark.parametrize("power", [0, 1, 6, 40])
def test_a_histogram_counts_every_positive_value_once(power: int) -> None:
    values = np.random.default_rng(2).uniform(0.1, 1, 500) ** power
    values[:50] = 0
    counted = histogram(values)
    assert counted is not None
    assert counted.counts.sum() == 450
    assert counted.log_values == (power > 2)
    assert histogram(np.zeros(4)) is None
