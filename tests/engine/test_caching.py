"""Valuations over a cache: the same values, and no image through a network twice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator import GMValuator, ImageSet, InputError, Preprocessing
from gmvaluator.engine.trained import Trained
from gmvaluator.errors import CacheWarning
from gmvaluator.memory import DEFAULT_MEMORY, allocate, parse_memory

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]

# torch: compiling for OpenVINO would take most of the time
SMALL: dict[str, Any] = {
    "encoder": "efficientnet-lite0@32",
    "k": 5,
    "candidates": 20,
    "backend": "torch",
}
OWN = "efficientnet-lite0:root@32"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def images_of(valuation: Any, side: str, kind: str) -> int:
    return int(valuation.info["images"][side][kind].get(OWN, 0))


@pytest.mark.parametrize("rerank", ["none", ["efficientnet-lite0@32", "l2"], "st-lpips@32"])
def test_a_second_valuation_encodes_no_training_image_and_says_the_same(
    digits: Digits, cache: Path, rerank: Any
) -> None:
    train, generated = digits[0][:60], digits[0][150:160]
    settings = SMALL | {"rerank": rerank}
    plain = GMValuator(**settings, cache=False).fit(train).value(generated)
    first = GMValuator(**settings, cache=cache).fit(train).value(generated)
    second = GMValuator(**settings, cache=cache).fit(train).value(generated)
    for valuation in (first, second):
        np.testing.assert_array_equal(valuation.values, plain.values)
        np.testing.assert_array_equal(valuation.quality, plain.quality)
    assert images_of(first, "train", "encoded") == len({image.tobytes() for image in train})
    assert images_of(first, "generated", "encoded") == 10
    for side in ("train", "generated"):
        assert images_of(second, side, "encoded") == 0
    assert images_of(second, "train", "cached") >= 60
    other = GMValuator(**settings, cache=cache).fit(train).value(digits[0][170:180])
    assert images_of(other, "train", "encoded") == 0
    assert images_of(other, "generated", "encoded") == 10


def test_without_a_cache_nothing_is_written(
    digits: Digits, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMVALUATOR_CACHE", str(cache))
    settings = SMALL | {"rerank": ["efficientnet-lite0@32", "st-lpips@32"], "index": "pq"}
    GMValuator(**settings, cache=False).fit(digits[0][:50]).value(digits[0][50:55])
    assert not cache.exists()
    GMValuator(**SMALL, rerank="none").fit(digits[0][:50])
    assert list(cache.rglob("*.safetensors"))


def test_what_a_users_own_code_computes_is_never_kept(digits: Digits, cache: Path) -> None:
    from gmvaluator.encoders.custom import wrap

    def flat(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return pixels.reshape(len(pixels), -1).astype(np.float32)

    encoder = wrap(flat, preprocessing=Preprocessing(8))
    settings: dict[str, Any] = {"encoder": encoder, "rerank": "none", "index": "pq"}
    GMValuator(**settings, cache=cache).fit(digits[0][:90]).value(digits[0][90:95])
    assert not cache.exists()


def test_a_trained_index_is_kept_and_opened(
    digits: Digits, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SMALL | {"index": "pq", "rerank": "none"}
    train, generated = digits[0][:150], digits[0][150:160]
    first = GMValuator(**settings, cache=cache).fit(train).value(generated)
    (note,) = (cache / "indexes").glob("*.json")

    def never(*_: object) -> None:
        raise AssertionError("the index was built again")

    monkeypatch.setattr("gmvaluator.matching.search.kept.build_index", never)
    second = GMValuator(**settings, cache=cache).fit(train).value(generated)
    np.testing.assert_array_equal(second.values, first.values)
    monkeypatch.undo()
    # another training set is another index
    GMValuator(**settings, cache=cache).fit(train[:-1]).value(generated)
    assert len(list((cache / "indexes").glob("*.json"))) == 2
    os.truncate(note.with_suffix(""), 100)
    with pytest.warns(CacheWarning, match="damaged"):
        third = GMValuator(**settings, cache=cache).fit(train).value(generated)
    np.testing.assert_array_equal(third.values, first.values)


def test_a_small_budget_changes_no_value(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    train, generated = digits[0][:150], digits[0][150:170]
    # exact: `auto` may choose another index within another budget
    settings = SMALL | {"index": "exact", "rerank": ["efficientnet-lite0@32", "l2"], "cache": False}
    roomy = GMValuator(**settings).fit(train).value(generated)
    monkeypatch.setattr("gmvaluator.memory.SMALLEST", 1)
    valuator = GMValuator(**settings, memory=1_000).fit(train)
    fitted = valuator.fitted_
    assert isinstance(fitted, Trained)
    base = fitted.vectors
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    np.testing.assert_array_equal(valuator.value(generated).values, roomy.values)


@pytest.mark.parametrize(
    ("given", "bytes_"),
    [
        (None, DEFAULT_MEMORY),
        ("2GB", 2 << 30),
        ("1.5 GiB", 3 << 29),
        ("512m", 512 << 20),
        (100 << 20, 100 << 20),
        ("1T", 1 << 40),
    ],
)
def test_sizes_are_read(given: Any, bytes_: int) -> None:
    assert parse_memory(given) == bytes_


@pytest.mark.parametrize("given", ["lots", "", "-1GB", "2 potatoes", "1KB", 0])
def test_no_sizes_are_refused(given: Any) -> None:
    with pytest.raises(InputError, match="memory"):
        GMValuator(encoder="l2", rerank="none", memory=given)


def test_allocated_arrays_hold_what_they_are_given() -> None:
    for budget, kind in ((48, np.ndarray), (47, np.memmap)):
        array = allocate((3, 4), budget)
        assert type(array) is kind
        array[:] = np.arange(12).reshape(3, 4)
        assert array.sum() == 66


def test_a_bad_setting_is_told_before_any_weights_are_looked_for() -> None:
    with pytest.raises(InputError, match="k=0 is too small"):
        GMValuator(encoder="timm:vit_base_patch14_dinov2", k=0)


def test_known_images_are_not_decoded(digits: Digits) -> None:
    images = ImageSet.open(digits[0][:10])
    known = {images.content_key(row) for row in (0, 3, 4, 9)}
    (batch,) = images.batches(Preprocessing(8), known=known.__contains__)
    assert batch.rows.tolist() == list(range(10))
    assert batch.decoded.tolist() == [1, 2, 5, 6, 7, 8]
    (whole,) = images.batches(Preprocessing(8))
    assert whole.decoded.tolist() == list(range(10))
    assert batch.keys == whole.keys
    np.testing.assert_array_equal(batch.pixels, whole.pixels[batch.decoded])
