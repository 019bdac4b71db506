"""Which images are readable depends on the image, the pixel limit and this package alone."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, ImageFile, PngImagePlugin

from gmvaluator import GMValuator, ImageError, ImageSet
from gmvaluator.images import Preprocessing
from image_checks import only
from image_makers import encode, png_chunk, png_of_size, png_with, random_images

KINDS = ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "QOI", "AVIF"]


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What notebooks and some packages set."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)


def reading(content: bytes, **limits: int) -> str:
    """The reason why an image is skipped, or a word about its pixels."""
    batch = only(ImageSet.open([content], **limits).batches(Preprocessing(8)))
    return str(batch.skipped[0][1].reason) if batch.skipped else f"read {batch.pixels.sum()}"


def halves(kind: str) -> dict[str, bytes]:
    content = encode(random_images(1, 64)[0], kind)
    damaged = bytearray(content)
    middle = len(content) // 2
    damaged[middle : middle + 40] = bytes(40)
    return {"cut": content[:middle], "last": content[:-9], "damaged": bytes(damaged)}


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_picture_is_read_as_without_the_switch_of_the_process(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = halves(kind)
    strictly = {name: reading(content) for name, content in contents.items()}
    assert not strictly["cut"].startswith("read")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert {name: reading(content) for name, content in contents.items()} == strictly
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.usefixtures("lenient")
def test_pngs_of_wrong_chunks_are_refused_whatever_the_process_says() -> None:
    png = encode(Image.new("RGB", (8, 8)))
    broken = png[:33] + b"\0\0\0\0\1\2\3\4" + png[33:]
    assert reading(broken).startswith("damaged PNG: broken chunk")
    wrong = png_with(png_chunk(b"tRNS", bytes(6), b"oops"), png)
    assert reading(wrong) == "damaged PNG: wrong checksum of chunk tRNS"


@pytest.mark.parametrize("kind", KINDS)
def test_limits_of_the_process_do_not_count(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encode(random_images(1, 40)[0], kind)
    wanted = reading(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 10)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 10)
    assert reading(content) == wanted
    assert wanted.startswith("read")


def test_a_gif_that_grows_is_measured_by_the_limit_of_the_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = bytearray(encode(Image.new("L", (20, 20), 7), "GIF"))
    content[6:10] = bytes((1, 0, 1, 0))  # a screen that the frame does not fit into
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert ImageSet.open([bytes(content)])[0].shape == (20, 20, 3)
    assert "20×20 pixels exceed the limit of 399" in reading(bytes(content), pixel_limit=399)


def test_how_the_process_loads_gifs_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((0, 0), 0)
    content = encode(picture, "GIF", transparency=0)
    wanted = ImageSet.open([content])[0]
    strategy = GifImagePlugin.LoadingStrategy.RGB_ALWAYS
    monkeypatch.setattr(GifImagePlugin, "LOADING_STRATEGY", strategy)
    np.testing.assert_array_equal(ImageSet.open([content])[0], wanted)


def test_other_threads_keep_their_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that reads half pictures goes on to do so while this package refuses them."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    cut = encode(random_images(1, 64)[0], "JPEG")[:-400]

    def host(_: int) -> tuple[int, int]:
        with Image.open(io.BytesIO(cut)) as picture:
            picture.load()
            return picture.size

    with ThreadPoolExecutor(4) as pool:
        sizes = pool.map(host, range(200))
        ours = list(pool.map(reading, [cut] * 200))
    assert set(sizes) == {(64, 64)}
    assert set(ours) == {"truncated JPEG"}


# --- vectors that are kept -----------------------------------------------------------------------

SETTINGS: dict[str, Any] = {
    "encoder": "efficientnet-lite0@32",
    "backend": "torch",
    "rerank": "none",
    "quality": "none",
    "null": "off",
    "dedup": "none",
    "k": 3,
}


def five_images(folder: Path) -> Path:
    folder.mkdir()
    for row, image in enumerate(random_images(5, 16)):
        (folder / f"{row}.png").write_bytes(encode(image))
    return folder


def valued(train: Path, cache: Path, **limits: int) -> tuple[int, list[str]]:
    """Number of training images, and what was skipped, of a valuation by the first of them."""
    images = ImageSet.open(train, **limits)
    valuator = GMValuator(**SETTINGS, cache=cache).fit(images)
    valuation = valuator.value(random_images(2, 8, seed=5))
    return len(valuation.train_ids), [skip.id for _, skip in valuation.skipped]


def test_a_cache_does_not_bring_half_pictures_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = five_images(tmp_path / "train")
    content = encode(random_images(1, 64)[0], "JPEG")
    (train / "half.jpg").write_bytes(content[: len(content) // 2])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    first = valued(train, tmp_path / "cache")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    assert valued(train, tmp_path / "cache") == first == (5, ["half.jpg"])


def test_a_cache_does_not_lift_the_pixel_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = five_images(tmp_path / "train")
    (train / "large.png").write_bytes(encode(random_images(1, 30)[0]))
    for module in ("decoding", "batching", "imageset"):
        monkeypatch.setattr(f"gmvaluator.images.{module}.PIXEL_LIMIT", 600)
    cache = tmp_path / "cache"
    assert valued(train, cache, pixel_limit=900) == (6, [])
    assert valued(train, cache, pixel_limit=600) == (5, ["large.png"])
    assert valued(train, cache, pixel_limit=900) == (6, [])
    with pytest.raises(ImageError, match="16×16 pixels exceed the limit of 255"):
        next(
            ImageSet.open(train, pixel_limit=255).batches(
                Preprocessing(8), on_error="raise", known=lambda _: True
            )
        )


def test_a_limit_that_is_exceeded_names_the_option() -> None:
    assert "raise the limit (--pixel-limit" in reading(png_of_size(100_000, 100_000))
