"""Placed sets: vectors at hand, vectors encoded now, mirror images, and who must not change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.custom import wrap
from gmvaluator.encoders.embedding import embed
from gmvaluator.errors import InputError, RunError
from gmvaluator.geometry import Space
from gmvaluator.images import ImageSet, Preprocessing
from gmvaluator.matching.placed import PlacedSet, add_spaces, place_images
from gmvaluator.memory import Budget
from gmvaluator.progress import Silent

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]
SPACE = Space("euclidean")


def pixels(size: int) -> Encoder:
    def encode(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return images.reshape(len(images), -1).astype(np.float32)

    return wrap(encode, name=f"plain{size}", metric="euclidean", preprocessing=Preprocessing(size))


@pytest.fixture
def placed(digits: Digits) -> PlacedSet:
    """20 digits, without vectors at hand."""
    images = ImageSet.open(digits[0][:20])
    return PlacedSet(images, np.arange(20), embed(images, pixels(4)).keys, {}, kind="train")


def test_vectors_are_encoded_once_and_then_at_hand(placed: PlacedSet) -> None:
    encoder = pixels(8)
    more = add_spaces([(encoder, SPACE)], placed, Budget(), Silent())
    assert placed.tally.encoded == {"plain8": 20}
    again = place_images(encoder, SPACE, more, Budget(), None)
    assert again is more.vectors[encoder.fingerprint]
    assert placed.tally.encoded == {"plain8": 20}


def test_some_images_are_chosen_with_their_vectors_and_keys(placed: PlacedSet) -> None:
    encoder = pixels(8)
    whole = add_spaces([(encoder, SPACE)], placed, Budget(), Silent())
    part = whole.select(np.array([7, 3]))
    assert part.keys == (whole.keys[7], whole.keys[3])
    np.testing.assert_array_equal(part.rows, [7, 3])
    name = encoder.fingerprint
    np.testing.assert_array_equal(part.vectors[name], whole.vectors[name][[7, 3]])


def test_mirror_images_follow_the_images(placed: PlacedSet, digits: Digits) -> None:
    encoder = pixels(28)
    whole = add_spaces([(encoder, SPACE)], placed, Budget(), Silent())
    both = add_spaces([(encoder, SPACE)], whole, Budget(), Silent(), mirror=True)
    flipped = ImageSet.open(np.ascontiguousarray(digits[0][:20, :, ::-1]))
    vectors = both.vectors[encoder.fingerprint]
    assert both.mirrored
    np.testing.assert_array_equal(vectors[:20], whole.vectors[encoder.fingerprint])
    np.testing.assert_array_equal(vectors[20:], embed(flipped, encoder).vectors)
    with pytest.raises(ValueError, match="two rows per image"):
        both.select(np.array([0]))


def test_another_encoder_of_a_mirrored_set_sees_both_forms(placed: PlacedSet) -> None:
    mirrored = replace(placed, mirrored=True)
    vectors = place_images(pixels(8), SPACE, mirrored, Budget(), None)
    assert len(vectors) == 40
    plain = place_images(pixels(8), SPACE, placed, Budget(), None)
    np.testing.assert_array_equal(vectors[:20], plain)


def test_a_changed_image_is_refused_in_the_training_set_only(placed: PlacedSet) -> None:
    changed = replace(placed, keys=(*placed.keys[:-1], "another content"))
    with pytest.raises(RunError, match="has changed since it was embedded"):
        place_images(pixels(8), SPACE, changed, Budget(), None)
    generated = replace(changed, kind="generated")
    assert len(place_images(pixels(8), SPACE, generated, Budget(), None)) == 20


def test_images_that_are_not_at_hand_are_asked_for(placed: PlacedSet) -> None:
    with pytest.raises(InputError, match=r"pass them: GMValuator\.load"):
        place_images(pixels(8), SPACE, replace(placed, images=None), Budget(), None)
