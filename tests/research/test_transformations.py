"""Graded transformations: that they do what their names say, and to the degree they say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator import ImageSet
from gmvaluator.errors import InputError
from gmvaluator.evaluation.planted.transformations import (
    EASY,
    MILD,
    TRANSFORMATIONS,
    mildly,
    styled,
    suited,
)
from gmvaluator.images.decoding import encode_jpeg
from gmvaluator.images.pixels import load_pixels
from image_makers import random_images

Pixels = NDArray[np.uint8]
Digits = tuple[Pixels, NDArray[np.int64]]
BY_NAME = {each.name: each for each in TRANSFORMATIONS}


def transformed(name: str, images: Pixels) -> Pixels:
    return BY_NAME[name].apply(images, np.random.default_rng(0))


def colour_images(n: int = 4, size: int = 32) -> Pixels:
    """Smooth random colours: noise survives no JPEG."""
    coarse = ImageSet.open(random_images(n, 4))
    return load_pixels(coarse, size)


@pytest.mark.parametrize("name", list(BY_NAME))
def test_transformations_keep_shapes_and_change_pixels(name: str, digits: Digits) -> None:
    for images in (digits[0][:5], colour_images()):
        if images.ndim == 3 and BY_NAME[name].colour:
            continue
        before = images.copy()
        made = transformed(name, images)
        assert made.shape == images.shape
        assert made.dtype == np.uint8
        np.testing.assert_array_equal(images, before)
        assert np.array_equal(made, images) == (name == "identity")
        assert not np.shares_memory(made, images)


def test_transformations_are_what_their_names_say() -> None:
    images = colour_images(size=32)
    np.testing.assert_array_equal(transformed("flip", images), images[:, :, ::-1])
    np.testing.assert_array_equal(transformed("shift 2 px", images)[:, :, 2:], images[:, :, :-2])
    larger = colour_images(size=64)
    np.testing.assert_array_equal(transformed("shift 2 px", larger)[:, :, 4:], larger[:, :, :-4])
    np.testing.assert_array_equal(transformed("channels", images)[..., 1], images[..., 0])
    noise = transformed("noise 0.05", np.full((3, 32, 32), 128, np.uint8)) / 255
    assert noise.std() == pytest.approx(0.05, rel=0.05)
    square = transformed("grey square", images)
    assert (square != images).any(axis=3).sum(axis=(1, 2)).max() <= 11**2
    assert (square == 128).all(axis=3).sum(axis=(1, 2)).min() >= 11**2
    bright = transformed("brightness × 1.3", images)
    assert (bright >= images).all()
    contrast = transformed("contrast × 0.6", images).astype(float)
    assert contrast.std() == pytest.approx(0.6 * images.std(), rel=0.02)


def test_crops_and_rotations_meet_the_pixels_they_should() -> None:
    ramp = np.tile(np.arange(0, 200, 5, dtype=np.uint8), (1, 40, 1))  # 40 columns, 5 apart
    cropped = transformed("crop 10 %", ramp)[0, 20].astype(float)
    # columns 4 to 36 stretched over all: a slope of 5 · 0.8
    np.testing.assert_allclose(np.diff(cropped), 4, atol=1)
    assert cropped[0] == pytest.approx(5 * (4 + 0.5 * 0.8 - 0.5), abs=1)
    dot = np.zeros((1, 41, 41), np.uint8)
    dot[0, 20, 35] = 255  # 15 to the right of the centre
    turned = transformed("rotation 15°", dot)[0]
    row, column = np.unravel_index(turned.argmax(), turned.shape)
    expected = (20 - 15 * np.sin(np.pi / 12), 20 + 15 * np.cos(np.pi / 12))
    assert (row, column) == pytest.approx(expected, abs=1)


def test_jpeg_loses_more_at_lower_quality(digits: Digits) -> None:
    for images in (digits[0][:5], colour_images()):
        off = [
            np.abs(transformed(f"JPEG {quality}", images).astype(float) - images).mean()
            for quality in (90, 50, 20)
        ]
        assert 0 < off[0] < off[1] < off[2] < 20
    with pytest.raises(InputError, match="wanted uint8"):
        encode_jpeg(np.zeros((4, 4, 2), np.uint8), 90)


def test_only_colour_images_lose_their_channels() -> None:
    assert {each.name for each in suited(True)} - {each.name for each in suited(False)} == {
        "channels"
    }
    assert {*EASY, *MILD} <= set(BY_NAME)


def test_mild_copies_use_every_mild_transformation(digits: Digits) -> None:
    same = np.repeat(digits[0][:1], 60, axis=0)
    made = mildly(same, np.random.default_rng(0))
    for name in MILD:
        if name != "noise 0.05":
            assert (made == transformed(name, same[:1])).all(axis=(1, 2)).any(), name
    again = mildly(same, np.random.default_rng(0))
    np.testing.assert_array_equal(made, again)


def test_styles_are_clear(digits: Digits) -> None:
    grey, colour = digits[0][:3], colour_images()
    np.testing.assert_array_equal(styled(styled(grey)), grey)
    sepia = styled(colour)
    assert (sepia[..., 0] >= sepia[..., 1]).all()
    assert (sepia[..., 1] >= sepia[..., 2]).all()
