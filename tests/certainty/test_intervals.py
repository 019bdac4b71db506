"""Laws of the bootstrap intervals, and what they hold in simulations with known truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import beta, binomtest

from gmvaluator import InputError
from gmvaluator.certainty.intervals import (
    SHARE_EXTRA,
    VALUE_EXTRA,
    bootstrap_interval,
    bootstrap_shares,
    effective_images,
    value_intervals,
)
from gmvaluator.scoring.scores import Contributions, sum_values


def drawn(m: int = 40, n: int = 30, k: int = 5, seed: int = 0) -> Contributions:
    """Sparse scores: low rows contribute often, high rows seldom, the last never."""
    random = np.random.default_rng(seed)
    chance = np.linspace(1, 0, n) ** 2
    rows = np.stack(
        [random.choice(n, size=k, replace=False, p=chance / chance.sum()) for _ in range(m)]
    )
    scores = random.dirichlet(np.full(k, 0.4), size=m) * random.uniform(0.2, 1, size=(m, 1))
    return Contributions(rows.astype(np.int64), np.zeros((m, k), np.float32), scores, n)


def by_group(m: int = 40, seed: int = 0) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    found = random.dirichlet([4, 1, 0.1, 0.01], size=m) * random.uniform(0.2, 1, size=(m, 1))
    return np.asarray(found, dtype=np.float64)


@pytest.mark.parametrize("level", [0.05, 0.5, 0.95, 0.999])
def test_intervals_contain_the_estimate_and_lie_in_range(level: float) -> None:
    scores, held = by_group(), drawn()
    shares, values = scores.sum(axis=0) / scores.sum(), sum_values(held)
    low, high = bootstrap_shares(scores, level=level, n_resamples=200)
    assert bool(np.all((low >= 0) & (low <= shares) & (shares <= high) & (high <= 1)))
    low, high = value_intervals(held, level=level)
    assert bool(np.all((low >= 0) & (low <= values) & (values <= high)))
    assert bool(np.all(high <= len(held.scores) * held.scores.max()))


def test_a_higher_level_is_wider() -> None:
    narrow, wide = (bootstrap_shares(by_group(), level=level) for level in (0.5, 0.95))
    assert bool(np.all((wide[0] <= narrow[0]) & (wide[1] >= narrow[1])))
    narrow, wide = (value_intervals(drawn(), level=level) for level in (0.5, 0.95))
    assert bool(np.all((wide[0] <= narrow[0]) & (wide[1] >= narrow[1])))


def test_seeds_reproduce() -> None:
    first, again, other = (bootstrap_shares(by_group(), seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_allclose(first, other, atol=0.02)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap_shares(by_group(), n_resamples=100)
    monkeypatch.setattr("gmvaluator.certainty.intervals.BLOCK", 250)
    np.testing.assert_allclose(bootstrap_shares(by_group(), n_resamples=100), whole)


def test_permuting_groups_permutes_and_scores_have_no_unit() -> None:
    scores, order = by_group(), np.array([2, 0, 3, 1])
    low, high = bootstrap_shares(scores, n_resamples=200)
    moved = bootstrap_shares(scores[:, order] * 7, n_resamples=200)
    np.testing.assert_allclose(moved, (low[order], high[order]))


def test_values_scale_with_scores_and_permute_with_training_images() -> None:
    held = drawn()
    low, high = value_intervals(held)
    scaled = value_intervals(replace(held, scores=held.scores / 4))
    np.testing.assert_allclose(scaled, (low / 4, high / 4))
    order = np.random.default_rng(1).permutation(held.n_train)
    moved = value_intervals(replace(held, rows=order[held.rows]))
    np.testing.assert_allclose((moved[0][order], moved[1][order]), (low, high))


def test_the_order_of_generated_images_changes_no_value() -> None:
    held = drawn()
    turned = np.random.default_rng(2).permutation(len(held.rows))
    again = replace(held, rows=held.rows[turned], scores=held.scores[turned])
    np.testing.assert_allclose(value_intervals(again), value_intervals(held))


def test_splitting_a_group_changes_no_other() -> None:
    scores = by_group()
    low, high = bootstrap_shares(scores)
    split = np.column_stack([scores[:, 0] / 2, scores[:, 0] / 2, scores[:, 1:]])
    again = bootstrap_shares(split)
    np.testing.assert_allclose((again[0][2:], again[1][2:]), (low[1:], high[1:]))


def test_more_of_the_same_images_are_more_certain() -> None:
    held = drawn()
    low, high = value_intervals(held)
    twice = replace(held, rows=np.tile(held.rows, (4, 1)), scores=np.tile(held.scores, (4, 1)))
    more_low, more_high = value_intervals(twice)
    assert bool(np.all((more_high - more_low) / 4 < 0.8 * (high - low)))


def test_all_or_nothing_is_near_clopper_and_pearson() -> None:
    """Their interval is that of one more image; here a part of it counts."""
    m, won = 60, 7
    rows = np.where(np.arange(m) < won, 0, 1)[:, None].astype(np.int64)
    held = Contributions(rows, np.zeros((m, 1), np.float32), np.ones((m, 1)), 3)
    exact = binomtest(won, m).proportion_ci(0.95, method="exact")
    scores = np.eye(2)[rows[:, 0]]
    values = [end / m for end in value_intervals(held)]
    shares = bootstrap_shares(scores, n_resamples=20_000)
    for (low, high), part, near in ((values, VALUE_EXTRA, 1e-9), (shares, SHARE_EXTRA, 0.005)):
        ends = beta.ppf([0.025, 0.975], [won, won + part], [m - won + part, m - won])
        np.testing.assert_allclose([low[0], high[0]], ends, atol=near)
        assert exact.low < ends[0] < won / m < ends[1] < exact.high
    np.testing.assert_allclose(values[1][2], beta.ppf(0.975, VALUE_EXTRA, m))
    # with a whole image it is theirs
    whole = beta.ppf([0.025, 0.975], [won, won + 1], [m - won + 1, m - won])
    np.testing.assert_allclose([exact.low, exact.high], whole)


def test_closed_form_is_what_resampling_gives() -> None:
    """The slow, obvious form: Dirichlet weights over the m images and a part of one more."""
    held = drawn()
    m, n = len(held.rows), held.n_train
    dense = np.zeros((m, n))
    np.add.at(dense, (np.arange(m)[:, None], held.rows), held.scores)
    parts = np.append(np.ones(m), VALUE_EXTRA)
    weights = np.random.default_rng(0).dirichlet(parts, size=8_000)
    best = np.maximum(dense.max(axis=0), held.scores.max(axis=1).mean())
    slow_low = m * np.quantile(weights[:, :-1] @ dense, 0.025, axis=0)
    slow_high = m * np.quantile(weights @ np.vstack([dense, best]), 0.975, axis=0)
    low, high = value_intervals(held)
    seen = dense.sum(axis=0) > 0
    width = slow_high - slow_low
    assert float(np.abs((low - slow_low) / width)[seen].max()) < 0.04
    assert float(np.abs((high - slow_high) / width)[seen].max()) < 0.08


def test_coverage_of_values_that_few_images_carry() -> None:
    """True means known; from one to thirty effective images of a hundred."""
    random = np.random.default_rng(0)
    m, n = 100, 40
    chance = np.linspace(0.02, 0.4, n)
    truth = m * chance * 0.5
    hits = np.zeros(n)
    for _ in range(150):
        scores = np.where(random.random((m, n)) < chance, random.random((m, n)), 0)
        rows = np.tile(np.arange(n), (m, 1))
        low, high = value_intervals(Contributions(rows, scores.astype(np.float32), scores, n))
        hits += (low <= truth) & (truth <= high)
    assert 0.92 <= hits.mean() / 150 <= 0.985


def test_coverage_of_shares() -> None:
    random = np.random.default_rng(0)
    alpha = np.array([5, 4, 0.9, 0.1])
    truth, hits = alpha / alpha.sum(), np.zeros(4)
    for seed in range(150):
        scores = random.dirichlet(alpha, size=60)
        largest = scores.max(axis=1) / 5
        low, high = bootstrap_shares(scores, largest=largest, n_resamples=250, seed=seed)
        hits += (low <= truth) & (truth <= high)
    assert 0.92 <= hits.mean() / 150 <= 0.985


def test_a_group_of_which_nothing_was_seen_has_an_upper_end() -> None:
    scores = np.column_stack([np.full(50, 0.5), np.full(50, 0.5), np.zeros(50)])
    low, high = bootstrap_shares(scores)
    assert low[2] == 0
    assert high[2] == pytest.approx(1 - 0.025 ** (1 / 50), abs=0.01)
    _, cautious = bootstrap_shares(scores, largest=np.full(50, 0.1))
    assert cautious[2] == pytest.approx(high[2] / 10, rel=0.05)


def test_a_part_of_nobody_is_one_more_column() -> None:
    scores = by_group()
    nobody = scores.sum(axis=1)
    given, _ = bootstrap_shares(scores)
    whole, _ = bootstrap_shares(np.column_stack([scores, nobody]))
    assert bool(np.all(whole[:2] < 0.6 * given[:2]))


def test_images_without_any_score_say_nothing() -> None:
    scores = by_group()
    scores[::4] = 0
    low, high = bootstrap_shares(scores)
    shares = scores.sum(axis=0) / scores.sum()
    assert bool(np.all((low <= shares) & (shares <= high)))


def test_effective_images() -> None:
    rows = np.array([[0, 1], [0, 1], [0, 2]])
    scores = np.array([[0.5, 0.5], [0.5, 0.1], [0.5, 0.0]])
    held = Contributions(rows, scores.astype(np.float32), scores, 4)
    np.testing.assert_allclose(effective_images(held), [3, 0.36 / 0.26, 0, 0])


def test_the_mean_of_a_criterion_has_an_interval_over_images() -> None:
    parts = np.random.default_rng(0).uniform(0.4, 1, size=80)
    found = bootstrap_interval([*parts, np.nan])
    assert found.n == 80
    assert found.mean == pytest.approx(parts.mean())
    half = 1.96 * parts.std(ddof=1) / np.sqrt(80)
    assert found.low == pytest.approx(parts.mean() - half, abs=0.012)
    assert found.high == pytest.approx(parts.mean() + half, abs=0.012)
    with pytest.raises(InputError, match="between 0 and 1"):
        bootstrap_interval([0.5, 1.5])
    with pytest.raises(InputError, match="1 generated image has no interval"):
        bootstrap_interval([0.5])


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        (np.ones((1, 2)), {}, "1 generated image has no interval.*at least 2"),
        (np.ones(5), {}, r"shape \(5,\); pass \(generated images, groups\)"),
        (np.ones((3, 2)), {"level": 1.0}, "level=1.0 was given; pass a number between 0 and 1"),
        (np.ones((3, 2)), {"level": 95}, "level=95 was given; pass a number"),
        (np.ones((3, 2)), {"n_resamples": 0}, "n_resamples=0 is too small"),
        (np.ones((3, 2)), {"largest": np.ones(2)}, r"largest has shape \(2,\).*3 generated"),
        (-np.ones((3, 2)), {}, "finite and not negative"),
        (np.full((3, 2), np.nan), {}, "finite and not negative"),
        (np.zeros((3, 2)), {}, "no generated image has a score"),
    ],
)
def test_bad_input(scores: NDArray[np.float64], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bootstrap_shares(scores, **options)


def test_values_of_one_image_or_with_negative_scores_have_no_interval() -> None:
    with pytest.raises(InputError, match="1 generated image has no interval"):
        value_intervals(drawn(m=1))
    held = drawn()
    with pytest.raises(InputError, match="not negative"):
        value_intervals(replace(held, scores=-held.scores))
    with pytest.raises(InputError, match="level=0"):
        value_intervals(held, level=0)


def test_a_part_of_the_groups_has_the_intervals_of_the_whole() -> None:
    scores = by_group()
    largest, totals = scores.max(axis=1), scores.sum(axis=1)
    whole = bootstrap_shares(scores, largest=largest, n_resamples=200)
    part = bootstrap_shares(scores[:, 1:3], largest=largest, totals=totals, n_resamples=200)
    for end, of_all in zip(part, whole, strict=True):
        np.testing.assert_allclose(end, of_all[1:3], rtol=1e-12)
    with pytest.raises(InputError, match=r"totals has shape \(3,\).*40 generated"):
        bootstrap_shares(scores, totals=totals[:3])
