"""Fit: scales and spacings of the training images, and what too few of them say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gmvaluator import GMValuator, ImageSet, InputError
from gmvaluator.encoders.embedding import embed
from gmvaluator.engine import match
from gmvaluator.engine.train import SCALE_IMAGES, SCALE_PAIRS, fit_images, learn_scales
from gmvaluator.engine.trained import Trained
from gmvaluator.images.decoding import Decoder

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]
TWO: dict[str, Any] = {"encoder": "pixels@8", "rerank": ["pixels@14", "pixels@7"], "cache": False}
FIXED: dict[str, Any] = {"mixing": "fixed", "second_encoder": None}


def fitted(images: NDArray[np.uint8], **changes: Any) -> Trained:
    context = GMValuator(**(TWO | changes))._context()
    return fit_images(context, ImageSet.open(images), strict=False)


def test_scales_are_median_distances_to_an_images_own_candidates(digits: Digits) -> None:
    """By the obvious loop, where all pairs take part in the estimate."""
    n = SCALE_PAIRS + 1
    trained = fitted(digits[0][:n], **FIXED, candidates=SCALE_PAIRS, k=5)
    for term in trained.terms:
        images = ImageSet.open(digits[0][:n])
        (batch,) = images.batches(term.encoder.preprocessing)
        vectors = term.encoder.encode(batch.pixels).astype(np.float64)
        pairs = [
            np.linalg.norm(vectors[i] - vectors[j]) for i in range(n) for j in range(n) if i != j
        ]
        assert term.scale == pytest.approx(np.median(pairs), rel=1e-5)


@pytest.mark.parametrize("changes", [FIXED, {}], ids=["fixed", "default"])
def test_the_listing_order_of_a_set_changes_no_scale(
    digits: Digits, changes: dict[str, Any]
) -> None:
    images = digits[0][: 3 * SCALE_IMAGES]
    order = np.random.default_rng(0).permutation(len(images))
    first, second = (
        fitted(some, **changes, candidates=20, k=5) for some in (images, images[order])
    )
    assert [(term.scale, term.spacing) for term in first.terms] == [
        (term.scale, term.spacing) for term in second.terms
    ]


def test_scales_follow_the_number_of_candidates(digits: Digits) -> None:
    trained = fitted(digits[0][:150], **FIXED, candidates=100, k=5)
    few, many = (
        learn_scales(trained.terms, trained.placed, trained.spaces[0], trained.order, count)
        for count in (5, 100)
    )
    assert all(near < far for near, far in zip(few, many, strict=True))
    assert many == [term.scale for term in trained.terms]


def test_copies_count_once_and_stand_for_all(digits: Digits) -> None:
    images = np.concatenate([digits[0][:30], digits[0][:5]])
    trained = fitted(images, k=5)
    assert (len(trained.train.ids), len(trained.order), trained.n_copies) == (35, 30, 5)
    assert [len(space.vectors) for space in trained.spaces] == [30, 30]
    np.testing.assert_array_equal(trained.in_whole(np.arange(30)), trained.clusters.kept)  # type: ignore[union-attr]
    np.testing.assert_array_equal(trained.ties[trained.order], np.arange(30))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"quality": "none"},
            "mixing several re-rank distances needs at least 2 different training images",
        ),
        (
            {},
            "quality 'domain' needs at least 3 different training images, and the 4 are copies of",
        ),
        (
            {"rerank": "none", "quality": "realism"},
            "quality 'realism' needs at least 2 different training images",
        ),
        (
            {"rerank": "none", "quality": "none", "weighting": "softmax", "temperature": "spacing"},
            "temperature 'spacing' needs at least 2 different training images",
        ),
    ],
)
def test_copies_of_one_image_are_too_few(
    digits: Digits, changes: dict[str, Any], message: str
) -> None:
    copies = np.repeat(digits[0][:1], 4, axis=0)
    with pytest.raises(InputError, match=message):
        fitted(copies, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        FIXED,
        {},
        {"null": "off"},
        {"weighting": "softmax", "temperature": "spacing"},
    ],
    ids=repr,
)
def test_networks_are_counted_for_the_fit_and_not_for_what_is_kept(
    digits: Digits, changes: dict[str, Any]
) -> None:
    """The null sample, the domain, the dimension and the spacing are: for later valuations."""
    valuator = GMValuator(**TWO, **changes, k=5).fit(digits[0][:40])
    first, second = (valuator.value(digits[0][40:44]).record.images for _ in range(2))
    assert first == second
    trained = valuator.fitted_
    assert trained is not None
    assert replace(trained).placed.tally.encoded["pixels@8"] == 40


def test_two_recall_encoders_share_one_decoding(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, digit in enumerate(digits[0][:30]):
        Image.fromarray(digit).save(tmp_path / f"{number:02d}.png")
    opened = Counter[bytes]()
    init = Decoder.__init__

    def counting(self: Decoder, raw: Any, pixel_limit: int) -> None:
        opened[raw] += 1
        init(self, raw, pixel_limit)

    monkeypatch.setattr(Decoder, "__init__", counting)
    settings: dict[str, Any] = {"encoder": "pixels@20", "second_encoder": "pixels@14"}
    settings |= {"rerank": ["pixels@20", "pixels@14"], "mixing": "decisive", "cache": False}
    valuator = GMValuator(**settings, k=5, quality="none", null="off").fit(tmp_path)
    assert len(opened) == 30
    assert set(opened.values()) == {1}
    opened.clear()
    valuator.value(tmp_path)
    assert set(opened.values()) == {1}


def test_mirror_images_that_share_the_decoding_change_no_value(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"encoder": "pixels@20", "second_encoder": "pixels@14", "k": 5}
    settings |= {"rerank": ["pixels@20", "pixels@14"], "mirror": True, "null": "off"}
    valuator = GMValuator(**settings, quality="none", cache=False).fit(digits[0][:40])
    generated = np.concatenate([digits[0][:3, :, ::-1], digits[0][40:43]])
    shared = valuator.value(generated)
    assert [shared.contributors(j).ids[0] for j in range(3)] == list(shared.train_ids[:3])
    monkeypatch.setattr(match, "embed", lambda *given, others, **named: embed(*given, **named))
    alone = valuator.value(generated)
    np.testing.assert_array_equal(shared.values, alone.values)
