"""NumPy arrays of images, in memory or in `.npy` and `.npz` files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import ImageError, InputError
from gmvaluator.images.sources.base import Listing, Raw, label_text, numbered, why

_WANTED_ARRAY = "uint8 of shape (N,H,W), (N,H,W,1), (N,H,W,3) or (N,H,W,4)"


def check_array(array: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """The array itself; `InputError` that names `where` if it does not hold uint8 images."""
    description = f"{where} is {array.dtype} of shape {array.shape}; wanted {_WANTED_ARRAY}"
    if array.dtype != np.uint8:
        raise InputError(f"{description}: scale to 0..255 and convert with .astype('uint8').")
    if array.ndim == 3 and array.shape[-1] in (1, 3, 4):
        raise InputError(f"{description}: if it is one image, pass array[None].")
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] not in (1, 3, 4)):
        raise InputError(f"{description}: reshape or transpose it.")
    if len(array) and 0 in array.shape:
        raise InputError(f"{description}: the images have no pixels.")
    return array


@contextmanager
def _numpy_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # zipfile, zlib, the header parser and mmap raise their own kinds
        raise InputError(
            f"{path} cannot be read as {path.suffix}: {why(error)}; wanted {_WANTED_ARRAY}, "
            "saved without pickled objects."
        ) from None


def open_npy(path: Path) -> Listing:
    """One array of images, mapped into memory."""
    array = _map_npy(path)
    return numbered(ArrayReader(array, str(path)), len(array), location=str(path))


def _map_npy(path: Path) -> NDArray[np.uint8]:
    with _numpy_errors(path):
        array = np.lib.format.open_memmap(path, mode="r")
    return check_array(array, str(path))


def open_npz(path: Path) -> Listing:
    """Images and optional labels, as named arrays of an archive."""
    # The file is opened here: np.load leaves it open when the archive is damaged.
    with (
        _numpy_errors(path),
        open(path, "rb") as file,
        np.load(file, allow_pickle=False) as archive,
    ):
        arrays = {name: archive[name] for name in archive.files}
    named = next((name for name in ("images", "x", "arr_0") if name in arrays), None)
    if named is None:
        likely = [k for k, v in arrays.items() if v.ndim in (3, 4) and v.dtype == np.uint8]
        if len(likely) != 1:
            shapes = ", ".join(f"{k} {v.dtype}{v.shape}" for k, v in arrays.items()) or "nothing"
            raise InputError(
                f"{path} holds {shapes}; wanted {_WANTED_ARRAY} named 'images': rename the array."
            )
        named = likely[0]
    images = check_array(arrays[named], f"{path} array {named!r}")
    key = next((name for name in ("labels", "y", "label") if name in arrays), None)
    labels = None
    if key is not None:
        values = arrays[key]
        if values.shape != (len(images),):
            raise InputError(
                f"{path} array {key!r} has the shape {values.shape}; wanted ({len(images)},), "
                "one label an image."
            )
        labels = tuple(label_text(value) for value in values.tolist())
    return numbered(ArrayReader(images), len(images), labels, str(path))


class ArrayReader:
    """Rows of one uint8 array; with the path of a `.npy` file, it is pickled as that path."""

    def __init__(self, array: NDArray[np.uint8] | None, path: str | None = None) -> None:
        self._array = _map_npy(Path(path)) if array is None and path is not None else array
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (ArrayReader, (None if self._path else self._array, self._path))

    def read(self, rows: Sequence[int]) -> list[Raw | ImageError]:
        array = cast("NDArray[np.uint8]", self._array)
        return [np.array(array[row]) for row in rows]
