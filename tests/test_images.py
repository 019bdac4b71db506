"""Decoding, resizing and batches; sources are tested in test_sources.py."""

from __future__ import annotations

import hashlib
import io
import pickle
import threading
import time
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
from gmvaluator.images import Batch, ImageSet, Preprocessing, Skip, set_fingerprint
from image_makers import encode, image_folder, png_of_size, random_images, write_files


def decoded(tmp_path: Path, content: bytes, name: str = "image") -> NDArray[np.uint8]:
    (tmp_path / name).write_bytes(content)
    return ImageSet.open(tmp_path / name)[0]


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("gmvaluator")]


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
        (b"BMonday is a text", "BMP"),
        (b"P6 nonsense", "PPM"),
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


def only(batches: Any) -> Batch:
    (batch,) = batches
    assert isinstance(batch, Batch)
    return batch


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
    with pytest.raises(InputError, match="wanted"):
        Preprocessing(**arguments)


# --- batches -------------------------------------------------------------------------------------

BAD = {2: (b"", "empty file"), 5: (b"text", "not an image file")}


@pytest.fixture
def mixed(tmp_path: Path) -> ImageSet:
    """Ten files, two of them bad."""
    contents = {f"{i}.png": encode(image) for i, image in enumerate(random_images(10))}
    contents |= {f"{row}.png": content for row, (content, _) in BAD.items()}
    return ImageSet.open(write_files(tmp_path / "mixed", contents))


@pytest.mark.parametrize("workers", [1, 2, 5, None])
@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_batches_equal_single_loading(
    mixed: ImageSet, workers: int | None, batch_size: int
) -> None:
    batches = list(mixed.batches(Preprocessing(8), batch_size, workers=workers))
    assert all(len(b.rows) + len(b.skipped) <= batch_size for b in batches)
    rows = np.concatenate([b.rows for b in batches])
    assert rows.dtype == np.int64
    assert rows.tolist() == [0, 1, 3, 4, 6, 7, 8, 9]
    pixels = np.concatenate([b.pixels for b in batches])
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(
        pixels, np.stack([mixed[row] for row in rows]).transpose(0, 3, 1, 2)
    )
    keys = [key for b in batches for key in b.keys]
    assert keys == [mixed.content_key(row) for row in rows]
    skipped = [(row, skip.id) for b in batches for row, skip in b.skipped]
    assert skipped == [(row, f"{row}.png") for row in BAD]
    for b in batches:
        for row, skip in b.skipped:
            assert isinstance(skip, Skip)
            assert BAD[row][1] in skip.reason
            assert skip.id not in skip.reason
    assert not threads()


def test_batches_of_chosen_rows_keep_their_order(mixed: ImageSet) -> None:
    order = [9, 0, 5, 9, 4]
    batches = list(mixed.batches(Preprocessing(8), 2, rows=order))
    assert [row for b in batches for row in b.rows] == [9, 0, 9, 4]
    assert [row for b in batches for row, _ in b.skipped] == [5]
    assert list(mixed.batches(Preprocessing(8), rows=[])) == []


def test_strict_batches_raise_the_first_bad_image(mixed: ImageSet) -> None:
    with pytest.raises(ImageError, match=r"^2\.png: empty file"):
        list(mixed.batches(Preprocessing(8), 4, on_error="raise"))
    assert not threads()
    assert len(list(mixed.select([0, 1]).batches(Preprocessing(8), on_error="raise"))) == 1


def test_a_batch_of_bad_images_only(mixed: ImageSet) -> None:
    batch = only(mixed.batches(Preprocessing(8), rows=[2, 5]))
    assert batch.pixels.shape == (0, 3, 8, 8)
    assert batch.keys == ()
    assert len(batch.skipped) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 0},
        {"workers": 0},
        {"on_error": "ignore"},
        {"rows": [10]},
        {"rows": [-1]},
        {"rows": [0.5]},
        {"rows": [True, False]},
    ],
)
def test_wrong_batch_arguments_fail_at_once(mixed: ImageSet, arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="given"):
        mixed.batches(Preprocessing(8), **arguments)


@pytest.mark.parametrize("failure", [None, ValueError, KeyboardInterrupt])
def test_leaving_early_ends_the_threads(
    mixed: ImageSet, failure: type[BaseException] | None
) -> None:
    batches = mixed.batches(Preprocessing(8), 1, workers=3)
    next(batches)
    assert threads()
    if failure is None:
        batches.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises(failure):
            batches.throw(failure())  # type: ignore[attr-defined]
    assert not threads()


def test_break_ends_the_threads(mixed: ImageSet) -> None:
    for _ in mixed.batches(Preprocessing(8), 1):
        break
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not threads()


def test_few_batches_are_ahead() -> None:
    class Counting:
        def __init__(self) -> None:
            self.read = 0

        def __len__(self) -> int:
            return 1000

        def __getitem__(self, row: int) -> NDArray[np.uint8]:
            self.read += 1
            return np.zeros((4, 4), np.uint8)

    source = Counting()
    batches = ImageSet.open(source).batches(Preprocessing(4), 10)
    assert source.read == 0
    next(batches)
    time.sleep(0.1)
    assert source.read <= 50
    batches.close()  # type: ignore[attr-defined]


def test_two_iterators_and_many_threads_share_a_set(mixed: ImageSet) -> None:
    wanted = np.concatenate([b.pixels for b in mixed.batches(Preprocessing(8))])
    failures: list[BaseException] = []

    def work() -> None:
        try:
            got = np.concatenate([b.pixels for b in mixed.batches(Preprocessing(8), 3)])
            np.testing.assert_array_equal(got, wanted)
        except BaseException as error:
            failures.append(error)

    crowd = [threading.Thread(target=work) for _ in range(6)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert failures == []


def test_warnings_of_pillow_stay_out_of_threads(tmp_path: Path) -> None:
    # Warnings are errors in tests: one would turn these images into skips.
    bad_exif = b"Exif\0\0II*\0\x08\0\0\0\xff\x00" + b"\x12" * 9
    contents = {
        f"{i}.jpg": encode(image, "JPEG", exif=bad_exif)
        for i, image in enumerate(random_images(40))
    }
    before = list(warnings.filters)
    images = ImageSet.open(write_files(tmp_path / "jpegs", contents))
    for batch in images.batches(Preprocessing(8), 4, workers=4):
        assert batch.skipped == ()
    assert list(warnings.filters) == before


# --- the set -------------------------------------------------------------------------------------


def test_the_set_is_a_sequence(mixed: ImageSet) -> None:
    assert len(mixed) == 10
    np.testing.assert_array_equal(mixed[-1], mixed[9])
    with pytest.raises(IndexError, match="10 images"):
        mixed[10]
    assert "10 images" in repr(mixed)
    assert ImageSet.open(mixed) is mixed
    assert [i.shape for i in ImageSet.open(random_images(3))] == [(8, 8, 3)] * 3


def test_items_are_private_and_writable() -> None:
    array = random_images(2)
    images = ImageSet.open(array)
    first = images[0]
    first[:] = 0
    np.testing.assert_array_equal(images[0], array[0])
    assert array[0].any()


def test_content_keys(mixed: ImageSet, tmp_path: Path) -> None:
    content = (tmp_path / "mixed" / "0.png").read_bytes()
    assert mixed.content_key(0) == hashlib.blake2b(content, digest_size=16).hexdigest()
    # Not decodable, but there: it has a name.
    with pytest.raises(ImageError, match=r"2\.png: empty"):
        mixed.content_key(2)
    array = random_images(1)[0]
    keys = [
        ImageSet.open([item]).content_key(0)
        for item in (array, array.copy(), array.reshape(4, 16, 3), array[:, :, 0], 255 - array)
    ]
    assert all(len(key) == 32 for key in keys)
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_palette_is_part_of_the_key_of_a_pil_image() -> None:
    pictures = [Image.new("P", (4, 4)), Image.new("P", (4, 4))]
    pictures[0].putpalette([1, 2, 3])
    pictures[1].putpalette([3, 2, 1])
    images = ImageSet.open(pictures)
    assert images.content_key(0) != images.content_key(1)
    assert only(images.batches(Preprocessing(4))).keys == tuple(map(images.content_key, range(2)))


def test_select(tmp_path: Path) -> None:
    images = ImageSet.open(image_folder(tmp_path / "a", 6))
    subset = images.select([4, 0, 3])
    assert subset.ids == tuple(images.ids[row] for row in (4, 0, 3))
    assert images.labels is not None
    assert subset.labels == tuple(images.labels[row] for row in (4, 0, 3))
    assert subset.location == images.location
    again = subset.select([2, 1])
    np.testing.assert_array_equal(again[0], images[3])
    np.testing.assert_array_equal(again[1], images[0])
    assert again.content_key(1) == images.content_key(0)
    batch = only(again.batches(Preprocessing(8)))
    assert batch.rows.tolist() == [0, 1]
    np.testing.assert_array_equal(batch.pixels[0], images[3].transpose(2, 0, 1))
    assert len(images.select([])) == 0
    for rows in ([0, 0], [6], [-1]):
        with pytest.raises(InputError, match="given"):
            images.select(rows)


def test_png_shrinks_and_never_enlarges(tmp_path: Path) -> None:
    images = ImageSet.open([np.zeros((50, 100, 3), np.uint8), np.zeros((1, 500), np.uint8)])

    def size(row: int, side: int) -> tuple[int, int]:
        with Image.open(io.BytesIO(images.png(row, side))) as picture:
            assert picture.format == "PNG"
            return picture.size

    assert size(0, 200) == (100, 50)
    assert size(0, 20) == (20, 10)
    assert size(1, 20) == (20, 1)
    with pytest.raises(InputError, match="max_side"):
        images.png(0, 0)


def test_read_bytes(mixed: ImageSet, tmp_path: Path) -> None:
    assert mixed.read_bytes(1) == (tmp_path / "mixed" / "1.png").read_bytes()
    array = random_images(1)[0]
    with Image.open(io.BytesIO(ImageSet.open([array]).read_bytes(0))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), array)


def test_sets_pickle(mixed: ImageSet) -> None:
    copy = pickle.loads(pickle.dumps(mixed.select([3, 1])))
    assert copy.ids == ("3.png", "1.png")
    np.testing.assert_array_equal(copy[1], mixed[1])


@pytest.mark.parametrize("limit", [0, -1, 1.5, "big"])
def test_wrong_pixel_limit(limit: Any) -> None:
    with pytest.raises(InputError, match="pixel_limit"):
        ImageSet.open(random_images(1), pixel_limit=limit)


names = st.lists(st.text("ab0é", max_size=4), max_size=4)


@settings(deadline=None)
@given(names, names)
def test_fingerprints_differ_when_sets_do(one: list[str], two: list[str]) -> None:
    same = one == two
    assert (set_fingerprint(one, one) == set_fingerprint(two, two)) is same
    assert len(set_fingerprint(one, one)) == 64


def test_fingerprint_needs_a_key_for_every_id() -> None:
    with pytest.raises(InputError, match="2 ids and 1 keys"):
        set_fingerprint(["a", "b"], ["x"])
