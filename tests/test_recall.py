"""Recall: exact search against brute force, quantized search against exact, the `auto` rule."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.geometry import Space, Vectors
from gmvaluator.recall import build_index, check_index_name, choose_index, recall


def clusters(n: int, dim: int = 32, seed: int = 0) -> Vectors:
    """Vectors as embeddings are: a few directions carry most of the spread."""
    rng = np.random.default_rng(seed)
    spread = np.geomspace(1, 0.02, dim)
    return (rng.normal(size=(n, dim)) * spread).astype(np.float32)


def overlap(found: NDArray[np.int64], wanted: NDArray[np.int64]) -> float:
    shares = [len(set(a) & set(b)) / len(b) for a, b in zip(found, wanted, strict=True)]
    return float(np.mean(shares))


def true_nearest(queries: Vectors, points: Vectors, n: int) -> NDArray[np.int64]:
    squared = ((queries[:, None] - points[None]) ** 2).sum(axis=2)
    return np.argsort(squared, axis=1)[:, :n]


def test_exact_equals_brute_force() -> None:
    points, queries = clusters(500), clusters(20, seed=1)
    found = recall(build_index(points, "exact"), Space("euclidean"), queries, 50, n_train=500)
    wanted = true_nearest(queries, points, 50)
    np.testing.assert_array_equal(found.rows, wanted)
    np.testing.assert_allclose(
        found.distances[0], np.linalg.norm(points[wanted[0]] - queries[0], axis=1), rtol=1e-5
    )


@pytest.mark.parametrize("name", ["pq", "ivfpq", "HNSW16", "IVF8,Flat"])
def test_approximate_finds_most_of_the_true_neighbours(name: str) -> None:
    points, queries = clusters(3_000), clusters(50, seed=1)
    index = build_index(points, name, seed=0)
    found = recall(index, Space("euclidean"), queries, 200, n_train=3_000)
    wanted = true_nearest(queries, points, 50)
    share = overlap(found.rows, wanted)
    # inverted lists search part of the set; IVF8,Flat probes one of eight, as its user asked
    assert share >= {"IVF8,Flat": 0.3, "ivfpq": 0.75}.get(name, 0.9)


def test_pq_does_not_depend_on_the_order_of_the_set() -> None:
    points, queries = clusters(2_000), clusters(10, seed=1)
    order = np.lexsort(points.T)
    shuffle = np.random.default_rng(3).permutation(len(points))
    shuffled = points[shuffle]
    space = Space("euclidean")
    found = recall(build_index(points, "pq", order=order), space, queries, 20, n_train=2_000)
    again = recall(
        build_index(shuffled, "pq", order=np.lexsort(shuffled.T)), space, queries, 20, n_train=2_000
    )
    np.testing.assert_allclose(again.distances, found.distances, rtol=1e-5)
    assert overlap(shuffle[again.rows], found.rows) == 1


def test_pq_is_deterministic_and_seeded() -> None:
    points, queries = clusters(2_000), clusters(10, seed=1)
    runs = [
        recall(build_index(points, "pq", seed=seed), Space("euclidean"), queries, 20, n_train=2_000)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(runs[0].distances, runs[1].distances)
    assert not np.array_equal(runs[0].distances, runs[2].distances)


@pytest.mark.parametrize("n", [1, 3, 40, 300])
@pytest.mark.parametrize("name", ["pq", "ivfpq"])
def test_quantizers_work_on_small_sets(n: int, name: str) -> None:
    points = clusters(n)
    found = recall(build_index(points, name), Space("euclidean"), points, 1, n_train=n)
    assert found.rows.shape == (n, 1)
    assert ((found.rows >= 0) & (found.rows < n)).all()


def test_auto_is_exact_until_time_or_memory_forbid() -> None:
    assert choose_index(60_000, 10_000, 1_280) == "exact"
    assert choose_index(900_000, 10_000, 1_280) == "pq"
    assert choose_index(50_000_000, 100, 512) == "ivfpq"


def test_unknown_index_is_refused_with_the_choices() -> None:
    with pytest.raises(InputError, match="unknown index 'fastest'; choose one of auto, exact, pq"):
        check_index_name("fastest")
    check_index_name("IVF256,PQ32")


def test_factory_that_does_not_fit_says_so() -> None:
    with pytest.raises(InputError, match="faiss cannot build index 'PQ5' on 300 vectors of 32"):
        build_index(clusters(300), "PQ5")


@pytest.mark.parametrize("name", ["IVF20,Flat", "HNSW4"])
def test_search_looks_further_until_it_has_enough_candidates(name: str) -> None:
    points = clusters(200)
    found = recall(build_index(points, name), Space("euclidean"), points[:5], 150, n_train=200)
    for row in found.rows:
        assert len(set(row)) == 150
        assert row.min() >= 0


@pytest.mark.parametrize("name", ["IVF20,Flat", "HNSW4"])
def test_what_an_image_finds_does_not_depend_on_earlier_or_other_images(name: str) -> None:
    points, queries = clusters(400), clusters(8, seed=1)
    index = build_index(points, name)
    first = index.search(queries, 5)
    index.search(queries, 300)
    again = index.search(queries, 5)
    np.testing.assert_array_equal(again[1], first[1])
    together = index.search(queries, 40)[1]
    alone = np.concatenate([index.search(queries[j : j + 1], 40)[1] for j in range(8)])
    np.testing.assert_array_equal(together, alone)


def test_index_that_cannot_find_enough_says_so() -> None:
    points = clusters(200)
    index = build_index(points, "Flat")
    with pytest.raises(InputError, match="found fewer than 201 candidates"):
        index.search(points[:5], 201)
