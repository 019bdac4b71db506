"""Recall: exact search against brute force, quantized search against exact, the `auto` rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator import geometry
from gmvaluator.errors import InputError, RunError
from gmvaluator.geometry import Space, Vectors
from gmvaluator.matching.recall import search_space
from gmvaluator.matching.search import indexes, product_quantization
from gmvaluator.matching.search.build import (
    EXACT_OPERATIONS,
    PQ_BYTES,
    PQ_VECTORS,
    build_index,
    check_index_name,
    choose_index,
    open_index,
    save_index,
)


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
    found = search_space(build_index(points, "exact"), Space("euclidean"), queries, 50, n_train=500)
    wanted = true_nearest(queries, points, 50)
    np.testing.assert_array_equal(found.rows, wanted)
    np.testing.assert_allclose(
        found.distances[0], np.linalg.norm(points[wanted[0]] - queries[0], axis=1), rtol=1e-5
    )


@pytest.mark.parametrize("name", ["pq", "ivfpq", "HNSW16", "IVF8,Flat"])
def test_approximate_finds_most_of_the_true_neighbours(name: str) -> None:
    points, queries = clusters(3_000), clusters(50, seed=1)
    index = build_index(points, name, seed=0)
    found = search_space(index, Space("euclidean"), queries, 200, n_train=3_000)
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
    found = search_space(build_index(points, "pq", order=order), space, queries, 20, n_train=2_000)
    again = search_space(
        build_index(shuffled, "pq", order=np.lexsort(shuffled.T)), space, queries, 20, n_train=2_000
    )
    np.testing.assert_allclose(again.distances, found.distances, rtol=1e-5)
    assert overlap(shuffle[again.rows], found.rows) == 1


def test_pq_is_deterministic_and_seeded() -> None:
    points, queries = clusters(2_000), clusters(10, seed=1)
    runs = [
        search_space(
            build_index(points, "pq", seed=seed), Space("euclidean"), queries, 20, n_train=2_000
        )
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(runs[0].distances, runs[1].distances)
    assert not np.array_equal(runs[0].distances, runs[2].distances)


@pytest.mark.parametrize("n", [1, 3, 40, 300])
@pytest.mark.parametrize("name", ["pq", "ivfpq"])
def test_quantizers_work_on_small_sets(n: int, name: str) -> None:
    points = clusters(n)
    found = search_space(build_index(points, name), Space("euclidean"), points, 1, n_train=n)
    assert found.rows.shape == (n, 1)
    assert ((found.rows >= 0) & (found.rows < n)).all()


def test_auto_is_exact_until_time_or_memory_forbid() -> None:
    assert choose_index(60_000, 10_000, 1_280) == "exact"
    assert choose_index(900_000, 10_000, 1_280) == "pq"
    assert choose_index(50_000_000, 100, 512) == "ivfpq"


def test_auto_at_its_boundaries() -> None:
    n, dim = 100_000, 1_000
    m = int(EXACT_OPERATIONS) // (n * dim)
    assert choose_index(n, m, dim) == "exact"
    assert choose_index(n, m + 1, dim) == "pq"
    assert choose_index(n, m, dim, memory=4 * n * dim) == "exact"
    assert choose_index(n, m, dim, memory=4 * n * dim - 1) == "pq"
    assert choose_index(PQ_VECTORS, 10**6, dim) == "pq"
    assert choose_index(PQ_VECTORS + 1, 10**6, dim) == "ivfpq"
    assert choose_index(n, m, dim, memory=PQ_BYTES * n) == "pq"
    assert choose_index(n, m, dim, memory=PQ_BYTES * n - 1) == "ivfpq"


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
    found = search_space(
        build_index(points, name), Space("euclidean"), points[:5], 150, n_train=200
    )
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


def placed_like_embeddings(n: int, seed: int = 0) -> Vectors:
    """Unit vectors in clusters, 64-dimensional, with a spectrum that falls as embeddings' does."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(20, 64))
    vectors = centres[rng.integers(0, 20, n)] + 0.7 * rng.normal(size=(n, 64))
    vectors *= np.geomspace(1, 0.1, 64)
    placed: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return placed


@pytest.mark.parametrize("n", [500, 5_000])
def test_pq_finds_the_true_neighbours_of_embeddings(n: int) -> None:
    points, queries = placed_like_embeddings(n), placed_like_embeddings(50, seed=1)
    wanted = build_index(points, "exact").search(queries, 50)[1]
    assert overlap(build_index(points, "pq").search(queries, 200)[1], wanted) >= 0.95


@pytest.mark.parametrize("name", ["pq", "ivfpq"])
def test_approximate_distances_are_squared_and_ascending(name: str) -> None:
    points, queries = placed_like_embeddings(3_000), placed_like_embeddings(20, seed=1)
    squared, rows = build_index(points, name).search(queries, 50)
    assert (np.diff(squared, axis=1) >= 0).all()
    true = ((queries[:, None] - points[rows]) ** 2).sum(axis=2)
    np.testing.assert_allclose(squared, true, atol=0.1)


@pytest.mark.parametrize("name", ["pq", "ivfpq", "IVF8,PQ8x4fs", "HNSW16", "SQ8"])
def test_opened_index_finds_what_the_saved_one_found(name: str, tmp_path: Path) -> None:
    points, queries = clusters(2_000), clusters(20, seed=1)
    index = build_index(points, name)
    save_index(index, tmp_path / "index")
    opened = open_index(tmp_path / "index", points)
    for found, wanted in zip(opened.search(queries, 50), index.search(queries, 50), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_exact_index_has_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="an exact index has no file of its own; keep its vectors"):
        save_index(build_index(clusters(100), "exact"), tmp_path / "index")
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("name", ["pq", "ivfpq", "HNSW8"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.2, 0.6, 0.999])
def test_truncated_index_file_is_refused(name: str, kept: float, tmp_path: Path) -> None:
    points = clusters(1_000)
    save_index(build_index(points, name), tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    file = tmp_path / "cut"
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(
        RunError, match=r"index file .*cut cannot be opened \(.+\); .*again"
    ) as info:
        open_index(file, points)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("content", [b"not an index " * 1_000, b"\x00" * 64, b"PK\x03\x04"])
def test_foreign_file_is_not_an_index(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(RunError, match=r"foreign cannot be opened .* build the index again"):
        open_index(tmp_path / "foreign", clusters(10))


def test_missing_index_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="missing cannot be opened"):
        open_index(tmp_path / "missing", clusters(10))
    with pytest.raises(RunError, match=r"cannot be written .* choose another folder"):
        save_index(build_index(clusters(100), "pq"), tmp_path / "no folder" / "index")


def test_index_of_other_vectors_is_refused(tmp_path: Path) -> None:
    save_index(build_index(clusters(500), "pq"), tmp_path / "index")
    with pytest.raises(RunError, match="holds 500 vectors of 32 numbers, not the 400 of 32 here"):
        open_index(tmp_path / "index", clusters(400))
    with pytest.raises(RunError, match="not the 500 of 16 here"):
        open_index(tmp_path / "index", clusters(500, dim=16))


class Parts:
    """Vectors that can only be read in parts, and remember the largest."""

    def __init__(self, vectors: Vectors) -> None:
        self.shape, self.largest = vectors.shape, 0
        self._vectors = vectors

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Vectors:
        part: Vectors = self._vectors[rows]
        self.largest = max(self.largest, len(part))
        return part


@pytest.mark.parametrize("name", ["pq", "ivfpq"])
def test_memmapped_and_lazy_vectors_build_the_same_index(name: str, tmp_path: Path) -> None:
    points, queries = clusters(20_000), clusters(10, seed=1)
    np.save(tmp_path / "points.npy", points)
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    wanted = build_index(points, name).search(queries, 50)
    for vectors in (mapped, Parts(points)):
        squared, rows = build_index(vectors, name).search(queries, 50)
        np.testing.assert_array_equal(rows, wanted[1])
        np.testing.assert_array_equal(squared, wanted[0])


def test_vectors_are_read_in_blocks_and_trained_on_a_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(product_quantization, "PQ_TRAINING_VECTORS", 2_000)
    monkeypatch.setattr(
        product_quantization, "blocks", lambda n, size, _=0: geometry.blocks(n, size, 1 << 18)
    )
    vectors = Parts(clusters(20_000))
    build_index(vectors, "pq")
    # a block of 32 float32 numbers a row; the sample that PCA reads at once is no larger
    assert vectors.largest == (1 << 18) // (4 * 32)


@pytest.mark.parametrize("name", ["pq", "ivfpq"])
def test_listing_order_changes_nothing(name: str) -> None:
    points, queries = placed_like_embeddings(4_000), placed_like_embeddings(20, seed=1)
    shuffle = np.random.default_rng(3).permutation(len(points))
    squared, rows = build_index(points, name, order=np.lexsort(points.T)).search(queries, 50)
    shuffled = points[shuffle]
    again, moved = build_index(shuffled, name, order=np.lexsort(shuffled.T)).search(queries, 50)
    np.testing.assert_array_equal(again, squared)
    assert overlap(shuffle[moved], rows) == 1


@pytest.mark.parametrize("name", ["pq", "ivfpq"])
def test_one_image_finds_the_same_alone_and_among_others(name: str) -> None:
    points, queries = placed_like_embeddings(4_000), placed_like_embeddings(30, seed=1)
    index = build_index(points, name)
    together = index.search(queries, 50)[1]
    # asks for so many that inverted lists must be widened
    index.search(queries, 3_500)
    alone = np.concatenate([index.search(queries[j : j + 1], 50)[1] for j in range(30)])
    assert overlap(alone, together) == 1


def test_graph_over_many_lists_is_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_quantization, "FLAT_LISTS", 8)
    points, queries = clusters(3_000), clusters(50, seed=1)
    first, again = (build_index(points, "ivfpq").search(queries, 100) for _ in range(2))
    np.testing.assert_array_equal(first[1], again[1])
    assert overlap(first[1], true_nearest(queries, points, 20)) >= 0.75


@pytest.mark.parametrize("n", [1, 7, 50])
def test_mapped_vectors_are_searched_in_parts(
    n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "MAPPED_BYTES", 4 * 8 * 13)
    points = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    points[30] = points[3]  # copies of one another in two parts
    np.save(tmp_path / "points.npy", points)
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    wanted, given = (indexes.ExactIndex(each).search(points[:5], n) for each in (points, mapped))
    np.testing.assert_array_equal(given[0], wanted[0])
    np.testing.assert_array_equal(given[1], wanted[1])
