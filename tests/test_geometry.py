"""Spaces, metrics and exact neighbours against the obvious formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gmvaluator.errors import InputError
from gmvaluator.geometry import (
    Levels,
    Metric,
    Space,
    Vectors,
    blocks,
    evenly_spread,
    nearest,
    neighbour_scale,
    pair_squared,
)

METRICS: tuple[Metric, ...] = ("euclidean", "sqeuclidean", "cosine", "centred-cosine")


def cloud(n: int, dim: int = 7, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32) + 1


def obvious(metric: Metric, a: Vectors, b: Vectors, mean: Vectors) -> float:
    if metric == "euclidean":
        return float(np.linalg.norm(a - b))
    if metric == "sqeuclidean":
        return float(((a - b) ** 2).sum())
    if metric == "centred-cosine":
        a, b = a - mean, b - mean
    return float(1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def from_one(points: Vectors, j: int, others: Vectors) -> Vectors:
    """Squared distances of point j to all the others."""
    return pair_squared(points, np.full(len(others), j), others, np.arange(len(others)))


def test_pairs_are_those_asked_for_wherever_the_vectors_are(tmp_path: Path) -> None:
    left, right = cloud(20), cloud(30, seed=1)
    np.save(tmp_path / "right.npy", right)
    mapped = np.load(tmp_path / "right.npy", mmap_mode="r")
    rng = np.random.default_rng(2)
    rows, others = rng.integers(0, 20, 500), rng.integers(0, 30, 500)
    found = pair_squared(left, rows, mapped, others)
    wanted = ((left[rows].astype(np.float64) - right[others]) ** 2).sum(axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    np.testing.assert_array_equal(pair_squared(left, rows[::-1], right, others[::-1])[::-1], found)
    assert pair_squared(left, rows[:0], right, others[:0]).shape == (0,)


@pytest.mark.parametrize(("row", "other"), [(20, 0), (0, 30), (-1, 0)])
def test_rows_outside_the_vectors_are_refused(row: int, other: int) -> None:
    left, right = cloud(20), cloud(30, seed=1)
    with pytest.raises(IndexError):
        pair_squared(left, np.array([row]), right, np.array([other]))
    with pytest.raises(ValueError, match="vectors of"):
        pair_squared(left, np.array([0]), right[:, :-1].copy(), np.array([0]))


@pytest.mark.parametrize("metric", METRICS)
def test_distance_equals_the_definition(metric: Metric) -> None:
    train, query = cloud(20), cloud(5, seed=1)
    space = Space.fit(metric, train)
    placed_train, placed_query = space.place(train), space.place(query)
    for j in range(5):
        found = space.distance(from_one(placed_query, j, placed_train))
        wanted = [obvious(metric, query[j], row, train.mean(axis=0)) for row in train]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_an_image_is_at_distance_zero_of_itself(metric: Metric) -> None:
    train = cloud(10)
    space = Space.fit(metric, train)
    placed = space.place(train)
    for j in range(10):
        assert space.distance(from_one(placed, j, placed))[j] == 0


def test_place_leaves_its_input_alone_unless_told() -> None:
    train = cloud(6)
    before = train.copy()
    space = Space.fit("centred-cosine", train)
    placed = space.place(train)
    np.testing.assert_array_equal(train, before)
    assert space.place(train, in_place=True) is train
    np.testing.assert_array_equal(train, placed)


def test_zero_vector_has_no_direction_and_stays_finite() -> None:
    placed = Space("cosine").place(np.zeros((1, 3), dtype=np.float32))
    np.testing.assert_array_equal(placed, np.zeros((1, 3)))


def test_unknown_metric_is_refused() -> None:
    with pytest.raises(InputError, match="unknown metric 'manhattan'; choose one of euclidean"):
        Space.fit("manhattan", cloud(3))  # type: ignore[arg-type]


@given(n=st.integers(0, 50), row_bytes=st.integers(1, 100), block=st.integers(1, 300))
def test_blocks_cover_every_row_once(n: int, row_bytes: int, block: int) -> None:
    covered = [row for rows in blocks(n, row_bytes, block) for row in range(n)[rows]]
    assert covered == list(range(n))


@given(arrays(np.float32, (30, 4), elements=st.integers(-3, 3).map(float)), st.integers(1, 30))
def test_nearest_equals_brute_force(points: Vectors, n: int) -> None:
    queries = points[:4]
    squared, rows = nearest(queries, points, n)
    for j in range(4):
        exact = ((points - queries[j]) ** 2).sum(axis=1)
        np.testing.assert_array_equal(squared[j], np.sort(exact)[:n])
        np.testing.assert_array_equal(exact[rows[j]], squared[j])
        assert len(set(rows[j])) == n
        # equal distances come by row number
        pairs = list(zip(squared[j].tolist(), rows[j].tolist(), strict=True))
        assert pairs == sorted(pairs)


def test_nearest_refuses_more_neighbours_than_points() -> None:
    with pytest.raises(InputError, match="4 neighbours asked of 3 points"):
        nearest(cloud(1), cloud(3), 4)


@pytest.mark.parametrize(("n", "most"), [(1, 5), (7, 7), (7, 20), (100, 6), (1_000, 999)])
def test_evenly_spread_rows_are_distinct_and_span_the_whole(n: int, most: int) -> None:
    rows = evenly_spread(n, most)
    assert len(rows) == min(n, most)
    assert (rows[0], rows[-1]) == (0, n - 1)
    steps = np.diff(rows)
    assert len(steps) == 0 or (steps.min() >= 1 and steps.max() - steps.min() <= 1)


def test_neighbour_scale_is_of_the_nearest_that_differs() -> None:
    vectors = np.array([[0], [1], [1], [3], [7]], dtype=np.float32)
    assert neighbour_scale(vectors, vectors) == 1  # median of 1, 1, 1, 4, 16
    assert neighbour_scale(vectors[3:4], vectors) == 4
    assert neighbour_scale(vectors[:1], vectors[:1]) is None


def test_levels_are_the_vectors_in_a_quarter_of_the_memory() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 12), np.uint8)
    vectors = pixels.astype(np.float32) / np.float32(255)
    levels = Levels.of(vectors)
    assert levels is not None
    np.testing.assert_array_equal(levels, pixels)
    np.testing.assert_array_equal(Levels(levels)[np.array([3, 3, 19])], vectors[[3, 3, 19]])
    np.testing.assert_array_equal(np.asarray(Levels(levels)), vectors)
    assert Levels.of(vectors * np.float32(0.999)) is None
    left, rows = np.array([0, 1, 1]), np.array([19, 0, 19])
    np.testing.assert_array_equal(
        pair_squared(vectors, left, Levels(levels), rows),
        pair_squared(vectors, left, vectors, rows),
    )
