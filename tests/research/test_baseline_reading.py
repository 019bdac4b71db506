"""Sets as a network takes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gmvaluator import ImageSet, Skip
from gmvaluator.baselines.reading import Pixels, ReadSet


def test_pixels_are_equal_when_their_arrays_are() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    labels = np.array([1, 0])
    assert Pixels(images, labels) == Pixels(images.copy(), labels.copy())
    assert Pixels(images, None) == Pixels(images.copy(), None)
    assert Pixels(images, labels) != Pixels(images, None)
    assert Pixels(images, labels) != Pixels(images, labels[::-1])
    assert Pixels(images, labels) != Pixels(images[::-1], labels)
    assert Pixels(images, labels) != "pixels"
    with pytest.raises(TypeError, match="unhashable"):
        hash(Pixels(images, labels))


def test_read_sets_are_equal_when_their_parts_are() -> None:
    images = ImageSet.open(np.zeros((2, 4, 4, 3), dtype=np.uint8))
    pixels = Pixels(np.zeros((2, 3, 4, 4), dtype=np.uint8), None)
    one = ReadSet(images, pixels, (Skip("a", "truncated"),))
    assert one == ReadSet(images, replace(pixels, bytes=pixels.bytes.copy()), one.skipped)
    assert one != replace(one, skipped=())
    assert one != replace(one, pixels=Pixels(pixels.bytes + 1, None))
