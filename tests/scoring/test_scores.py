"""Eq. 4 to 6: the laws of DESIGN, and the obvious implementation beside the fast one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.matching.rerank import Contributors
from gmvaluator.scoring.scores import (
    Contributions,
    contribute,
    sum_values,
)
from gmvaluator.scoring.weightings.softmax import (
    auto_perplexity,
    matched_temperatures,
    softmax_weights,
)

N, M, K = 12, 6, 4


def contributors(distances: NDArray[np.float32]) -> Contributors:
    rng = np.random.default_rng(1)
    rows = np.stack([rng.choice(N, K, replace=False) for _ in range(len(distances))])
    return Contributors(rows=rows, distances=np.sort(distances, axis=1), n_train=N)


distance_arrays = arrays(np.float32, (M, K), elements=st.floats(0, 1e6, width=32))
qualities = arrays(np.float64, M, elements=st.floats(0, 1, allow_subnormal=False))
temperatures = st.one_of(st.floats(1e-3, 1e3), st.just("auto"))


@given(distance_arrays, qualities, temperatures)
def test_laws(distances: NDArray[np.float32], quality: NDArray[np.float64], tau: Any) -> None:
    given_ = contributors(distances)
    result = contribute(given_, quality, temperature=tau)
    values = sum_values(result)
    assert (result.scores >= 0).all()
    np.testing.assert_allclose(result.scores.sum(axis=1), quality, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(values.sum(), quality.sum(), rtol=1e-12, atol=1e-300)
    # a nearer contributor never scores less than a farther one of the same image
    assert (np.diff(result.scores, axis=1) <= 0).all()


@given(distance_arrays, qualities)
def test_values_equal_the_obvious_loop(
    distances: NDArray[np.float32], quality: NDArray[np.float64]
) -> None:
    distances = distances / 1e5
    given_ = contributors(distances)
    wanted = np.zeros(N)
    for j in range(M):
        similarity = np.exp(-given_.distances[j].astype(np.float64))
        for place, row in enumerate(given_.rows[j]):
            wanted[row] += quality[j] * similarity[place] / similarity.sum()
    np.testing.assert_allclose(sum_values(contribute(given_, quality)), wanted, rtol=1e-9)


def test_softmax_is_stable_far_from_zero() -> None:
    weights = softmax_weights(np.array([[1e8, 1e8 + 64]], dtype=np.float32), 64.0)
    np.testing.assert_allclose(weights, [[1 / (1 + np.exp(-1)), 1 / (1 + np.e)]])


def test_temperature_sharpens_and_flattens() -> None:
    distances = np.array([[0.0, 1.0]], dtype=np.float32)
    assert softmax_weights(distances, 0.01)[0, 0] > 0.999
    np.testing.assert_allclose(softmax_weights(distances, 1e6), [[0.5, 0.5]], atol=1e-6)


def perplexities(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([np.exp(-sum(w * np.log(w) for w in row if w > 0)) for row in weights])


def test_auto_temperature_gives_every_image_the_same_perplexity() -> None:
    rng = np.random.default_rng(0)
    # images near and far, tight and spread: τ = 1 makes the first nearly flat, the last one-sided
    distances = np.sort(rng.random((5, 31)) * 10.0 ** np.arange(-3, 2)[:, None] + 0.3, axis=1)
    weights = softmax_weights(distances.astype(np.float32), "auto")
    np.testing.assert_allclose(perplexities(weights), auto_perplexity(31), rtol=1e-6)
    assert auto_perplexity(31) == 11
    flat = perplexities(softmax_weights(distances.astype(np.float32), 1.0))
    assert flat[0] > 30.99
    assert flat[-1] < 11


def test_auto_temperature_ignores_the_unit_and_the_offset_of_the_distance() -> None:
    distances = np.sort(np.random.default_rng(1).random((3, 20)), axis=1).astype(np.float32)
    np.testing.assert_allclose(
        softmax_weights(distances, "auto"), softmax_weights(64 * distances + 8, "auto"), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("distances", "weights"),
    [
        ([2.0], [1.0]),
        ([3.0, 3.0, 3.0, 3.0], [0.25, 0.25, 0.25, 0.25]),
        ([0.0, 0.0, 0.0, 7.0], [1 / 3, 1 / 3, 1 / 3, 0.0]),
    ],
)
def test_auto_temperature_of_equal_distances(distances: list[float], weights: list[float]) -> None:
    found = softmax_weights(np.array([distances], dtype=np.float32), "auto")
    np.testing.assert_allclose(found, [weights], atol=1e-9)


def test_a_perplexity_out_of_reach_is_refused() -> None:
    with pytest.raises(InputError, match=r"perplexity=0.5 of 4 contributors; pass 1 to 4"):
        matched_temperatures(np.zeros((2, 4)), 0.5)


def test_values_are_summed_in_float64() -> None:
    m = 100_000
    # in float32 each of these shares is lost beside the 1
    scores = np.full((m, 1), 1e-9)
    scores[0] = 1.0
    one = Contributions(
        rows=np.zeros((m, 1), dtype=np.int64),
        distances=np.zeros((m, 1), dtype=np.float32),
        scores=scores,
        n_train=1,
    )
    np.testing.assert_allclose(sum_values(one), [1.0 + (m - 1) * 1e-9], rtol=1e-10)


@pytest.mark.parametrize(
    ("quality", "settings", "message"),
    [
        (np.ones(M - 1), {}, r"quality has shape \(5,\) for 6 generated images"),
        (np.full(M, 1.5), {}, "between 0"),
        (np.full(M, np.nan), {}, "between 0"),
        (np.ones(M), {"temperature": 0.0}, "temperature=0.0 is not positive"),
        (np.ones(M), {"temperature": "warm"}, "temperature 'warm' is unknown; pass a number"),
        (
            np.ones(M),
            {"weighting": "median"},
            "unknown weighting 'median'; choose one of expected-rank",
        ),
    ],
)
def test_bad_input(quality: NDArray[np.float64], settings: dict[str, float], message: str) -> None:
    given_ = contributors(np.zeros((M, K), dtype=np.float32))
    with pytest.raises(InputError, match=message):
        contribute(given_, quality, **settings)  # type: ignore[arg-type]
