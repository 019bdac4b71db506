"""Which kind of source something is: a path by what lies there, else a Python object."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gmvaluator.errors import InputError
from gmvaluator.images.sources.arrays import open_npy, open_npz
from gmvaluator.images.sources.base import (
    IMAGE_SUFFIXES,
    PATHS,
    Listing,
    image_format,
    why,
)
from gmvaluator.images.sources.files import image_folder, open_csv, single_image, walk
from gmvaluator.images.sources.objects import open_object
from gmvaluator.images.sources.parquet import open_parquet
from gmvaluator.images.sources.tar import expand_braces, open_tar
from gmvaluator.places import refusal_as_images


def open_source(source: Any) -> Listing:
    """List a source of any kind that `ImageSet.open` takes.

    Raises `InputError` if the source is missing, empty, damaged or of an unknown kind.
    """
    if isinstance(source, str | os.PathLike):
        listing = _open_path(os.fspath(source))
    else:
        listing = open_object(source)
    if not listing.ids:
        reason = "".join(f" ({p.id}: {p.reason})" for p in listing.problems[:1])
        name = listing.location or f"the {type(source).__name__} given"
        raise InputError(f"{name} holds no images{reason}; wanted at least one: check the source.")
    return listing


def _open_path(source: str) -> Listing:
    path = Path(source).expanduser()
    try:
        exists = path.exists()
    except (OSError, ValueError) as error:
        raise InputError(f"{source!r} is not a usable path: {why(error)}.") from None
    if not exists:
        if "{" in source and source.endswith(".tar"):
            shards = [Path(name) for name in expand_braces(str(path))]
            return open_tar(shards, os.path.abspath(path))  # noqa: PTH100
        raise InputError(f"{source!r} does not exist; check the path.")
    # Not resolve(): the Hugging Face cache links names with a suffix to blobs without one.
    location = os.path.abspath(path)  # noqa: PTH100
    if path.is_dir():
        return _open_folder(Path(location))
    if not path.is_file():
        raise InputError(f"{source!r} is neither a file nor a folder; wanted {PATHS}.")
    return _open_file(Path(location))


def _open_file(path: Path) -> Listing:
    kinds: dict[str, Callable[[Path], Listing]] = {
        ".parquet": lambda p: open_parquet([p], str(p)),
        ".npz": open_npz,
        ".npy": open_npy,
        ".csv": open_csv,
        ".tar": lambda p: open_tar([p], str(p)),
    }
    suffix = path.suffix.lower()
    if suffix in kinds:
        return kinds[suffix](path)
    if suffix not in IMAGE_SUFFIXES:
        try:
            with open(path, "rb") as file:
                is_image = image_format(file.read(16)) is not None
        except OSError as error:
            raise InputError(f"{path} cannot be read: {why(error)}.") from None
        if not is_image:
            raise InputError(
                f"{path} is of an unknown type; wanted {PATHS}: convert it or unpack it first."
            )
    return single_image(path)


def _open_folder(folder: Path) -> Listing:
    """A folder of Parquet files, of tar shards, or (anything else) of images."""
    if refusal := refusal_as_images(folder):
        raise InputError(refusal)
    files, problems = walk(folder)
    suffixes = Counter(Path(path).suffix.lower() for _, path in files)
    if not any(suffixes[suffix] for suffix in IMAGE_SUFFIXES):
        packed = [suffix for suffix in (".parquet", ".tar") if suffixes[suffix]]
        if len(packed) == 2:
            raise InputError(f"{folder} mixes .parquet and .tar files; pass one of the files.")
        if packed:
            paths = [Path(path) for _, path in files if path.lower().endswith(packed[0])]
            opener = open_parquet if packed == [".parquet"] else open_tar
            listing = opener(paths, str(folder))
            return replace(listing, problems=(*problems, *listing.problems))
    return image_folder(folder, files, problems)
