"""Decoding, resizing and encoding of single images."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from gmvaluator.errors import ImageError, InputError
from gmvaluator.images import ImageSet, Preprocessing
from gmvaluator.images.decoding import encode_png
from image_checks import only
from image_makers import encode, png_of_size, random_images


def decoded(tmp_path: Path, content: bytes, name: str = "image") -> NDArray[np.uint8]:
    (tmp_path / name).write_bytes(content)
    return ImageSet.open(tmp_path / name)[0]


def pixel(image: NDArray[np.uint8], x: int = 0, y: int = 0) -> list[int]:
    return [int(value) for value in image[y, x]]


# --- modes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "GIF", "JPEG", "QOI", "AVIF"]
)
def test_every_format_decodes(tmp_path: Path, kind: str) -> None:
    flat = np.full((6, 9, 3), (200, 100, 50), np.uint8)
    image = decoded(tmp_path, encode(flat, kind))
    assert image.shape == (6, 9, 3)
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image.astype(int), flat, atol=6)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_modes_repeat_the_channel(tmp_path: Path, mode: str) -> None:
    values = np.array([[0, 255], [255, 0]], np.uint8)
    image = decoded(tmp_path, encode(Image.fromarray(values).convert(mode)))
    np.testing.assert_array_equal(image, np.repeat(values[:, :, None], 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled(tmp_path: Path, kind: str) -> None:
    values = np.array([[65535, 32768], [250, 0]], np.uint16)
    image = decoded(tmp_path, encode(values, kind))
    np.testing.assert_array_equal(image[:, :, 0], [[255, 128], [1, 0]])


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array([[0, 200, 255]], np.int32), [0, 200, 255]),
        (np.array([[0, 32768, 65535]], np.int32), [0, 128, 255]),
        (np.array([[-5, 65535, 1_000_000]], np.int32), [0, 255, 255]),
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[-3.0, 99.6, 300.0]], np.float32), [0, 100, 255]),
    ],
)
def test_32_bit_values(tmp_path: Path, values: NDArray[Any], wanted: list[int]) -> None:
    assert decoded(tmp_path, encode(values, "TIFF"))[0, :, 1].tolist() == wanted


def test_float_with_nan_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="NaN"):
        decoded(tmp_path, encode(np.array([[0.0, np.nan]], np.float32), "TIFF"))


def test_cmyk(tmp_path: Path) -> None:
    red = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    assert pixel(decoded(tmp_path, encode(red, "TIFF"))) == [255, 0, 0]
    np.testing.assert_allclose(pixel(decoded(tmp_path, encode(red, "JPEG"))), [255, 0, 0], atol=4)


@pytest.mark.parametrize(
    ("picture", "wanted"),
    [
        (Image.new("RGBA", (2, 2), (255, 0, 0, 0)), [255, 255, 255]),
        (Image.new("RGBA", (2, 2), (255, 0, 0, 255)), [255, 0, 0]),
        (Image.new("RGBA", (2, 2), (0, 0, 0, 51)), [204, 204, 204]),
        (Image.new("LA", (2, 2), (0, 0)), [255, 255, 255]),
        (Image.new("LA", (2, 2), (40, 255)), [40, 40, 40]),
    ],
)
def test_alpha_goes_over_white(tmp_path: Path, picture: Image.Image, wanted: list[int]) -> None:
    assert pixel(decoded(tmp_path, encode(picture))) == wanted


@pytest.mark.parametrize("transparency", [0, bytes([0, 255])])
def test_palette(tmp_path: Path, transparency: int | bytes) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((1, 0), 1)
    opaque = decoded(tmp_path, encode(picture))
    assert [pixel(opaque), pixel(opaque, 1)] == [[10, 20, 30], [200, 100, 50]]
    clear = decoded(tmp_path, encode(picture, transparency=transparency))
    assert [pixel(clear), pixel(clear, 1)] == [[255, 255, 255], [200, 100, 50]]


def test_transparent_colour_of_grey_and_rgb_png(tmp_path: Path) -> None:
    grey = encode(Image.new("L", (2, 2), 7), transparency=7)
    assert pixel(decoded(tmp_path, grey)) == [255, 255, 255]
    rgb = encode(Image.new("RGB", (2, 2), (1, 2, 3)), transparency=(1, 2, 3))
    assert pixel(decoded(tmp_path, rgb)) == [255, 255, 255]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, kind: str, orientation: int) -> None:
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :8] = 255  # top left of the stored pixels
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    image = decoded(tmp_path, encode(stored, kind, exif=exif.tobytes(), **options))
    assert image.shape[:2] == ((16, 32) if orientation < 5 else (32, 16))
    bright = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "tl", 6: "tr", 7: "br", 8: "bl"}[orientation]
    y = 3 if bright[0] == "t" else -4
    x = 3 if bright[1] == "l" else -4
    assert image[y, x].min() > 200
    assert image.mean() < 60


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\xff\x00" + b"\x12" * 9]
)
def test_damaged_exif_does_not_matter(tmp_path: Path, exif: bytes) -> None:
    flat = np.full((8, 8, 3), 90, np.uint8)
    before = list(warnings.filters)
    image = decoded(tmp_path, encode(flat, "JPEG", exif=exif))
    np.testing.assert_allclose(image.astype(int), flat, atol=3)
    assert list(warnings.filters) == before


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_animations(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    content = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(pixel(decoded(tmp_path, content)), [255, 0, 0], atol=6)


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF"])
def test_truncated_images_are_named(tmp_path: Path, kind: str) -> None:
    content = encode(random_images(1, 64)[0], kind)
    with pytest.raises(ImageError, match=rf"cut\.bin: (truncated|damaged) {kind}"):
        decoded(tmp_path, content[: len(content) // 2], "cut.bin")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"hello world, this is no image", "not an image file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image file"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "PNG"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"BMonday is a text of some length", "not an image file"),
        (b"BM" + bytes(12) + b"\x28" + bytes(9), "BMP"),
        (b"P6 nonsense", "not an image file"),
        (b"P6 1 nonsense", "PPM"),
        (png_of_size(100_000, 100_000), "exceed the limit"),
        (png_of_size(89_478_486, 1), "exceed the limit of 89478485"),
        (png_of_size(64, 64, b"\0"), "PNG"),
    ],
)
def test_bad_content_is_an_image_error_with_its_id(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    with pytest.raises(ImageError, match=rf"^bad\.png: .*{reason}"):
        decoded(tmp_path, content, "bad.png")


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "PPM", "JPEG", "WEBP", "AVIF"])
def test_pixel_limit_in_every_format(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").write_bytes(encode(np.zeros((20, 21, 3), np.uint8), kind))
    assert ImageSet.open(tmp_path / "a", pixel_limit=420)[0].shape == (20, 21, 3)
    with pytest.raises(ImageError, match="21×20 pixels exceed the limit of 419"):
        ImageSet.open(tmp_path / "a", pixel_limit=419)[0]


def test_a_limit_above_pillows_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decoded(tmp_path, encode(np.zeros((20, 20), np.uint8))).shape == (20, 20, 3)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"]))
def test_any_damage_decodes_or_is_an_image_error(data: st.DataObject, kind: str) -> None:
    content = bytearray(encode(random_images(1, 12)[0], kind))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    images = ImageSet.open([bytes(content)], pixel_limit=10_000)
    batch = only(images.batches(Preprocessing(4)))
    assert len(batch.rows) + len(batch.skipped) == 1
    for _, skip in batch.skipped:
        assert skip.reason
        assert "\n" not in skip.reason


# --- preprocessing -------------------------------------------------------------------------------


def prepared(image: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = only(ImageSet.open([image]).batches(preprocessing)).pixels[0]
    return pixels


def test_native_size_is_not_resampled() -> None:
    image = random_images(1, 9)[0]
    for name in ("bilinear", "bicubic", "box", "lanczos"):
        for fit in ("squash", "crop"):
            kept = prepared(image, Preprocessing(9, fit, name))
            np.testing.assert_array_equal(kept, image.transpose(2, 0, 1))


def test_squash_is_pils_resize() -> None:
    image = np.random.default_rng(1).integers(0, 256, (13, 30, 3), dtype=np.uint8)
    wanted = Image.fromarray(image).resize((8, 8), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(
        prepared(image, Preprocessing(8)), np.asarray(wanted).transpose(2, 0, 1)
    )


@pytest.mark.parametrize("shape", [(40, 61), (61, 40), (9, 31), (300, 17)])
def test_crop_is_resize_then_centre_crop(shape: tuple[int, int]) -> None:
    height, width = shape
    image = np.random.default_rng(2).integers(0, 256, (*shape, 3), dtype=np.uint8)
    short = min(shape)
    scaled = [16 if side == short else int(16 * side / short) for side in (width, height)]
    left, top = (round((side - 16) / 2) for side in scaled)
    whole = Image.fromarray(image).resize((scaled[0], scaled[1]), Image.Resampling.BICUBIC)
    wanted = np.asarray(whole)[top : top + 16, left : left + 16].transpose(2, 0, 1)
    got = prepared(image, Preprocessing(16, "crop"))
    # Float rounding of the crop's edge may move a value by one.
    assert np.abs(got.astype(int) - wanted).max() <= 1


def test_crop_of_a_line_stays_small() -> None:
    line = np.zeros((1, 200_000, 3), np.uint8)
    assert prepared(line, Preprocessing(224, "crop")).shape == (3, 224, 224)


def test_grey_and_rgb_give_the_same_pixels() -> None:
    grey = np.random.default_rng(3).integers(0, 256, (28, 28), dtype=np.uint8)
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(
        prepared(grey, Preprocessing(32)), prepared(rgb, Preprocessing(32))
    )


@pytest.mark.parametrize(
    "arguments",
    [{"size": 0}, {"size": 2.5}, {"size": 8, "fit": "pad"}, {"size": 8, "interpolation": "x"}],
)
def test_wrong_preprocessing(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"wanted|pass"):
        Preprocessing(**arguments)


# --- encoding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3)])
def test_png_of_an_array_keeps_every_pixel(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with Image.open(io.BytesIO(encode_png(array))) as picture:
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.asarray(picture), array)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 5), np.float32),
        np.zeros((3, 5, 4), np.uint8),
        np.zeros(3, np.uint8),
        np.zeros((0, 5), np.uint8),
    ],
)
def test_png_of_other_arrays_is_refused(array: NDArray[Any]) -> None:
    with pytest.raises(InputError, match=r"wanted uint8 \(H, W\) or \(H, W, 3\)"):
        encode_png(array)
