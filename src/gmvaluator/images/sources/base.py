"""What all sources share: listings and readers, encoded files, names and labels."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import ImageError, InputError
from gmvaluator.images.ids import code_points, letters, repeated
from gmvaluator.images.sources.address import Choice

IMAGE_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("png", "jpg", "jpeg", "jpe", "gif", "bmp", "webp", "tif", "tiff", "avif", "qoi"),
        *("ppm", "pgm", "pbm", "pnm", "pfm"),
    )
)
UNREAD_SUFFIXES = frozenset((".heic", ".heif", ".jxl", ".jp2", ".j2k", ".jpx", ".jpf"))
"""Images of formats that are not read here: they are of the set, and skipped with advice."""
FORMATS = "PNG, JPEG, GIF, BMP, WebP, TIFF, PPM, AVIF or QOI"
PATHS = "a folder of images, an image file, .parquet, .npz, .npy, .csv or .tar"
SOURCES = (
    f"a path ({PATHS}), a list of PIL images or arrays, a uint8 array, a torch Dataset or a "
    "Hugging Face Dataset"
)
# A checkpoint renamed to .png must not fill the memory; 1 GiB holds any image within pixel limits.
MAX_FILE_BYTES = 2**30


@dataclass(frozen=True)
class Skip:
    """An item left out of a computation, and a short human reason."""

    id: str
    reason: str


@runtime_checkable
class Picture(Protocol):
    """A PIL image, as far as this module needs to know it."""

    def getbands(self) -> tuple[str, ...]: ...
    def load(self) -> Any: ...


@dataclass(frozen=True)
class LeftOut:
    """What lies in a folder of images and is no image of the set.

    Attributes:
        files: number of files that are no images.
        folders: ids of folders that hold results of this package, which are not looked into.
    """

    files: int = 0
    folders: tuple[str, ...] = ()

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(self.files + other.files, self.folders + other.folders)

    def __str__(self) -> str:
        """One line, or "" where nothing was left out."""
        n = len(self.folders)
        parts = [
            f"{self.files} other file{'s' * (self.files != 1)}" if self.files else "",
            f"{n} folder{'s' * (n != 1)} of results ({', '.join(self.folders[:3])}"
            f"{', …' if n > 3 else ''})"
            if n
            else "",
        ]
        text = " and ".join(part for part in parts if part)
        return f"{text} {'is' if self.files + n == 1 else 'are'} left out" if text else ""

    def as_json(self) -> dict[str, int]:
        """Numbers that are not zero."""
        numbers = {"files": self.files, "folders": len(self.folders)}
        return {name: number for name, number in numbers.items() if number}


# Encoded file content, a (H, W[, C]) array with C in (1, 3, 4), or a PIL image.
Raw = bytes | NDArray[np.uint8] | Picture


class Reader(Protocol):
    """Random access to the raw rows of a source."""

    def read(self, rows: Sequence[int]) -> list[Raw | ImageError]:
        """The raw content of `rows`, in their order; an unreadable row is its error."""
        ...


@dataclass(frozen=True)
class Listing:
    """A source that was listed but not read: the columns of an `ImageSet` and its reader.

    `labels` may be a function, for sources that must be read whole to know them. `notes` are
    sentences about what was chosen of the source. `choice` is what there was to choose, as far as
    it was chosen.
    """

    reader: Reader
    ids: tuple[str, ...]
    labels: tuple[str | None, ...] | Callable[[], tuple[str | None, ...] | None] | None = None
    metadata: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    location: str | None = None
    problems: tuple[Skip, ...] = ()
    left_out: LeftOut = LeftOut()
    notes: tuple[str, ...] = ()
    choice: Choice = field(default_factory=Choice)


def image_format(head: bytes) -> str | None:
    """Pillow's name of the raster format of a file, or None; its first `HEAD` bytes are enough."""
    head = head[:HEAD]
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if _brands(head) & {b"avif", b"avis"}:
        return "AVIF"
    # two letters alone begin many a text
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if _PPM.match(head):
        return "PPM"
    return None


def unread_format(head: bytes) -> str | None:
    """The name of an image format that is not read here and starts with `head`, or None."""
    for magic, name in _UNREAD_MAGIC.items():
        if head.startswith(magic):
            return name
    if _brands(head) & {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}:
        return "HEIC"
    return None


def no_image(head: bytes) -> ImageError:
    """Why content that starts with `head` cannot be read: no format of `image_format`."""
    name = unread_format(head)
    if name is None:
        return ImageError(f"not an image file ({FORMATS} wanted)")
    return ImageError(f"{name}, a format that is not read here; convert the image to PNG or JPEG")


def _brands(head: bytes) -> set[bytes]:
    """The brands of an ISO media file: AVIF and HEIC differ in them alone."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}


HEAD = 64
"""Bytes of a file that tell its format."""
_UNREAD_MAGIC = {
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}
_BMP_HEADERS = frozenset((12, 40, 52, 56, 64, 108, 124))
_PPM = re.compile(rb"P[1-6f]\s+[\d#-]")
_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"qoif": "QOI",
}


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The content of an image file; `ImageError` if it is missing, empty, huge or no image."""
    try:
        status = Path(path).stat()
        # Opening a named pipe would wait for its writer for ever.
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not a regular file")
        if status.st_size == 0:
            raise ImageError("empty file")
        if status.st_size > MAX_FILE_BYTES:
            raise ImageError(f"file of {status.st_size} bytes, above the limit of 1 GiB")
        with open(path, "rb") as file:
            head = file.read(HEAD)
            if image_format(head) is None:
                raise no_image(head)
            return head + file.read()
    except FileNotFoundError:
        raise ImageError("file not found") from None
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"file cannot be read: {why(error)}") from None


def why(error: BaseException) -> str:
    """One short line out of an exception."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text or type(error).__name__).strip().split("\n")[0][:120]


def quoted(names: Iterable[object]) -> str:
    """Names for a message, in quotes, so that spaces around them show."""
    return ", ".join(map(repr, names)) or "(none)"


def attempt(action: Callable[[int], Raw], row: int) -> Raw | ImageError:
    """What `action` reads at `row`, or its `ImageError`."""
    try:
        return action(row)
    except ImageError as error:
        return error


def printable(name: str) -> str:
    """File names that are not UTF-8 hold surrogates, which no result file could store."""
    return os.fsencode(name).decode("utf-8", "backslashreplace") if not name.isascii() else name


def unique(ids: Iterable[str], where: object) -> tuple[str, ...]:
    """The ids as a tuple; `InputError` that names `where` if the letters of one come twice."""
    ids = tuple(ids)
    if same := repeated(ids):
        shown = " or ".join(dict.fromkeys(map(code_points, same)))
        raise InputError(
            f"{where} has the id {shown} {len(same)} times; wanted unique ids: rename or drop them."
        )
    return ids


def label_text(value: Any, names: Sequence[str] | None = None) -> str | None:
    """A label as text, in composed letters: the class name if `names` are known, else str(value).

    None if the label is missing.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if value is None or value == "" or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    elif names and isinstance(value, int):
        # Hugging Face writes -1 where the label is withheld.
        if value == -1:
            return None
        value = names[value] if 0 <= value < len(names) else value
    return letters(str(value))


def numbered(
    reader: Reader,
    n: int,
    labels: tuple[str | None, ...] | Callable[[], tuple[str | None, ...] | None] | None = None,
    location: str | None = None,
) -> Listing:
    """A listing of `n` images whose ids are their row numbers."""
    return Listing(reader, tuple(map(str, range(n))), labels, location=location)
