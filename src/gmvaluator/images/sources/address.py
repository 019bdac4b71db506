"""Addresses of image sets: a path, and what of the source there is meant.

`data/#split=train`, `data.parquet#image=target`, `photos/#pixel_limit=200000000`. A run records the
address, so that opening it again gives the same images.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import quote, unquote

from gmvaluator.errors import InputError


@dataclass(frozen=True)
class Choice:
    """What of a source is meant.

    Attributes:
        split: of a folder of Parquet files or shards; `all` of them.
        image: column of a Parquet file, or kind of member of tar samples (`jpg`, `seg.png`).
        pixel_limit: largest width × height of an encoded image.
    """

    split: str | None = None
    image: str | None = None
    pixel_limit: int | None = None

    def __or__(self, other: Choice) -> Choice:
        """The same, with what `other` chose."""
        return replace(self, **dict(other.chosen()))

    def chosen(self) -> Iterator[tuple[str, Any]]:
        """Name and value of each choice that was made."""
        for name in NAMES:
            value = getattr(self, name)
            if value is not None:
                yield name, value

    def refuse(self, where: object, *names: str) -> None:
        """`InputError` if one of these choices was made of a source that does not offer it."""
        for name, value in self.chosen():
            if name in names:
                raise InputError(
                    f"{where} has no choice of {name} ({name}={value} was given); leave it out."
                )


NAMES = tuple(field.name for field in fields(Choice))


def split_address(text: str) -> tuple[str, Choice]:
    """Path and choice of an address. A path that exists is taken as it is.

    Raises:
        InputError: the choice cannot be read.
    """
    path, sign, chosen = text.rpartition("#")
    if not sign or "=" not in chosen or _exists(text):
        return text, Choice()
    entries: dict[str, Any] = {}
    for part in chosen.split(","):
        name, _, value = part.partition("=")
        if name not in NAMES or not value or name in entries:
            raise InputError(
                f"{text!r} ends with {part!r}; wanted NAME=VALUE after '#', with a NAME of "
                f"{', '.join(NAMES)}, each once."
            )
        entries[name] = unquote(value)
    if "pixel_limit" in entries:
        entries["pixel_limit"] = _limit(entries["pixel_limit"])
    return path, Choice(**entries)


def join_address(path: str, choice: Choice) -> str:
    """The address of a choice at a path."""
    parts = [f"{name}={quote(str(value), safe=' /')}" for name, value in choice.chosen()]
    return f"{path}#{','.join(parts)}" if parts else path


def limited(address: str, pixel_limit: int) -> str:
    """An address with another limit of pixels, unless it names one itself."""
    path, choice = split_address(address)
    return join_address(path, Choice(pixel_limit=pixel_limit) | choice)


def _exists(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a zero byte
        return False


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise InputError(f"pixel_limit={text} was given; wanted a whole number ≥ 1.")
    return int(text)
