"""The images of a set as one array in memory, for training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import ImageError, InputError
from gmvaluator.images import ImageSet, Preprocessing, Skip
from gmvaluator.images.decoding import Interpolation
from gmvaluator.progress import Progress
from gmvaluator.shown import short_repr

_PROBED = 64  # images looked at to find the size of a set


@short_repr
@dataclass(frozen=True)
class TrainingData:
    """Images in memory.

    Attributes:
        images: (N, C, S, S) uint8; C is 1 if every image is grey, else 3.
        labels: (N,) int64 class numbers, or None.
        label_names: names of the classes, in the order of their numbers.
        fingerprint: hash of all pixels, labels and label names.
        skipped: images that could not be read.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    label_names: tuple[str, ...]
    fingerprint: str
    skipped: tuple[Skip, ...]


def read_training_data(
    source: Any,
    size: int,
    progress: Progress,
    *,
    conditional: bool,
    interpolation: Interpolation = "bicubic",
) -> TrainingData:
    """Read a set at `size` × `size` pixels, with its labels if `conditional`.

    Raises `InputError` if no image can be read, or if `conditional` and a label is missing.
    """
    data = ImageSet.open(source)
    names, numbers = _class_numbers(data) if conditional else ((), None)
    parts: list[NDArray[np.uint8]] = []
    rows: list[NDArray[np.int64]] = []
    skipped: list[Skip] = []
    grey = True
    preprocessing = Preprocessing(size, interpolation=interpolation)
    with progress.stage("read train", len(data)) as advance:
        for batch in data.batches(preprocessing, batch_size=256):
            pixels = batch.pixels
            grey = grey and bool((pixels == pixels[:, :1]).all())
            parts.append(pixels[:, :1].copy() if grey else pixels)
            rows.append(batch.rows)
            skipped += [skip for _, skip in batch.skipped]
            advance(len(batch.rows) + len(batch.skipped))
    if not any(map(len, parts)):
        raise InputError(
            f"none of the {len(data)} images can be read (first: {skipped[0].id}: "
            f"{skipped[0].reason}); pass a set of images."
        )
    shape = (1 if grey else 3, size, size)
    images = np.concatenate([np.broadcast_to(part, (len(part), *shape)) for part in parts])
    labels = None if numbers is None else numbers[np.concatenate(rows)]
    return TrainingData(images, labels, names, _fingerprint(images, labels, names), tuple(skipped))


def common_side(source: Any) -> int | None:
    """The side in pixels, if up to 64 images spread over the set are all squares of one size."""
    data = ImageSet.open(source)
    shapes = set()
    for row in np.unique(np.linspace(0, len(data) - 1, _PROBED).astype(int)).tolist():
        try:
            shapes.add(data[row].shape[:2])
        except ImageError:
            continue  # reported when the set is read
    (height, width) = shapes.pop() if len(shapes) == 1 else (0, 1)
    return int(height) if height == width else None


def ordered_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Distinct labels in the order of their class numbers: as numbers if all are whole."""
    distinct = set(labels)
    try:
        return tuple(sorted(distinct, key=lambda label: (int(label), label)))
    except ValueError:
        return tuple(sorted(distinct))


def class_numbers(labels: Iterable[str], names: Sequence[str]) -> NDArray[np.int64]:
    """(N,) place of each label among the names, all of which are there."""
    number = {name: place for place, name in enumerate(names)}
    return np.array([number[label] for label in labels], np.int64)


def _class_numbers(data: ImageSet) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    labels = data.labels
    if labels is None:
        raise InputError(
            f"{data!r} has no labels, and a conditional generator learns by them; pass a set with "
            "labels (a folder with a sub-folder a class, say)."
        )
    present = [label for label in labels if label is not None]
    if len(present) < len(labels):
        raise InputError(
            f"{len(labels) - len(present)} of {len(labels)} images have no label; label them, or "
            "leave them out of the set."
        )
    names = ordered_labels(present)
    return names, class_numbers(present, names)


def _fingerprint(
    images: NDArray[np.uint8], labels: NDArray[np.int64] | None, names: Sequence[str]
) -> str:
    digest = hashlib.sha256(repr((images.shape, names)).encode("utf-8", "surrogatepass"))
    digest.update(np.ascontiguousarray(images).data)
    digest.update(b"" if labels is None else labels.tobytes())
    return digest.hexdigest()
