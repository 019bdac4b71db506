"""Images beyond the domain of the training images, seen as small pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gmvaluator import GMValuator, InputError, Valuation
from gmvaluator.engine.domain import (
    JOINED_STEPS,
    MOST_FITTED,
    PICTURE_SHRINKAGE,
    RARE,
    TRIMMED,
    Domain,
    Gaussian,
    sorted_steps,
)
from gmvaluator.engine.strangeness import MEASURES
from gmvaluator.scoring.conformal import null_size
from gmvaluator.settings import NULL_MEASURES
from image_makers import photographs, random_images

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]

BASE: dict[str, Any] = {
    "encoder": "pixels@8",
    "rerank": "none",
    "quality": "none",
    "null_measure": "domain",
    "cache": False,
    "k": 5,
}


def noise(m: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (m, 28, 28), np.uint8)


def share_of_strangers(valuation: Valuation, level: float) -> float:
    assert valuation.match_p is not None
    return float((valuation.match_p <= level).mean())


def test_distances_are_those_of_mahalanobis() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(40, 6)) * np.arange(1, 7)).astype(np.float32)
    model = Gaussian.of_all(vectors, 0.03)
    covariance = np.cov(vectors.T.astype(np.float64))
    covariance += 0.03 * covariance.trace() / 6 * np.eye(6)
    for image in rng.normal(size=(5, 6)).astype(np.float32):
        centred = image - vectors.mean(axis=0, dtype=np.float64)
        expected = centred @ np.linalg.solve(covariance, centred)
        assert model.distances(image[None])[0] == pytest.approx(expected, rel=1e-6)


def test_the_strangest_twentieth_is_left_out() -> None:
    vectors = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    vectors[:3] += 100
    model = Gaussian.fit(vectors, PICTURE_SHRINKAGE)
    np.testing.assert_allclose(model.mean, 0, atol=0.5)
    assert model.distances(vectors[:3]).min() > 1_000


@pytest.mark.parametrize("side", [4, 14])
def test_steps_are_the_sorted_differences_of_neighbours(side: int) -> None:
    pictures = np.random.default_rng(0).random((3, 3 * side * side)).astype(np.float32)
    for picture, steps in zip(pictures, sorted_steps(pictures), strict=True):
        square = picture.reshape(3, side, side)
        differences = sorted(
            abs(square[channel, y, x] - square[channel, y + down, x + 1 - down])
            for channel in range(3)
            for down in (0, 1)
            for y in range(side - down)
            for x in range(side - 1 + down)
        )
        left_over = len(differences) % JOINED_STEPS
        joined = np.reshape(differences[left_over:], (-1, JOINED_STEPS)).mean(axis=1)
        np.testing.assert_allclose(steps, joined, rtol=1e-5)


def test_steps_know_no_place_and_no_direction() -> None:
    square = np.random.default_rng(0).random((2, 3, 14, 14)).astype(np.float32)
    expected = sorted_steps(square.reshape(2, -1))
    for other in (square[:, :, ::-1], square.transpose(0, 1, 3, 2), 1 - square, square[:, ::-1]):
        np.testing.assert_allclose(sorted_steps(other.reshape(2, -1)), expected, atol=1e-6)


def test_strangeness_is_the_larger_reading_in_units_of_rare_training_images() -> None:
    rng = np.random.default_rng(0)
    fitted, others = (rng.random((n, 48)).astype(np.float32) for n in (200, 30))
    domain = Domain.fit(fitted, others[:10])

    def readings(pictures: NDArray[np.float32]) -> list[NDArray[np.float64]]:
        steps = sorted_steps(pictures)
        usual = np.median((sorted_steps(fitted) ** 2).mean(axis=1))
        sharp = np.minimum(1, (steps**2).mean(axis=1) / usual)
        distances = domain.pictures.distances(pictures)
        return [distances, distances * np.sqrt(1 + sharp * domain.steps.distances(steps))]

    expected = [
        reading / np.quantile(rare, 1 - RARE)
        for reading, rare in zip(readings(others), readings(fitted), strict=True)
    ]
    np.testing.assert_allclose(domain.strangeness(others), np.maximum(*expected), rtol=1e-5)
    np.testing.assert_allclose(domain.held_back, domain.strangeness(others[:10]))
    assert domain.usual == pytest.approx(np.median(readings(others[:10])[0]))


def test_equal_pictures_have_a_domain() -> None:
    domain = Domain.fit(np.ones((4, 12), np.float32), np.ones((1, 12), np.float32))
    others = np.ones((3, 12), np.float32)
    others[1, 2], others[2] = 3, 2
    strangeness = domain.strangeness(others)
    assert strangeness[0] == 0
    assert strangeness[1:].min() > 1


def test_the_models_are_not_fitted_to_the_null_sample(digits: Digits) -> None:
    settings = BASE | {"encoder": "pixels@14"}
    valuator = GMValuator(**settings, null_level=0.1).fit(digits[0][:200])
    null = valuator.value(digits[0][300:305]).record.unattributed
    trained = valuator._require_fitted()
    domain: Domain = trained.memo.get(("domain", 0.1), lambda: pytest.fail("nothing was learned"))
    n = null_size(0.1)
    assert null is not None
    assert null.n_null == len(domain.held_back) == n < MOST_FITTED
    held_back, fitted = (trained.vectors[rows] for rows in np.split(trained.order, [n]))
    expected = Domain.fit(fitted, held_back)
    np.testing.assert_allclose(domain.held_back, expected.held_back, rtol=1e-4)
    model = Gaussian.of_all(fitted, PICTURE_SHRINKAGE)
    distances = model.distances(fitted)
    usual = distances <= np.quantile(distances, 1 - TRIMMED)
    np.testing.assert_allclose(domain.pictures.mean, fitted[usual].mean(axis=0), atol=1e-5)


def test_other_domains_are_strange_to_photographs_and_blur_is_not(digits: Digits) -> None:
    """Digits lie within the spread of photographs by their pixels; their steps do not."""
    new = photographs(100, seed=1)
    blurred = np.stack([gaussian_filter(image, (1, 1, 0)) for image in new])
    light = photographs(60, seed=2)[..., :1] > 127
    icons = np.where(light, [200, 40, 90], [255, 255, 255]).astype(np.uint8)
    valuator = GMValuator(**BASE, null_level=0.05).fit(photographs(600))
    for strange in (random_images(40, 28), digits[0][:100], 255 - digits[0][:100], icons):
        assert share_of_strangers(valuator.value(strange), 0.05) > 0.9
    assert share_of_strangers(valuator.value(new), 0.05) < 0.12
    assert share_of_strangers(valuator.value(blurred), 0.05) < 0.12


def test_an_image_is_judged_alone(digits: Digits) -> None:
    """A few strangers among many others, in any order, have the p-values that they have alone."""
    valuator = GMValuator(**BASE, null_level=0.05).fit(photographs(300))
    strangers, others = np.stack([digits[0][:8]] * 3, axis=-1), photographs(40, seed=1)
    together = np.concatenate([strangers, others])
    order = np.random.default_rng(2).permutation(len(together))
    alone, mixed = (valuator.value(images).match_p for images in (strangers, together[order]))
    assert alone is not None
    assert mixed is not None
    assert alone.max() <= 0.05
    np.testing.assert_array_equal(mixed[np.argsort(order)][: len(alone)], alone)


def test_small_pictures_are_made_once(digits: Digits) -> None:
    valuator = GMValuator(**BASE | {"quality": "domain"}).fit(digits[0][:60])
    images = valuator.value(digits[0][70:79]).record.images
    assert images is not None
    assert images["generated"]["encoded"] == {
        "pixels@8": 9,
        "pixels@8 mirrored": 9,
        "pixels@14": 9,
    }


def test_noise_is_strange_and_blur_and_new_digits_are_not(digits: Digits) -> None:
    images, new = digits[0][:1000], digits[0][2000:2200]
    blurred = np.stack([gaussian_filter(image, 1.5) for image in new])
    valuator = GMValuator(**BASE, null_level=0.05).fit(images)
    assert share_of_strangers(valuator.value(noise(40)), 0.05) == 1
    assert share_of_strangers(valuator.value(255 - new), 0.05) > 0.95
    assert share_of_strangers(valuator.value(new), 0.05) < 0.12
    assert share_of_strangers(valuator.value(blurred), 0.05) < 0.12


def test_a_copy_is_never_strange(digits: Digits) -> None:
    """However far beyond the others the training image is."""
    images = np.concatenate([digits[0][:200], noise(2)])
    valuation = GMValuator(**BASE, null_level=0.05).fit(images).value(images[-3:])
    assert valuation.match_p is not None
    np.testing.assert_array_equal(valuation.match_p, 1.0)


def test_listing_order_changes_no_p_value(digits: Digits) -> None:
    images, drawn = digits[0][:150], np.concatenate([digits[0][300:306], noise(3)])
    order = np.random.default_rng(1).permutation(len(images))
    first, second = (
        GMValuator(**BASE, null_level=0.05).fit(some).value(drawn).match_p
        for some in (images, images[order])
    )
    np.testing.assert_array_equal(first, second)
    assert first is not None
    assert len(np.unique(first)) > 1


def test_held_out_images_are_a_null_sample(digits: Digits) -> None:
    images, held = digits[0][:200], np.concatenate([digits[0][300:400], digits[0][:5]])
    valuator = GMValuator(**BASE, null_level=0.05, null="withhold").fit(images)
    valuation = valuator.value(np.concatenate([noise(4), digits[0][500:504]]), holdout=held)
    test = valuation.record.unattributed
    assert test is not None
    assert (test.null, test.n_null, test.holdout_in_training) == ("holdout", 100, 5)
    assert valuation.contributions.scores[:4].sum() == 0
    assert valuation.contributions.scores[4:].sum() > 0


def test_mirror_images_take_no_part(digits: Digits) -> None:
    images, drawn = digits[0][:150], np.concatenate([digits[0][300:306], noise(3)])
    settings = {**BASE, "encoder": "pixels@14", "null_level": 0.05}
    plain, mirrored = (
        GMValuator(**settings, mirror=mirror).fit(images).value(drawn).match_p
        for mirror in (False, True)
    )
    np.testing.assert_array_equal(plain, mirrored)


def test_too_few_images_to_hold_some_back_are_no_null(digits: Digits) -> None:
    for n in (1, 2, 3):
        valuation = GMValuator(**BASE | {"k": 1}).fit(digits[0][:n]).value(digits[0][5:7])
        test = valuation.record.unattributed
        assert test is not None
        assert (test.images, bool(test.reason)) == (0, True)


def test_an_index_without_small_pictures_or_images_says_so(digits: Digits, tmp_path: Path) -> None:
    neighbours = BASE | {"null_measure": "neighbours"}
    GMValuator(**neighbours).fit(digits[0][:60]).save(tmp_path / "index")
    loaded = GMValuator.load(tmp_path / "index", null_measure="domain")
    valuation = loaded.value(digits[0][70:73])
    test = valuation.record.unattributed
    assert test is not None
    assert test.reason is not None
    assert "the training images, which null_measure domain reads, were in memory" in test.reason
    # with small pictures in the index the images need not be at hand
    GMValuator(**BASE | {"encoder": "pixels@14"}).fit(digits[0][:120]).save(tmp_path / "small")
    small = GMValuator.load(tmp_path / "small", null_level=0.05).value(digits[0][130:133])
    assert small.record.unattributed is not None
    assert small.record.unattributed.reason is None


def test_each_measure_of_the_settings_has_its_class() -> None:
    assert set(MEASURES) == set(NULL_MEASURES)


def test_an_unknown_measure_is_refused() -> None:
    with pytest.raises(InputError, match="unknown null_measure 'far'; choose one of neighbours"):
        GMValuator(null_measure="far")  # type: ignore[arg-type]


def test_noise_is_of_low_quality_though_the_training_set_holds_noise(digits: Digits) -> None:
    images, new = np.concatenate([digits[0][:500], noise(10)]), digits[0][2000:2040]
    blurred = np.stack([gaussian_filter(image, 1.5) for image in new])
    drawn = np.random.default_rng(7).integers(0, 256, (40, 28, 28), np.uint8)
    valuator = GMValuator(**BASE | {"quality": "domain", "null": "off"}).fit(images)
    real, soft, bad = (valuator.value(part).quality for part in (new, blurred, drawn))
    assert real.mean() > 0.8
    assert soft.mean() > 0.8
    assert bad.max() < 0.3
    assert ((real > 0) & (real <= 1)).all()


def test_the_usual_image_has_quality_1(digits: Digits) -> None:
    valuator = GMValuator(**BASE | {"quality": "domain"}).fit(digits[0][:200])
    held_back = valuator._require_fitted().order[: null_size(0.02)][:100]
    quality = valuator.value(digits[0][:200][held_back]).quality
    assert (quality == 1).mean() == pytest.approx(0.5, abs=0.02)


def test_quality_by_domain_needs_images_to_hold_back(digits: Digits, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'domain' needs at least 3; pass more, or quality='none'"):
        GMValuator(**BASE | {"quality": "domain", "k": 1}).fit(digits[0][:2])
    GMValuator(**BASE | {"quality": "none", "k": 1}).fit(digits[0][:2]).save(tmp_path / "index")
    loaded = GMValuator.load(tmp_path / "index", train=digits[0][:2], quality="domain")
    with pytest.raises(InputError, match="needs at least 3 different training images, not 2"):
        loaded.value(digits[0][5:7])
