"""Images beyond the domain of the training images, seen as small pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gmvaluator import GMValuator, InputError, Valuation
from gmvaluator.engine.domain import MOST_FITTED, SHRINKAGE, TRIMMED, Domain
from gmvaluator.scoring.conformal import null_size

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


def test_strangeness_is_the_mahalanobis_distance() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(40, 6)) * np.arange(1, 7)).astype(np.float32)
    domain = Domain._of(vectors, np.arange(3))
    covariance = np.cov(vectors.T.astype(np.float64))
    covariance += SHRINKAGE * covariance.trace() / 6 * np.eye(6)
    for image in rng.normal(size=(5, 6)).astype(np.float32):
        centred = image - vectors.mean(axis=0, dtype=np.float64)
        expected = centred @ np.linalg.solve(covariance, centred)
        assert domain.strangeness(image[None])[0] == pytest.approx(expected, rel=1e-6)


def test_the_strangest_twentieth_is_left_out() -> None:
    vectors = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    vectors[:3] += 100
    domain = Domain.fit(vectors, np.arange(1))
    np.testing.assert_allclose(domain.mean, 0, atol=0.5)
    assert domain.strangeness(vectors[:3]).min() > 1_000


def test_equal_pictures_have_a_domain() -> None:
    domain = Domain.fit(np.ones((4, 3), np.float32), np.arange(1))
    strangeness = domain.strangeness(np.array([[1, 1, 1], [1, 1, 3]], np.float32))
    np.testing.assert_allclose(strangeness, [0, 4])


def test_the_model_is_not_fitted_to_the_null_sample(digits: Digits) -> None:
    valuator = GMValuator(**BASE, null_level=0.1).fit(digits[0][:200])
    valuator.value(digits[0][300:305])
    trained = valuator._require_fitted()
    domain: Domain = trained.memo.get(("domain", 0.1), lambda: pytest.fail("nothing was learned"))
    assert len(domain.held_back) == null_size(0.1) < MOST_FITTED
    fitted = np.setdiff1d(trained.order, domain.held_back)
    pixels = GMValuator(**BASE | {"encoder": "pixels@14"}).fit(digits[0][:200])._require_fitted()
    vectors = pixels.vectors[fitted]
    model = Domain._of(vectors, domain.held_back)
    strangeness = model.strangeness(vectors)
    usual = strangeness <= np.quantile(strangeness, 1 - TRIMMED)
    np.testing.assert_allclose(domain.mean, vectors[usual].mean(axis=0), atol=1e-5)


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
    GMValuator(**BASE).fit(digits[0][:60]).save(tmp_path / "index")
    valuation = GMValuator.load(tmp_path / "index").value(digits[0][70:73])
    test = valuation.record.unattributed
    assert test is not None
    assert test.reason is not None
    assert "the training images, which null_measure domain reads, were in memory" in test.reason
    # with small pictures in the index the images need not be at hand
    GMValuator(**BASE | {"encoder": "pixels@14"}).fit(digits[0][:120]).save(tmp_path / "small")
    loaded = GMValuator.load(tmp_path / "small", null_level=0.05).value(digits[0][130:133])
    assert loaded.record.unattributed is not None
    assert loaded.record.unattributed.reason is None


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


def test_quality_by_domain_needs_images_to_hold_back(digits: Digits) -> None:
    valuator = GMValuator(**BASE | {"quality": "domain", "k": 1}).fit(digits[0][:2])
    with pytest.raises(InputError, match="needs at least 3 different training images, not 2"):
        valuator.value(digits[0][5:7])
