"""Python objects: lists of images, arrays, torch and Hugging Face data sets."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import ImageError, InputError
from gmvaluator.images.sources.arrays import ArrayReader, check_array
from gmvaluator.images.sources.base import (
    SOURCES,
    Listing,
    Picture,
    Raw,
    attempt,
    label_text,
    numbered,
    quoted,
    read_file,
    why,
)
from gmvaluator.images.sources.columns import about_columns, choose_column, no_data
from gmvaluator.images.tensors import as_numbers, channels_last
from gmvaluator.threads import Lock

CHANNELS = (1, 3, 4)


def open_object(source: Any) -> Listing:
    """List an object in memory; `InputError` if it is no data set of images."""
    if isinstance(source, np.ndarray):
        array = check_array(source, "the array given")
        return numbered(ArrayReader(array), len(array))
    if isinstance(source, list | tuple):
        if source and isinstance(source[0], str | os.PathLike):
            raise InputError(
                f"a {type(source).__name__} of paths was given; wanted {SOURCES}: write the paths "
                "to a CSV manifest with a 'path' column."
            )
        if source and not _looks_like_image(source[0]):
            raise InputError(
                f"a {type(source).__name__} of {type(source[0]).__name__} was given; wanted PIL "
                "images or arrays."
            )
        return numbered(ObjectReader(tuple(source)), len(source))
    if type(source).__name__ in ("DataFrame", "Series", "LazyFrame"):
        raise InputError(
            f"a {type(source).__name__} was given; wanted {SOURCES}: write the table to a CSV or "
            "Parquet manifest with a 'path' column and pass its path."
        )
    if isinstance(source, Mapping):
        keys = ", ".join(repr(key) for key in itertools.islice(source, 3))
        raise InputError(
            f"a {type(source).__name__} with the keys {keys} was given; wanted one data set: pass "
            "one of its values, such as dataset['train']."
        )
    if not (hasattr(source, "__getitem__") and hasattr(source, "__len__")):
        raise InputError(
            f"a {type(source).__name__} was given; wanted {SOURCES} (map style: with a length)."
        )
    if isinstance(getattr(source, "features", None), Mapping) and hasattr(source, "column_names"):
        return _open_hugging_face(source)
    reader = ObjectReader(source)
    return numbered(reader, len(source), reader.labels)


def _looks_like_image(item: Any) -> bool:
    return isinstance(item, Picture | np.ndarray | bytes) or hasattr(item, "detach")


def _open_hugging_face(dataset: Any) -> Listing:
    """A `datasets.Dataset`, known by its shape: `features`, `column_names`, rows as dicts."""
    features = dataset.features
    images = [name for name in features if type(features[name]).__name__ == "Image"]
    candidates = images or [name for name in ("image", "img") if name in features]
    column, others = choose_column(
        candidates,
        None,
        "the Hugging Face data set",
        lambda name, _: f"dataset.select_columns([{name!r}, 'label'])",
    )
    if column is None:
        raise InputError(
            f"the Hugging Face data set has the columns {quoted(features)}; wanted one of type "
            "Image: use dataset.cast_column(name, datasets.Image())."
        )
    feature = features[column]
    rows = dataset
    if column in images and hasattr(dataset, "cast_column"):
        # Encoded bytes: decoding here would do it before anybody asks, and outside our limits.
        rows = dataset.cast_column(column, type(feature)(decode=False))
    if hasattr(rows, "select_columns"):
        rows = rows.select_columns([column])
    if hasattr(rows, "with_format"):
        kind = getattr(feature, "dtype", None)
        # arrays come as lists of lists otherwise, which have lost their type
        array = {"type": "numpy", "dtype": kind} if column not in images and kind else {}
        rows = rows.with_format(**array)
    labels = None
    if "label" in features:
        names = getattr(features["label"], "names", None)
        labels = tuple(label_text(value, names) for value in dataset["label"])
    scalar = re.compile(r"(u?int|float)\d+|bool|(large_)?string")
    metadata = {
        name: tuple(v.item() if hasattr(v, "item") else v for v in dataset[name])
        for name in features
        if name not in (column, "label", *no_data(list(features)))
        and scalar.fullmatch(str(getattr(features[name], "dtype", "")))
    }
    ids = tuple(map(str, range(len(dataset))))
    notes = about_columns(column, others, None)
    return Listing(ObjectReader(rows, column), ids, labels, metadata, notes=notes)


class ObjectReader:
    """Items of a sequence or map-style data set: images, (image, label) pairs or dicts."""

    def __init__(self, items: Any, column: str = "image") -> None:
        self._lock = Lock()
        self._items = items
        self._column = column

    def read(self, rows: Sequence[int]) -> list[Raw | ImageError]:
        return [attempt(self._read, row) for row in rows]

    def _read(self, row: int) -> Raw:
        image = self._split(row)[0]
        if isinstance(image, dict) and {"bytes", "path"} & image.keys():
            content, path = image.get("bytes"), image.get("path")
            if content is not None:
                return bytes(content)
            if path is None:
                raise ImageError("no image in this row")
            return read_file(path)
        if isinstance(image, bytes):
            return image
        return image if isinstance(image, Picture) else to_array(image)

    def _split(self, row: int) -> tuple[Any, Any]:
        """(image, label or None) of an item; any failure of foreign code is the item's error."""
        try:
            # Foreign data sets and lazily loaded PIL files are rarely safe to share.
            with self._lock:
                item = self._items[row]
                label = None
                if isinstance(item, Mapping):
                    item, label = item[self._column], item.get("label")
                elif isinstance(item, tuple | list):
                    item, label = item[0], item[1] if len(item) > 1 else None
                if isinstance(item, Picture):
                    item.load()
        except Exception as error:
            raise ImageError(
                f"the data set failed: {type(error).__name__}: {why(error)}"
            ) from error
        return item, label

    def labels(self) -> tuple[str | None, ...] | None:
        """Labels of a torch data set: its `targets`, else one pass over all items."""
        names = getattr(self._items, "classes", None)
        targets = getattr(self._items, "targets", None)
        n = len(self._items)
        if targets is not None and hasattr(targets, "__len__") and len(targets) == n:
            return tuple(label_text(value, names) for value in targets)
        labels: list[str | None] = []
        for row in range(n):
            try:
                labels.append(label_text(self._split(row)[1], names))
            except ImageError:
                labels.append(None)
        return tuple(labels) if any(label is not None for label in labels) else None


def to_array(item: Any) -> NDArray[np.uint8]:
    """A tensor (C,H,W) or array (H,W[,C]), uint8 or float in [0, 1], as uint8 (H,W[,C])."""
    try:
        array = as_numbers(item)
    except ValueError as error:
        raise ImageError(str(error)) from error
    description = f"{array.dtype} of shape {array.shape}"
    if array.ndim == 3:
        array = channels_last(array, CHANNELS, first_wins=hasattr(item, "detach"))
        if array.shape[2] not in CHANNELS:
            raise ImageError(f"{description}; wanted 1, 3 or 4 channels")
    if array.ndim not in (2, 3) or array.size == 0:
        raise ImageError(f"{description}; wanted an image (H,W), (H,W,C) or a tensor (C,H,W)")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ImageError("float values that are NaN or infinite; wanted 0 to 1")
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise ImageError(
                f"float values from {low:.3g} to {high:.3g}; wanted 0 to 1: remove Normalize"
            )
        return np.rint(array * np.float64(255)).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ImageError(f"{description}; wanted uint8 0..255 or float 0..1")
    return np.ascontiguousarray(array, np.uint8)
