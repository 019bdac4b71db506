"""Pictures of a request: parts of a form go in, an `ImageSet` comes out. Names decide nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gmvaluator.errors import ImageError
from gmvaluator.images import ImageSet
from gmvaluator.images.decoding import PIXEL_LIMIT, Decoder
from gmvaluator.images.ids import repeated
from gmvaluator.images.pillow import quiet_pillow
from gmvaluator.images.sources.base import Listing, Raw, attempt, read_file

LONGEST_NAME = 200


@dataclass(frozen=True)
class Upload:
    """A picture that was sent.

    Attributes:
        name: as the client calls it; shown, never opened.
        content: of the file.
    """

    name: str
    content: bytes

    def fault(self) -> str | None:
        """Why this is no picture, as far as its head says; None: it may be one.

        The kind of file is read from its first bytes, and its size before it is decoded.
        """
        try:
            with quiet_pillow():
                Decoder(self.content, PIXEL_LIMIT)
        except ImageError as error:
            return str(error)
        return None


@dataclass(frozen=True)
class _InMemory:
    """Reader of pictures in memory."""

    contents: tuple[bytes, ...]

    def read(self, rows: Sequence[int]) -> list[Raw | ImageError]:
        return [self.contents[row] for row in rows]


@dataclass(frozen=True)
class _InFiles:
    """Reader of pictures that were written to files of the service's own naming."""

    folder: Path

    def read(self, rows: Sequence[int]) -> list[Raw | ImageError]:
        return [attempt(lambda at: read_file(self.folder / file_name(at)), row) for row in rows]


def in_memory(contents: Sequence[bytes]) -> ImageSet:
    """Pictures in memory as a set, with their numbers as ids."""
    return ImageSet(Listing(_InMemory(tuple(contents)), tuple(map(str, range(len(contents))))))


def in_files(folder: Path, names: Sequence[str]) -> ImageSet:
    """Pictures that a job keeps in a folder, under the names that the client gave them."""
    return ImageSet(Listing(_InFiles(folder), distinct_names(names)))


def file_name(number: int) -> str:
    """The file of a picture: its number, nothing that a client wrote."""
    return f"{number:06d}"


def clean_name(name: str | None, number: int) -> str:
    """A name for people: no control characters, no path, not too long; else its number."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    last = last.encode("utf-8", "replace").decode()
    readable = "".join(letter for letter in last if letter.isprintable()).strip()
    return readable[-LONGEST_NAME:] or str(number)


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names, where two are alike with the number of the picture before them."""
    if not repeated(names):
        return tuple(names)
    return tuple(f"{number:06d}/{name}" for number, name in enumerate(names))
