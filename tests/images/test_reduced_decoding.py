"""JPEGs that are decoded at a fraction of their size, and decodings that several inputs share."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.custom import wrap
from gmvaluator.encoders.embedding import embed
from gmvaluator.errors import ImageError
from gmvaluator.images import ImageSet, Input, Preprocessing, decoding
from gmvaluator.images.decoding import LEAST_SIDE, Decoder, decode, fit, fraction_of
from image_checks import only
from image_makers import encode

LIMIT = 10**8


def landscape(width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3): slow waves of a different period in each direction and channel."""
    y, x = np.mgrid[:height, :width].astype(float)
    bands = [np.sin(x / 37 + band) + np.cos(y / (29 + 5 * band)) for band in range(3)]
    return np.rint(127.5 + 60 * np.stack(bands, axis=-1)).astype(np.uint8)


def whole_input(content: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The input made of the whole image."""
    return np.asarray(fit(decode(content, LIMIT), preprocessing))


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Sizes at which JPEGs were decoded."""
    seen: list[tuple[int, int]] = []
    upright = decoding._upright

    def noting(picture: Image.Image) -> Image.Image:
        if picture.format == "JPEG":
            seen.append(picture.size)
        return upright(picture)

    monkeypatch.setattr(decoding, "_upright", noting)
    return seen


@pytest.mark.parametrize(
    ("width", "height", "size", "wanted"),
    [
        (639, 640, 160, (639, 640)),
        (640, 641, 160, (320, 321)),
        (1280, 1281, 160, (320, 321)),
        (2561, 2560, 160, (321, 320)),
        (9000, 640, 160, (4500, 320)),
        (1280, 1280, 161, (640, 640)),
        (1280, 1280, 14, (320, 320)),
    ],
)
def test_a_jpeg_is_decoded_at_twice_the_input_or_more(
    sizes: list[tuple[int, int]], width: int, height: int, size: int, wanted: tuple[int, int]
) -> None:
    content = encode(Image.new("L", (width, height), 90), "JPEG")
    assert (Decoder(content, LIMIT).input(Preprocessing(size)) == 90).all()
    assert sizes == [wanted]
    assert fraction_of(content, Preprocessing(size)) == round(width / wanted[0])


def test_other_formats_are_decoded_whole() -> None:
    image = landscape(700, 650)
    for kind in ("PNG", "WEBP", "TIFF"):
        content = encode(image, kind)
        got = Decoder(content, LIMIT).input(Preprocessing(32))
        np.testing.assert_array_equal(got, whole_input(content, Preprocessing(32)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shape", ["squash", "crop"])
def test_a_reduced_jpeg_gives_nearly_the_pixels_of_the_whole(orientation: int, shape: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    # sides that no fraction divides: the last column of the decoded picture is partly beyond it
    content = encode(landscape(1297, 1385), "JPEG", quality=95, exif=exif.tobytes())
    preprocessing = Preprocessing(160, shape)
    got = Decoder(content, LIMIT).input(preprocessing)
    wanted = whole_input(content, preprocessing)
    assert not np.array_equal(got, wanted)
    assert np.abs(got.astype(int) - wanted).mean() < 0.5
    assert np.abs(got.astype(int) - wanted).max() <= 4


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_are_reduced_too(sizes: list[tuple[int, int]], mode: str) -> None:
    content = encode(Image.fromarray(landscape(640, 640)).convert(mode), "JPEG", quality=95)
    got = Decoder(content, LIMIT).input(Preprocessing(64))
    assert sizes == [(320, 320)]
    wanted = whole_input(content, Preprocessing(64))
    assert np.abs(got.astype(int) - wanted).mean() < 1


def test_a_truncated_jpeg_is_an_error_at_any_fraction() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1300, 1300), np.uint8)
    content = encode(noise, "JPEG")
    for kept in (len(content) // 3, len(content) - 2000):
        with pytest.raises(ImageError, match="truncated JPEG"):
            Decoder(content[:kept], LIMIT).input(Preprocessing(160))


def test_the_limit_counts_the_pixels_of_the_whole_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encode(Image.new("L", (1280, 1280)), "JPEG"))
    images = ImageSet.open(tmp_path, pixel_limit=1280 * 1280 - 1)
    ((_, skip),) = only(images.batches(Preprocessing(16))).skipped
    assert "1280×1280 pixels exceed" in skip.reason


def test_thumbnails_of_jpegs_keep_their_size(sizes: list[tuple[int, int]]) -> None:
    content = encode(landscape(1301, 977), "JPEG", quality=95)
    images = ImageSet.open([Image.new("L", (1, 1))])
    images._reader.read = lambda rows: [content for _ in rows]  # type: ignore[method-assign]
    thumbnail = images.thumbnail(0, 96)
    assert sizes == [(326, 245)]
    wanted = images.png(0, 96)
    assert thumbnail is not None
    whole = np.asarray(decode(wanted, LIMIT))
    assert thumbnail.pixels.shape == whole.shape == (72, 96, 3)
    assert np.abs(thumbnail.pixels.astype(int) - whole).mean() < 0.5
    # a line: 1/8 of it would be no pixel high
    line = Decoder(encode(Image.new("L", (4000, 1), 70), "JPEG"), LIMIT).thumbnail(16)
    assert line.shape == (1, 16)


# --- several inputs ------------------------------------------------------------------------------


@pytest.fixture
def photographs(tmp_path: Path) -> ImageSet:
    """A large JPEG, a small one, a PNG, and a file that is no image."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / "large.jpg").write_bytes(encode(landscape(1400, 1400), "JPEG"))
    (folder / "small.jpg").write_bytes(encode(landscape(200, 100), "JPEG"))
    (folder / "grey.png").write_bytes(encode(landscape(300, 300)[:, :, 0]))
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    return ImageSet.open(folder)


def test_inputs_share_one_decoding_and_change_nothing(
    photographs: ImageSet, sizes: list[tuple[int, int]]
) -> None:
    inputs = [Preprocessing(160), Preprocessing(14, interpolation="bilinear")]
    alone = [only(photographs.batches(preprocessing)) for preprocessing in inputs]
    assert len(sizes) == 4
    sizes.clear()
    (together,) = photographs.batches_for([Input(preprocessing) for preprocessing in inputs])
    assert Counter(sizes) == {(350, 350): 1, (200, 100): 1}
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        np.testing.assert_array_equal(one.rows, other.rows)
        assert dict(zip(one.rows, one.fractions, strict=True)) == {1: 0, 2: 4, 3: 1}
        assert one.keys == other.keys
        assert one.skipped == other.skipped
        assert [skip.id for _, skip in one.skipped] == ["bad.jpg"]


def test_an_input_of_another_fraction_has_the_pixels_it_has_alone(
    photographs: ImageSet, sizes: list[tuple[int, int]]
) -> None:
    inputs = [Preprocessing(2 * LEAST_SIDE), Preprocessing(14)]
    alone = only(photographs.batches(inputs[1]))
    sizes.clear()
    (together,) = photographs.batches_for([Input(preprocessing) for preprocessing in inputs])
    assert Counter(sizes) == {(700, 700): 1, (350, 350): 1, (200, 100): 1}
    np.testing.assert_array_equal(together[1].pixels, alone.pixels)


def test_an_image_is_decoded_for_the_inputs_that_do_not_know_it(
    photographs: ImageSet, sizes: list[tuple[int, int]]
) -> None:
    known = photographs.content_key(photographs.ids.index("large.jpg"))
    inputs = [Input(Preprocessing(160), known.__eq__), Input(Preprocessing(8))]
    ((first, second),) = photographs.batches_for(inputs)
    assert len(sizes) == 2
    assert len(first.rows) == len(second.rows) == 3
    assert len(first.decoded) == len(first.pixels) == 2
    assert len(second.decoded) == len(second.pixels) == 3


def means(size: int, name: str) -> Encoder:
    """The mean of each channel of a (size, size) input."""
    return wrap(
        lambda pixels: pixels.mean(axis=(2, 3), dtype=np.float32),
        name=name,
        preprocessing=Preprocessing(size),
    )


def test_embedding_by_two_encoders_equals_embedding_by_each(
    photographs: ImageSet, sizes: list[tuple[int, int]]
) -> None:
    first, second = means(96, "first"), means(12, "second")
    wanted = [embed(photographs, encoder) for encoder in (first, second)]
    sizes.clear()
    both = embed(photographs, first, others=[second], batch_size=2)
    assert len(sizes) == 2
    np.testing.assert_array_equal(both.vectors, wanted[0].vectors)
    np.testing.assert_array_equal(both.others[second.fingerprint], wanted[1].vectors)
    assert both.keys == wanted[0].keys
    assert both.skipped == wanted[0].skipped
    assert both.tally.encoded == {"first": 3, "second": 3}
