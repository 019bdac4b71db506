"""Encoded images without the metadata that their pixels do not need.

Pillow reads metadata before pixels, and refuses a file for metadata that is large or odd. So what
the pixels do not need is taken out of PNG and JPEG files first. The other formats are read whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_PNG_HEAD = 8
_PNG_FRAME = 12  # length, kind and checksum of a chunk
_ORIENTED_TEXT = ("Raw profile type exif", "XML:com.adobe.xmp")
"""Keywords of the texts of a PNG that may hold the orientation, as Pillow calls them."""
_TEXT_LIMIT = 2**24

# after these markers of a JPEG comes a length: tables, frame headers, restart interval
_TABLES = frozenset((*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD, 0xDE, 0xDF))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_FRAME_LENGTH = 9  # up to the width
_APPLICATION = range(0xE0, 0xF0)
_COMMENT = 0xFE
# what libjpeg reads of application data, which is at least so long there
_JFIF = (0xE0, b"JFIF\0", 14)
_ADOBE = (0xEE, b"Adobe", 12)
_ORIENTED = ((0xE1, b"Exif\0\0", 6), (0xE1, b"http://ns.adobe.com/xap/1.0/\0", 29))


def bare_png(content: bytes) -> tuple[bytes, dict[str, bytes | str]]:
    """A PNG file of the chunks that its pixels need.

    Returns:
        The file, and what says how it is turned, under the names of Pillow's `info`.

    Raises:
        ValueError: the chunks are broken before the pixels begin.
    """
    kept = [content[:_PNG_HEAD]]
    turned: dict[str, bytes | str] = {}
    for kind, chunk in _png_chunks(content):
        if not kind[0] & 0x20:  # a capital letter: the pixels cannot be read without this chunk
            kept.append(chunk)
        elif kind == b"tRNS":
            if not _is_whole(chunk):
                raise ValueError("wrong checksum of chunk tRNS")
            kept.append(chunk)
        elif kind == b"eXIf" and _is_whole(chunk):
            turned["exif"] = b"Exif\0\0" + chunk[8:-4]
        elif kind in (b"tEXt", b"zTXt", b"iTXt") and _is_whole(chunk):
            turned.update(_oriented_text(kind, chunk[8:-4]))
    return b"".join(kept), turned


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and bytes of each chunk up to the end of the image, or of the file."""
    at, has_pixels = _PNG_HEAD, False
    while at + 8 <= len(content):
        kind = content[at + 4 : at + 8]
        if not kind.isalpha():
            if has_pixels:
                return
            raise ValueError(f"broken chunk {kind!r}")
        end = at + _PNG_FRAME + int.from_bytes(content[at : at + 4], "big")
        yield kind, content[at:end]
        if kind == b"IEND":
            return
        at, has_pixels = end, has_pixels or kind == b"IDAT"


def _is_whole(chunk: bytes) -> bool:
    return zlib.crc32(memoryview(chunk)[4:-4]) == int.from_bytes(chunk[-4:], "big")


def _oriented_text(kind: bytes, data: bytes) -> dict[str, bytes | str]:
    """The text of a PNG chunk, if it may hold the orientation and can be read."""
    keyword, _, rest = data.partition(b"\0")
    name = keyword.decode("latin-1")
    if name not in _ORIENTED_TEXT:
        return {}
    packed = kind == b"zTXt"
    if kind == b"zTXt":
        rest = rest[1:]
    elif kind == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    if packed:
        try:
            rest = zlib.decompressobj().decompress(rest, _TEXT_LIMIT)
        except zlib.error:
            return {}
    return {name: rest.decode("utf-8", "replace")}


def bare_jpeg(content: bytes) -> bytes:
    """A JPEG file without comments and application data that its pixels do not need.

    Where its markers are odd, it stays as it is from there on.
    """
    kept = [content[:2]]
    at = 2
    for marker, start, end in _jpeg_segments(content):
        metadata = marker in _APPLICATION or marker == _COMMENT
        if not metadata or _decides(marker, content[start + 4 : end]):
            kept.append(content[start:end])
        at = end
    return b"".join((*kept, content[at:]))


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG file, as stored; None where its head does not say."""
    for marker, start, end in _jpeg_segments(content):
        if marker in _FRAMES and end - start >= _FRAME_LENGTH:
            height = int.from_bytes(content[start + 5 : start + 7], "big")
            return int.from_bytes(content[start + 7 : start + 9], "big"), height
    return None


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of the segments of a JPEG, up to its pixels or to an odd one."""
    at = 2
    while content[at : at + 1] == b"\xff" and at + 4 <= len(content):
        marker = content[at + 1]
        if marker == 0xFF:  # markers may be padded
            at += 1
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        end = at + 2 + length
        known = marker in _APPLICATION or marker == _COMMENT or marker in _TABLES
        if not known or length < 2 or end > len(content):
            return
        yield marker, at, end
        at = end


def _decides(marker: int, data: bytes) -> bool:
    """Whether application data of a JPEG says how to read or to turn its pixels."""
    return any(
        marker == wanted and data.startswith(head) and len(data) >= least
        for wanted, head, least in (_JFIF, _ADOBE, *_ORIENTED)
    )
