"""How value is distributed over training images."""

from __future__ import annotations

import numpy as np
import pytest

from gmvaluator.runs.distribution import Concentration, histogram, n_below


def test_concentration_agrees_with_sorting_by_hand() -> None:
    values = np.random.default_rng(1).pareto(2.0, 1000)
    curve = Concentration(values)
    assert curve.held_by(0.1) == pytest.approx(np.sort(values)[-100:].sum() / values.sum())
    assert curve.held_by(0.0) == 0.0
    assert curve.held_by(1.0) == pytest.approx(1.0)
    points = curve.points()
    np.testing.assert_allclose(points[[0, -1]], [[0, 0], [1, 1]])
    assert (np.diff(points, axis=0) >= 0).all()
    assert len(points) <= 800
    assert Concentration(np.array([1.0, 0.0, 0.0])).n_zero == 2
    assert Concentration(np.zeros(3)).held_by(1.0) == 0.0


def test_the_top_of_few_images_has_the_name_of_its_size() -> None:
    few = Concentration(np.array([3.0, *[1.0] * 39]))
    assert few.named(0.01) == "top 2.5 %"
    assert few.held_by(0.01) == pytest.approx(3 / 42)
    many = Concentration(np.ones(1000))
    assert [many.named(top) for top in (0.01, 0.1, 0.5)] == ["top 1 %", "top 10 %", "top 50 %"]
    assert Concentration(np.array([2.0])).named(0.5) == "top 100 %"
    assert [few.count(top) for top in (0.0, 0.001, 0.1, 1.0)] == [0, 1, 4, 40]


@pytest.mark.parametrize("power", [0, 1, 6, 40])
def test_a_histogram_counts_every_positive_value_once(power: int) -> None:
    values = np.random.default_rng(2).uniform(0.1, 1, 500) ** power
    values[:50] = 0
    counted = histogram(values)
    assert counted is not None
    assert counted.counts.sum() == 450
    assert counted.log_values == (power > 2)
    assert (np.diff(counted.edges) > 0).all()
    assert counted.edges[-1] == values.max()
    assert histogram(np.zeros(4)) is None


def test_counts_that_differ_much_ask_for_a_logarithmic_axis() -> None:
    even = histogram(np.array([1.0, 2.0, 3.0]))
    lone = histogram(np.array([*[1.0] * 500, 2.0]))
    assert even is not None
    assert lone is not None
    assert (even.log_counts, lone.log_counts) == (False, True)


def test_values_below_0_are_counted() -> None:
    assert n_below(np.array([-1.0, 0.0, 0.5, -1e-12])) == 2
