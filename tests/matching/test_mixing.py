"""Several distances as one: by fixed weights, or by how decisively each matches an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator import GMValuator, InputError, RunError, Valuation
from gmvaluator.encoders.base import Encoder
from gmvaluator.engine.train import SCALE_IMAGES, SPREAD_IMAGES
from gmvaluator.geometry import Space
from gmvaluator.matching.rerank import (
    CLOSENESS,
    DECISIVE_AMONG,
    DECISIVENESS,
    MOST_DECISIVE,
    Term,
    decisive_mean,
)
from gmvaluator.settings import PRESETS

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]

NEXT: dict[str, Any] = {**PRESETS["offline"], "encoder": "pixels@7", "rerank": {
    "pixels@7": 1.0, "pixels@14": 2.0,
}}  # fmt: skip
"""The preset with a light encoder in place of the network."""


def terms(
    *weights_and_scales: tuple[float, float], spacings: tuple[float | None, ...] = (None, None)
) -> list[Term]:
    encoder: Encoder = GMValuator(encoder="pixels@7", rerank="none", cache=False)._recall[0]
    space = Space("euclidean")
    return [
        Term(encoder, space, w, s, "decisive", spacing)
        for (w, s), spacing in zip(weights_and_scales, spacings, strict=True)
    ]


def test_decisive_mean_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    by_term = [rng.uniform(1, 2, (5, 30)).astype(np.float32) for _ in range(2)]
    spacings = (1.1, 0.7)
    mixed = decisive_mean(terms((1.0, 0.5), (2.0, 3.0), spacings=spacings), by_term)
    settings = ((1.0, 0.5, 1.1), (2.0, 3.0, 0.7))
    for image in range(5):
        total, weights = np.zeros(30), 0.0
        for (weight, scale, spacing), distances in zip(settings, by_term, strict=True):
            near = np.sort(distances[image].astype(np.float64))[: DECISIVE_AMONG + 1]
            decisive = weight * (np.median(near[1:]) / near[0]) ** DECISIVENESS
            decisive *= (spacing / near[0]) ** CLOSENESS
            weights += decisive
            total += decisive * (distances[image].astype(np.float64) / scale) ** 2
        np.testing.assert_allclose(mixed[image], np.sqrt(total / weights), rtol=1e-6)


def test_a_distance_that_finds_a_copy_decides() -> None:
    plain = np.linspace(1.0, 1.3, 12, dtype=np.float32)[None]
    copy = plain[:, ::-1].copy()
    copy[0, 5] = 1e-3
    mixed = decisive_mean(terms((1.0, 1.0), (1.0, 1.0)), [plain, copy])
    assert mixed.argmin() == 5
    assert mixed[0, 5] < 0.1 * np.sort(mixed[0])[1]


def test_a_distance_of_zero_counts_no_more_than_the_limit() -> None:
    exact = np.array([[0.0, 1.0, 1.0]], np.float32)
    near = np.array([[1.0, 1.0, 0.5]], np.float32)
    first, second = decisive_mean(terms((1.0, 1.0), (1.0, 1.0)), [exact, near]), MOST_DECISIVE
    weight = np.array([float(second), 2.0]) ** DECISIVENESS
    share = weight / weight.sum()
    expected = np.sqrt(share[0] * exact.astype(float) ** 2 + share[1] * near.astype(float) ** 2)
    np.testing.assert_allclose(first, expected, rtol=1e-5)
    # all at distance 0: nothing is decisive
    flat = decisive_mean(terms((1.0, 1.0), (1.0, 1.0)), [np.zeros((1, 3), np.float32), near])
    assert flat.argmin() == 2


@pytest.mark.parametrize("candidates", [1, 2])
def test_few_candidates_are_enough(candidates: int, digits: Digits) -> None:
    images = digits[0][:40]
    valuator = GMValuator(**NEXT, k=1, candidates=candidates, cache=False, null="off")
    valuation = valuator.fit(images).value(images[:3])
    assert (valuation.contributions.rows[:, 0] == [0, 1, 2]).all()


def test_scales_are_the_spread_of_distances(digits: Digits) -> None:
    images = digits[0][:100]
    trained = GMValuator(**NEXT, cache=False, null="off").fit(images)._require_fitted()
    assert len(trained.order) < SPREAD_IMAGES
    for term, space in zip(trained.terms, trained.spaces, strict=True):
        vectors = space.vectors.astype(np.float64)
        among = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
        spreads = [np.delete(among[row], row).std() for row in trained.order[:SCALE_IMAGES]]
        assert term.scale == pytest.approx(np.median(spreads), rel=1e-4)
        assert term.mixing == "decisive"
        np.fill_diagonal(among, np.inf)
        nearest = among[trained.order[:SCALE_IMAGES]].min(axis=1)
        assert term.spacing == pytest.approx(np.median(nearest), rel=1e-4)


def test_listing_order_changes_nothing(digits: Digits) -> None:
    images, drawn = digits[0][:150], digits[0][200:206]
    order = np.random.default_rng(1).permutation(len(images))
    values = [
        GMValuator(**NEXT, cache=False).fit(some).value(drawn).values
        for some in (images, images[order])
    ]
    np.testing.assert_array_equal(values[0][order], values[1])


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: image[:, ::-1],
        lambda image: np.roll(image, 1, axis=0),
    ],
    ids=["copy", "mirror image", "shift"],
)
def test_nearly_all_of_a_copy_goes_to_its_source(change: Any, digits: Digits) -> None:
    images = digits[0][:300]
    copies = np.stack([change(image) for image in images[:10]])
    valuation = (
        GMValuator(**NEXT | {"quality": "none"}, cache=False, null="off").fit(images).value(copies)
    )
    shares = valuation.score_matrix()[np.arange(10), np.arange(10)]
    assert np.median(shares) > 0.9
    assert [valuation.contributors(j).ids[0] for j in range(10)] == list(valuation.train_ids[:10])


def test_an_index_keeps_the_mixing_it_was_fitted_with(digits: Digits, tmp_path: Path) -> None:
    images, drawn = digits[0][:80], digits[0][90:95]
    valuator = GMValuator(**NEXT, cache=False).fit(images)
    valuator.save(tmp_path / "index")
    again = GMValuator.load(tmp_path / "index", train=images, cache=False)
    np.testing.assert_array_equal(again.value(drawn).values, valuator.value(drawn).values)
    # spreads are measured among training images, not among candidates
    fewer = GMValuator.load(tmp_path / "index", train=images, cache=False, candidates=60)
    assert [(term.scale, term.spacing) for term in fewer._require_fitted().terms] == [
        (term.scale, term.spacing) for term in valuator._require_fitted().terms
    ]
    with pytest.raises(RunError, match="was made with mixing 'decisive', not 'fixed'"):
        GMValuator.load(tmp_path / "index", train=images, mixing="fixed")


def test_a_run_records_the_mixing(digits: Digits, tmp_path: Path) -> None:
    valuation = GMValuator(**NEXT, cache=False).fit(digits[0][:60]).value(digits[0][70:73])
    valuation.save(tmp_path / "run")
    settings = Valuation.load(tmp_path / "run").record.settings
    assert settings["mixing"] == "decisive"
    assert settings["weighting"] == "expected-rank"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixing": "best"}, "unknown mixing 'best'; choose one of fixed, decisive"),
        ({"temperature": "spacing/0"}, "temperature 'spacing/0' is unknown; pass a number above 0"),
        ({"temperature": "spacing/x"}, "or spacing/N, such as spacing/50"),
        ({"temperature": "spacings"}, "temperature 'spacings' is unknown"),
    ],
)
def test_settings_that_cannot_be_say_so(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GMValuator(**settings)


def test_a_part_of_the_spacing(digits: Digits) -> None:
    used = []
    for temperature in ("spacing", "spacing/20", "spacing/40"):
        valuator = GMValuator(
            **NEXT | {"weighting": "softmax", "temperature": temperature}, cache=False, null="off"
        )
        valuation = valuator.fit(digits[0][:60]).value(digits[0][70:72])
        used.append(valuation.record.settings["temperature_used"])
        again = valuation.reweigh(temperature="spacing/80").record.settings["temperature_used"]
        assert again == pytest.approx(used[0] / 4)
    assert used[0] == used[1] == pytest.approx(2 * used[2])
