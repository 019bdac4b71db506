"""Uploads that are no whole pictures, the same on every run: cut, changed, bombs, polyglots."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from image_makers import encode

KINDS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")


def bomb(side: int = 30_000) -> bytes:
    """A PNG file of some kilobytes that says it has side × side pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checked)

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def malformed(n: int, seed: int = 0) -> Iterator[bytes]:
    """n contents."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (24, 24, 3), np.uint8)
    whole = {kind: encode(pixels, kind) for kind in KINDS}
    others = [
        *(b"", b"\x00", b"text", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"GIF89a"),
        *(b"%PDF-1.7", b"PK\x03\x04" + bytes(40), b"\x89PNG\r\n\x1a\n", b"BM" + bytes(60)),
        *(bomb(), bomb(9_000), whole["GIF"] + b"<script>alert(1)</script>"),
        b"GIF89a/*" + whole["JPEG"] + b"*/=1;",
        b"P6 99999 99999 255\n" + bytes(100),
    ]
    for number in range(n):
        if number < len(others):
            yield others[number]
            continue
        content = bytearray(whole[KINDS[number % len(KINDS)]])
        way = number // len(KINDS) % 4
        if way == 0:
            del content[int(random.integers(1, len(content))) :]
        elif way == 1:
            for at in random.integers(0, len(content), 20):
                content[at] = random.integers(0, 256)
        elif way == 2:
            at = int(random.integers(0, len(content)))
            content[at:at] = random.bytes(50)
        else:
            content[8:] = random.bytes(len(content) - 8)
        yield bytes(content)
