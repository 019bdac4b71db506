"""Which kind of source something is: a path by what lies there, else a Python object."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gmvaluator.errors import InputError
from gmvaluator.images.sources.address import Choice, join_address, split_address
from gmvaluator.images.sources.arrays import open_npy, open_npz
from gmvaluator.images.sources.base import (
    IMAGE_SUFFIXES,
    PATHS,
    UNREAD_SUFFIXES,
    LeftOut,
    Listing,
    why,
)
from gmvaluator.images.sources.files import image_folder, is_image, open_csv, single_image, walk
from gmvaluator.images.sources.objects import open_object
from gmvaluator.images.sources.parquet import holds_images, open_parquet
from gmvaluator.images.sources.splits import of_split
from gmvaluator.images.sources.tar import expand_braces, open_tar
from gmvaluator.places import refusal_as_images


def open_source(source: Any) -> Listing:
    """List a source of any kind that `ImageSet.open` takes.

    Raises `InputError` if the source is missing, empty, damaged or of an unknown kind.
    """
    if isinstance(source, str | os.PathLike):
        listing = _open_address(os.fspath(source))
    else:
        listing = open_object(source)
    if not listing.ids:
        reason = "".join(f" ({p.id}: {p.reason})" for p in listing.problems[:1])
        reason += f" ({listing.left_out})" if listing.left_out.as_json() else ""
        name = listing.location or f"the {type(source).__name__} given"
        raise InputError(f"{name} holds no images{reason}; wanted at least one: check the source.")
    return listing


def _open_address(address: str) -> Listing:
    source, choice = split_address(address)
    listing = _open_path(source, choice)
    choice = choice | listing.choice
    location = None if listing.location is None else join_address(listing.location, choice)
    return replace(listing, location=location, choice=choice)


def _open_path(source: str, choice: Choice) -> Listing:
    try:
        path = Path(source).expanduser()
        exists = path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{source!r} is not a usable path: {why(error)}.") from None
    if not exists:
        if "{" in source and source.endswith(".tar"):
            choice.refuse(source, "split")
            shards = [Path(name) for name in expand_braces(os.path.abspath(path))]  # noqa: PTH100
            return open_tar(shards, os.path.abspath(path), choice.image)  # noqa: PTH100
        raise InputError(f"{source!r} does not exist; check the path.")
    # Not resolve(): the Hugging Face cache links names with a suffix to blobs without one.
    location = os.path.abspath(path)  # noqa: PTH100
    if path.is_dir():
        return _open_folder(Path(location), choice)
    if not path.is_file():
        raise InputError(f"{source!r} is neither a file nor a folder; wanted {PATHS}.")
    choice.refuse(path, "split")
    if path.suffix.lower() not in OPENERS:
        choice.refuse(path, "image")
    return _open_file(Path(location), choice.image)


def _open_file(path: Path, image: str | None) -> Listing:
    kinds: dict[str, Callable[[Path], Listing]] = {
        ".npz": open_npz,
        ".npy": open_npy,
        ".csv": open_csv,
    }
    suffix = path.suffix.lower()
    if suffix in OPENERS:
        return OPENERS[suffix]([path], str(path), image)
    if suffix in kinds:
        return kinds[suffix](path)
    try:
        if is_image(path):
            return single_image(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {why(error)}.") from None
    raise InputError(
        f"{path} is of an unknown type; wanted {PATHS}: convert it or unpack it first."
    )


OPENERS = {".parquet": open_parquet, ".tar": open_tar}
"""Packed files by suffix: a folder of them is one set."""


def _open_folder(folder: Path, choice: Choice) -> Listing:
    """A folder of Parquet files, of tar shards, or (anything else) of images."""
    if refusal := refusal_as_images(folder):
        raise InputError(refusal)
    walked = walk(folder)
    by_suffix: dict[str, list[tuple[str, str]]] = {}
    for id_, path in walked.files:
        by_suffix.setdefault(Path(path).suffix.lower(), []).append((id_, path))
    if ".tar" in by_suffix and ".parquet" in by_suffix:
        # img2dataset writes a table beside each shard, of the same name
        shards = {Path(path).with_suffix("") for _, path in by_suffix[".tar"]}
        tables = {Path(path).with_suffix("") for _, path in by_suffix[".parquet"]}
        if tables <= shards and not holds_images(Path(by_suffix[".parquet"][0][1])):
            del by_suffix[".parquet"]
    packed = [suffix for suffix in OPENERS if suffix in by_suffix]
    if not packed or by_suffix.keys() & (IMAGE_SUFFIXES | UNREAD_SUFFIXES):
        choice.refuse(folder, "split", "image")
        return image_folder(folder, walked)
    if len(packed) == 2:
        raise InputError(
            f"{folder} mixes .parquet and .tar files; pass one of the files, or some of the shards "
            f"by a pattern such as {folder / '{00000..00010}.tar'}."
        )
    parts = of_split(by_suffix[packed[0]], choice.split, folder)
    listing = OPENERS[packed[0]](parts, str(folder), choice.image)
    return replace(
        listing,
        problems=(*walked.problems, *listing.problems),
        left_out=LeftOut(len(walked.files) - len(by_suffix[packed[0]]), walked.results),
    )
