"""Shapley and kernel ridge weights: axioms, laws, and the obvious implementation beside each."""

from __future__ import annotations

import tracemalloc
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from gmvaluator import GMValuator, ImageSet, Valuation
from gmvaluator.errors import InputError
from gmvaluator.matching.rerank import Contributors
from gmvaluator.memory import Budget
from gmvaluator.scoring.scores import contribute
from gmvaluator.scoring.weightings import global_ridge, kernel_ridge, ridge
from gmvaluator.scoring.weightings.kernel_ridge import (
    JITTER,
    NARROW,
    RIDGE,
    WIDE,
    Kernel,
    ridge_of_all,
    ridge_within,
)
from gmvaluator.scoring.weightings.landmarks import Landmarks
from gmvaluator.scoring.weightings.shapley import shapley_weights

K = 5
Sets = tuple[ImageSet, ImageSet]
ascending = arrays(np.float32, (3, K + 1), elements=st.integers(0, 40).map(float)).map(
    lambda each: np.sort(each, axis=1)
)


def shapley_by_permutations(distances: NDArray[np.float64], beyond: float) -> NDArray[np.float64]:
    """Mean marginal coverage over all orders in which the images may arrive."""
    total = np.zeros(len(distances))
    orders = list(permutations(range(len(distances))))
    for order in orders:
        nearest = beyond
        for player in order:
            total[player] += nearest - min(nearest, distances[player])
            nearest = min(nearest, distances[player])
    return total / len(orders)


@given(ascending)
def test_shapley_is_the_mean_over_all_orders(distances: NDArray[np.float32]) -> None:
    kept, beyond = distances[:, :K], distances[:, K]
    for row, (near, far) in enumerate(zip(kept, beyond, strict=True)):
        wanted = shapley_by_permutations(near.astype(np.float64), float(far))
        shares = shapley_weights(kept, beyond)[row]
        assert wanted.sum() == pytest.approx(far - near[0])
        if far > near[0]:
            np.testing.assert_allclose(shares, wanted / wanted.sum(), atol=1e-12)
        else:  # nobody is nearer than the first outsider
            np.testing.assert_allclose(shares, 1 / K)


@given(ascending)
def test_shapley_axioms(distances: NDArray[np.float32]) -> None:
    kept, beyond = distances[:, :K], distances[:, K]
    quality = np.array([0.0, 0.5, 1.0])
    rows = np.tile(np.arange(K), (3, 1))
    scores = contribute(
        Contributors(rows, kept, K, beyond=beyond), quality, weighting="shapley"
    ).scores
    np.testing.assert_allclose(scores.sum(axis=1), quality, atol=1e-12)  # efficiency
    for row in range(3):
        for a in range(K):
            for b in range(K):
                if kept[row, a] == kept[row, b]:  # symmetry
                    assert scores[row, a] == pytest.approx(scores[row, b], abs=1e-12)
            if kept[row, a] == beyond[row] > kept[row, 0]:  # null player
                assert scores[row, a] == 0


def test_shapley_without_an_outsider_leaves_the_last_out() -> None:
    shares = shapley_weights(np.array([[1, 2, 4]], dtype=np.float32))
    np.testing.assert_allclose(shares, [[(1 + 1) / 3, 1 / 3, 0]])


def clustered(n: int = 90, m: int = 8, dim: int = 6, seed: int = 0) -> Any:
    """Training and generated vectors in a few loose groups."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 2, (5, dim))
    train = centres[rng.integers(5, size=n)] + rng.normal(0, 0.7, (n, dim))
    generated = centres[rng.integers(5, size=m)] + rng.normal(0, 0.7, (m, dim))
    return train.astype(np.float32), generated.astype(np.float32)


def ridge_by_definition(kernel: Kernel, train: Any, generated: Any) -> NDArray[np.float64]:
    """(m, n) squared positive weights, one linear system of double precision."""

    def squared(a: Any, b: Any) -> Any:
        return ((a[:, None].astype(np.float64) - b[None]) ** 2).sum(axis=2)

    wide = np.exp(-squared(train, train) / (2 * WIDE * kernel.scale))
    noise = np.exp(-squared(train, train) / (2 * NARROW * kernel.scale))
    right = np.exp(-squared(train, generated) / (2 * WIDE * kernel.scale))
    found = np.linalg.solve(wide + RIDGE * (noise + JITTER * np.eye(len(train))), right).T
    return np.asarray(np.square(np.maximum(found, 0)), dtype=np.float64)


def shares(weights: Any) -> Any:
    return weights / weights.sum(axis=1, keepdims=True)


def test_ridge_equals_its_definition() -> None:
    train, generated = clustered()
    kernel = Kernel.fit(train, np.arange(len(train)))
    wanted = shares(ridge_by_definition(kernel, train, generated))
    rows = np.tile(np.arange(len(train)), (len(generated), 1))
    np.testing.assert_allclose(
        shares(ridge_within(kernel, rows, train, generated)), wanted, atol=1e-5
    )
    order, weights = ridge_of_all(kernel, train, generated, len(train))
    np.testing.assert_allclose(
        shares(weights), np.take_along_axis(wanted, order, axis=1), atol=1e-5
    )
    assert (np.diff(weights, axis=1) <= 0).all()


@pytest.mark.parametrize("images_together", [1, 3, 8])
def test_ridge_solves_each_image_with_its_own_candidates(
    images_together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has other candidates, copies and near copies among them, whatever the batch."""
    train, generated = clustered()
    rng = np.random.default_rng(5)
    kernel = Kernel.fit(train, np.arange(len(train)))
    near = train[:30] + 0.01 * rng.normal(size=(30, train.shape[1])).astype(np.float32)
    train = np.concatenate([train, near, train[:20]])
    rows = np.stack([rng.permutation(len(train))[:70] for _ in generated])
    monkeypatch.setattr(
        kernel_ridge, "BATCH_BYTES", images_together * 70 * train.shape[1] * train.itemsize
    )
    found = shares(ridge_within(kernel, rows, train, generated, threads=2))
    for j, own in enumerate(rows):
        wanted = shares(ridge_by_definition(kernel, train[own], generated[j : j + 1]))
        np.testing.assert_allclose(found[j], wanted[0], atol=1e-5)


def test_the_kernels_scale_is_the_median_squared_distance_to_another_image() -> None:
    train = np.array([[0], [0], [1], [3], [6]], dtype=np.float32)
    assert Kernel.fit(train, np.arange(5)).scale == 1.0  # of 1, 1, 1, 4, 9
    assert Kernel.fit(np.zeros((3, 2), np.float32), np.arange(3)).scale == 1.0


def test_far_images_keep_their_proportions() -> None:
    train, generated = clustered()
    far = generated + np.float32(60)  # exp(−d²/4s) is 0 in double precision
    kernel = Kernel.fit(train, np.arange(len(train)))
    rows = np.tile(np.arange(len(train)), (len(far), 1))
    assert np.isfinite(shares(ridge_within(kernel, rows, train, far))).all()


@pytest.mark.parametrize("jitter", [0.0, 1e-4, 1e-3])
@pytest.mark.parametrize("copies", [2, 5, 40])
def test_splitting_an_image_does_not_raise_its_total(copies: int, jitter: float) -> None:
    """Exact and near copies, of every one of some images, whatever its share."""
    train, generated = clustered()
    rng = np.random.default_rng(3)
    kernel = Kernel.fit(train, np.arange(len(train)))
    before = shares(ridge_by_definition(kernel, train, generated))
    for image in range(0, len(train), 6):
        more = np.repeat(train[image : image + 1], copies - 1, axis=0)
        more = more + jitter * rng.normal(size=more.shape).astype(np.float32)
        larger = np.concatenate([train, more])
        rows = np.tile(np.arange(len(larger)), (len(generated), 1))
        after = shares(ridge_within(kernel, rows, larger, generated))
        together = after[:, image] + after[:, len(train) :].sum(axis=1)
        assert (together <= before[:, image] + 5e-5).all()


def test_landmarks_that_are_all_images_find_the_greatest_weights() -> None:
    train, generated = clustered(400)
    kernel = Kernel.fit(train, np.arange(400))
    landmarks = Landmarks.fit(kernel, train, np.arange(400), budget=Budget())
    inner = landmarks.train @ landmarks.queries(kernel, generated).T
    right = kernel.to_generated(((generated[:, None] - train[None]) ** 2).sum(axis=2)).T
    wanted = np.linalg.solve(kernel.wide(train, train) + RIDGE * (1 + JITTER) * np.eye(400), right)
    np.testing.assert_allclose(inner, wanted, atol=2e-3)
    # every training image is as long, so that the nearest has the greatest inner product
    assert np.ptp(np.linalg.norm(landmarks.train, axis=1)) < 1e-3


@pytest.fixture(scope="module")
def sets(digits: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> Sets:
    """600 training digits and 40 that stand in for generated ones."""
    return ImageSet.open(list(digits[0][:600])), ImageSet.open(list(digits[0][600:640]))


def value(sets: Sets, **settings: Any) -> Valuation:
    plain: dict[str, Any] = {"encoder": "pixels@14", "second_encoder": None, "rerank": "none"}
    chosen = plain | {"mirror": False, "cache": False, "k": 30} | settings
    return GMValuator(**chosen).fit(sets[0]).value(sets[1])


@pytest.mark.parametrize("weighting", ["shapley", "ridge", "global-ridge"])
def test_laws_of_a_valuation(sets: Sets, weighting: str) -> None:
    # all contributors: at the end of a shorter list rounding may choose between two
    valuation = value(sets, weighting=weighting, k=600)
    scores = valuation.contributions.scores
    assert scores.shape == (40, 600)
    assert (scores >= 0).all()
    np.testing.assert_allclose(scores.sum(axis=1), valuation.quality, rtol=1e-12)
    np.testing.assert_allclose(valuation.values.sum(), valuation.quality.sum(), rtol=1e-12)
    assert (np.diff(scores, axis=1) <= 1e-12).all()  # best first
    order = np.random.default_rng(1).permutation(600)
    permuted = value((sets[0].select(order), sets[1]), weighting=weighting, k=600)
    np.testing.assert_allclose(permuted.values, valuation.values[order], atol=1e-4)


def test_ridge_looks_beyond_the_nearest(sets: Sets) -> None:
    nearest = value(sets)
    within = value(sets, weighting="ridge", k=600)
    everyone = value(sets, weighting="global-ridge", k=600)
    np.testing.assert_allclose(within.score_matrix(), everyone.score_matrix(), atol=1e-5)
    first = value(sets, weighting="global-ridge")
    assert not np.array_equal(first.contributions.rows, nearest.contributions.rows)
    np.testing.assert_allclose(
        np.sort(first.contributions.scores[:, :5] / first.contributions.scores[:, :1]),
        np.sort(everyone.contributions.scores[:, :5] / everyone.contributions.scores[:, :1]),
        atol=1e-4,
    )
    # distances are those of the recall, for whoever contributes
    for j in range(3):
        found, near = everyone.contributors(j), nearest.contributors(j)
        common, ours, theirs = np.intersect1d(found.ids, near.ids, return_indices=True)
        assert len(common)
        np.testing.assert_allclose(found.distances[ours], near.distances[theirs], rtol=1e-5)


def test_ridge_after_a_rerank_shares_among_its_contributors(
    sets: Sets,
) -> None:
    plain = value(sets, rerank="l2@28")
    ridge = value(sets, rerank="l2@28", weighting="ridge")
    for j in range(len(sets[1])):
        assert set(ridge.contributors(j).ids) == set(plain.contributors(j).ids)


def test_many_images_are_approximated(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = value(sets, weighting="global-ridge", candidates=60)
    monkeypatch.setattr(global_ridge, "EXACT_OPERATIONS", 0)
    approximate = value(sets, weighting="global-ridge", candidates=60)
    assert exact.info["settings"]["index_used"] == "none"
    assert approximate.info["settings"]["index_used"] == "exact"
    common = [
        len({*exact.contributors(j).ids} & {*approximate.contributors(j).ids}) for j in range(40)
    ]
    assert np.mean(common) / 30 > 0.85


def test_a_copied_image_gains_by_softmax_and_not_by_global_ridge(
    sets: Sets,
) -> None:
    train, generated = sets
    copied = int(np.argmax(value(sets).values))
    pixels = [train[row] for row in range(len(train))]
    larger = ImageSet.open([*pixels, *[pixels[copied]] * 9])
    totals = {}
    for weighting in ("softmax", "ridge", "global-ridge"):
        settings = {"weighting": weighting, "quality": "none", "candidates": 200, "dedup": "none"}
        before = value(sets, **settings).values[copied]
        after = value((larger, generated), **settings).values
        totals[weighting] = (after[copied] + after[len(train) :].sum()) / before
    assert totals["softmax"] > 2
    assert totals["ridge"] <= 1.001
    assert totals["global-ridge"] <= 1.001


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weighting": "global-ridge", "rerank": "l2"}, "pass rerank='none'"),
        ({"weighting": "ridge", "temperature": 0.5}, "temperature=0.5 has no part in weighting"),
        ({"weighting": "rigde"}, "unknown weighting 'rigde'; choose one of expected-rank, softmax"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GMValuator(**{"rerank": "none", **settings})


def test_weights_that_were_not_asked_for() -> None:
    found = Contributors(np.zeros((1, 1), np.int64), np.zeros((1, 1), np.float32), 1)
    with pytest.raises(InputError, match="no ridge weights"):
        contribute(found, np.ones(1), weighting="ridge")


def test_preset_counterfactual_is_kernel_ridge_on_pixels(sets: Sets) -> None:
    preset = GMValuator.preset("counterfactual", cache=False, k=30).fit(sets[0]).value(sets[1])
    spelt = value(sets, encoder="pixels@28", quality="none", weighting="global-ridge")
    np.testing.assert_array_equal(preset.values, spelt.values)
    assert preset.info["settings"]["weighting"] == "global-ridge"
    assert (preset.quality == 1).all()


@pytest.mark.parametrize("weighting", ["ridge", "global-ridge"])
@pytest.mark.parametrize("coloured", [False, True])
def test_grey_images_are_weighed_by_one_channel_as_by_three(
    sets: Sets, monkeypatch: pytest.MonkeyPatch, weighting: str, coloured: bool
) -> None:
    train, generated = sets
    if coloured:  # generated images may have colours that the training images have not
        tint = np.array([1.0, 0.6, 0.3])
        grey = [generated[row][:, :, :1] for row in range(len(generated))]
        generated = ImageSet.open([(each * tint).astype(np.uint8) for each in grey])
    lean = value((train, generated), weighting=weighting, k=600)
    monkeypatch.setattr(ridge, "repeats_thrice", lambda _vectors: False)
    whole = value((train, generated), weighting=weighting, k=600)
    np.testing.assert_allclose(lean.score_matrix(), whole.score_matrix(), atol=2e-5)
    assert not np.array_equal(lean.score_matrix(), whole.score_matrix())  # another way to it


def test_the_exact_solution_takes_what_its_guard_says() -> None:
    """Measured by the allocator: the guard multiplies n² by `EXACT_BYTES`."""
    n = 1_500
    train = np.random.default_rng(0).normal(size=(n, 20)).astype(np.float32)
    kernel = Kernel.fit(train, np.arange(n))
    tracemalloc.start()
    ridge_of_all(kernel, train, train[:10], 5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 4 * n * n < peak <= global_ridge.EXACT_BYTES * n * n + (1 << 20)
    guard = global_ridge.GlobalRidge()
    assert guard.takes_all(n, 10, Budget(global_ridge.EXACT_BYTES * n * n))
    assert not guard.takes_all(n, 10, Budget(global_ridge.EXACT_BYTES * n * n - 1))
