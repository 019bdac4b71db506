"""Metadata that pixels do not need does not decide whether an image is read."""

from __future__ import annotations

import os
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gmvaluator import ImageSet
from gmvaluator.images.metadata import bare_jpeg, bare_png
from image_makers import encode, png_chunk, png_with, random_images

IMAGE = random_images(1, 16)[0]
PNG = encode(IMAGE)
NOISE = os.urandom(3_000_000)
XMP = "<x:xmpmeta xmlns:tiff='t'><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>"


def pixels(content: bytes) -> Any:
    return ImageSet.open([content])[0]


def itxt(text: bytes, packed: bool) -> bytes:
    content = zlib.compress(text) if packed else text
    return b"XML:com.adobe.xmp\0" + bytes((packed, 0)) + b"\0\0" + content


@pytest.mark.parametrize(
    "chunk",
    [
        (b"iCCP", b"p\0\0" + zlib.compress(NOISE)),
        (b"zTXt", b"workflow\0\0" + zlib.compress(NOISE)),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(NOISE * 7)),
        (b"iTXt", itxt(b"x" * 3_000_000, True)),
        (b"tEXt", b"Raw profile type exif\0" + b"not hex"),
        (b"zTXt", b"Raw profile type exif\0\0" + b"not packed"),
        (b"pHYs", b"\0"),
        (b"gAMA", b""),
        (b"cHRM", b"\0\0"),
        (b"sRGB", b""),
        (b"acTL", b"\0"),
        (b"fcTL", b""),
    ],
    ids=lambda chunk: f"{chunk[0].decode()} of {len(chunk[1])} bytes",
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_a_png_is_its_pixels(chunk: tuple[bytes, bytes], place: str) -> None:
    for checksum in (None, b"oops"):
        chunks = png_chunk(*chunk, checksum)
        content = png_with(chunks, PNG, after_pixels=place == "after")
        np.testing.assert_array_equal(pixels(content), IMAGE)


def test_much_text_in_many_chunks() -> None:
    notes = (png_chunk(b"tEXt", b"note\0" + b"x" * 1_000_000) for _ in range(70))
    np.testing.assert_array_equal(pixels(png_with(b"".join(notes), PNG)), IMAGE)


@pytest.mark.parametrize(
    "chunk",
    [
        (b"iTXt", itxt(XMP.encode(), False)),
        (b"iTXt", itxt(XMP.encode(), True)),
        (b"tEXt", b"XML:com.adobe.xmp\0" + XMP.encode()),
    ],
    ids=["plain", "packed", "tEXt"],
)
def test_a_text_that_turns_the_picture_counts(chunk: tuple[bytes, bytes]) -> None:
    np.testing.assert_array_equal(pixels(png_with(png_chunk(*chunk), PNG)), np.rot90(IMAGE, -1))


@pytest.mark.parametrize("packed", [False, True])
def test_a_raw_profile_that_turns_the_picture_counts(packed: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    digits = exif.tobytes().hex()
    text = f"\nexif\n{len(digits) // 2:8d}\n{digits}\n".encode()
    name = b"Raw profile type exif\0"
    chunk = (b"zTXt", name + b"\0" + zlib.compress(text)) if packed else (b"tEXt", name + text)
    np.testing.assert_array_equal(pixels(png_with(png_chunk(*chunk), PNG)), np.rot90(IMAGE, -1))


def test_a_png_without_metadata_is_the_same_file() -> None:
    assert bare_png(PNG) == (PNG, {})
    transparent = encode(Image.new("P", (4, 4)), transparency=0)
    assert bare_png(transparent) == (transparent, {})


# --- JPEG ----------------------------------------------------------------------------------------


def jpeg_with(content: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with further segments in front."""
    inserted = b"".join(
        struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data for marker, data in segments
    )
    return content[:2] + inserted + content[2:]


@pytest.mark.parametrize(
    "segment",
    [
        (0xE0, b"JFIF\0"),
        (0xE0, b"JFIF"),
        (0xEE, b"Adobe"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"ICC_PROFILE\0\1"),
        (0xED, b"Photoshop 3.0\x008BIM\4"),
        (0xED, b"Photoshop 3.0\x008BIM\3\xed\0\0\0\0\0\2ab"),
        (0xE1, b"Exif\0\0"),
        (0xFE, b""),
    ],
    ids=lambda segment: f"{segment[0]:x} {segment[1]!r}",
)
def test_a_jpeg_is_its_pixels(segment: tuple[int, bytes]) -> None:
    plain = encode(IMAGE, "JPEG")
    np.testing.assert_array_equal(pixels(jpeg_with(plain, segment)), pixels(plain))


def test_application_data_that_says_how_to_read_colours_stays() -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    content = encode(red, "JPEG", icc_profile=NOISE[:200_000])
    bare = bare_jpeg(content)
    assert len(bare) < 5_000
    np.testing.assert_allclose(pixels(bare), np.full((8, 8, 3), (255, 0, 0)), atol=4)
    # red, green and blue as they are: without the Adobe segment libjpeg takes them for YCbCr
    kept = encode(Image.new("RGB", (8, 8), (200, 100, 50)), "JPEG", keep_rgb=True)
    np.testing.assert_allclose(pixels(kept), np.full((8, 8, 3), (200, 100, 50)), atol=4)


def test_padding_between_markers_is_no_damage() -> None:
    plain = encode(IMAGE, "JPEG")
    np.testing.assert_array_equal(pixels(plain[:2] + b"\xff\xff" + plain[2:]), pixels(plain))


# --- the others ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"icc_profile": NOISE, "comment": b"c" * 60_000}),
        ("WEBP", {"icc_profile": NOISE, "exif": NOISE, "xmp": NOISE, "lossless": True}),
        ("TIFF", {"icc_profile": NOISE, "description": "d" * 3_000_000}),
        ("GIF", {"comment": b"c" * 3_000_000}),
        ("AVIF", {"icc_profile": NOISE, "xmp": NOISE}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_large_metadata_of_other_formats(kind: str, options: dict[str, Any]) -> None:
    plain = {"lossless": True} if kind == "WEBP" else {}
    picture = Image.fromarray(IMAGE[:, :, 0] if kind == "GIF" else IMAGE)
    wanted = pixels(encode(picture, kind, **plain))
    content = encode(picture, kind, **options)
    assert len(content) > 2_500_000
    np.testing.assert_array_equal(pixels(content), wanted)
