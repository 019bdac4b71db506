"""Attributes of images, the attribute ratio of random contributors, and classifiers of attributes.

Attributes are columns of a manifest, such as `gender` or `hat`. Drawn images have no manifest.
Their attributes follow from the label that the generator was given, if all training images of this
label agree.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.evaluation.metrics import chance_ratio
from gmvaluator.evaluation.subjects.classifier import (
    BATCH,
    Classifier,
    as_rgb,
    train_classifier,
)
from gmvaluator.files.pieces import Workspace
from gmvaluator.images import ImageSet
from gmvaluator.images.pixels import load_pixels
from gmvaluator.images.sources.base import label_text
from gmvaluator.memory import once
from gmvaluator.progress import Progress, Silent

Attributes = Mapping[str, NDArray[np.object_]]

READER_STEPS = 320  # of a reader's training on a small set; at least four passes on others


def known_attributes(images: ImageSet, names: Sequence[str], what: str) -> Attributes:
    """Columns of a set's metadata as text, (n,) each.

    Args:
        names: the columns.
        what: name of the set in an error.

    Raises:
        InputError: a column is missing, or has no value for an image.
    """
    if missing := [name for name in names if name not in images.metadata]:
        raise InputError(
            f"the {what} have no column {', '.join(missing)}; there are: "
            f"{', '.join(images.metadata) or 'none'}. Pass a CSV or Parquet manifest with a "
            "column for each attribute."
        )
    by_name = {}
    for name in names:
        values = [label_text(value) for value in images.metadata[name]]
        if empty := values.count(None):
            raise InputError(
                f"column {name} is empty for {empty} of the {len(images)} {what}; fill it in, or "
                "leave these images out"
            )
        by_name[name] = np.asarray(values, dtype=object)
    return by_name


def carried_attributes(images: ImageSet, train: ImageSet, names: Sequence[str]) -> Attributes:
    """(m,) attributes of generated images, from their columns or else from their labels.

    Raises:
        InputError: there are neither columns nor labels, or a label occurs in `train` with several
            values.
    """
    if all(name in images.metadata for name in names):
        return known_attributes(images, names, "generated images")
    if images.labels is None:
        raise InputError(
            f"the generated images have neither labels nor the columns {', '.join(names)}; draw "
            "them from a conditional generator, or pass a manifest with these columns"
        )
    implied = {name: _by_label(train, name) for name in names}
    strange = sorted({str(label) for label in images.labels} - set(implied[names[0]]))
    if strange:
        raise InputError(
            f"no training image has the label {strange[0]!r} of a generated one, so its attributes "
            "are unknown; pass a manifest of the generated images with a column for each attribute"
        )
    return {
        name: np.asarray([implied[name][str(label)] for label in images.labels], dtype=object)
        for name in names
    }


def by_id(
    images: ImageSet, attributes: Attributes, ids: Sequence[str]
) -> dict[str, NDArray[np.object_]]:
    """The attributes of these images of a set, in the order of `ids`."""
    row_of = {id_: row for row, id_ in enumerate(images.ids)}
    rows = np.asarray([row_of[id_] for id_ in ids], dtype=np.int64)
    return {name: values[rows] for name, values in attributes.items()}


def chance_agreement(
    train: Sequence[NDArray[np.object_]], generated: Sequence[NDArray[np.object_]]
) -> float:
    """The mean `attribute_ratio` of contributors drawn at random from the training set.

    Args:
        train: for each attribute, its (n,) values.
        generated: for each attribute, its (m,) values, in the same order.
    """
    return chance_ratio(_joined(train), _joined(generated))


def possible_agreement(
    train: Sequence[NDArray[np.object_]], generated: Sequence[NDArray[np.object_]], k: int
) -> float:
    """The highest mean `attribute_ratio` at k that there are enough training images for.

    Args:
        train, generated: as for `chance_agreement`.
        k: contributors.
    """
    count = Counter(_joined(train).tolist())
    return float(np.mean([min(count[values], k) / k for values in _joined(generated).tolist()]))


class AttributeReaders:
    """One classifier per attribute, trained on the training images on first use and stored.

    A valuer can hardly agree with an attribute more often than the classifier reads it.

    Args:
        attributes: (n,) values of each attribute of the training images.
        size: side of the input, a multiple of 4.
        steps: least number of updates. A classifier also makes at least four passes over the
            images.
    """

    def __init__(
        self,
        train: ImageSet,
        attributes: Attributes,
        work: Workspace,
        *,
        tag: str,
        size: int = 32,
        steps: int = READER_STEPS,
        progress: Progress | None = None,
    ) -> None:
        self._train = train
        self._attributes = attributes
        self._work = work
        self._tag = tag
        self._size = size
        self._steps = steps
        self._progress = progress or Silent()

    def accuracy(self) -> dict[str, float]:
        """By attribute: share of a held-out tenth of the training images read rightly."""
        return {name: self._reader(name).config.accuracy for name in self._attributes}

    def agreement(self, images: ImageSet, attributes: Attributes) -> dict[str, float]:
        """By attribute, the share of images that the classifier reads as the given (m,) values."""
        pixels = as_rgb(load_pixels(images, self._size))
        return {
            name: float(np.mean(self._reader(name).name(pixels) == values))
            for name, values in attributes.items()
        }

    def _reader(self, name: str) -> Classifier:
        file = self._file(name)
        if not file.is_file():
            values = self._attributes[name]
            shuffled = np.random.default_rng(0).permutation(len(values))
            out, rest = np.split(shuffled, [max(1, len(values) // 10)])
            batches = -(-len(rest) // BATCH)
            train_classifier(
                self._pixels[rest],
                values[rest],
                held_out=(self._pixels[out], values[out]),
                epochs=max(4, -(-self._steps // batches)),
                progress=self._progress,
            ).save(file)
        return Classifier.load(file)

    def _file(self, name: str) -> Path:
        # a column may have any name, and another training set other values
        text = "\0".join((self._tag, name, *self._train.ids, *self._attributes[name]))
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
        return self._work.path("classifiers", f"attribute-{digest}-{self._size}.safetensors")

    @property
    @once
    def _pixels(self) -> NDArray[np.uint8]:
        return as_rgb(load_pixels(self._train, self._size))


def _by_label(train: ImageSet, name: str) -> dict[str, str]:
    """The value of an attribute by label."""
    values = known_attributes(train, (name,), "training images")[name]
    value_of: dict[str, str] = {}
    for label, value in zip(train.labels or (), values.tolist(), strict=False):
        if value_of.setdefault(str(label), value) != value:
            raise InputError(
                f"label {label!r} does not decide {name}: training images of it have "
                f"{value_of[str(label)]!r} and {value!r}; pass a manifest of the generated images "
                f"with a column {name}"
            )
    return value_of


def _joined(attributes: Sequence[NDArray[np.object_]]) -> NDArray[np.object_]:
    """Several attributes as one, (n,)."""
    texts = ["\x1f".join(values) for values in zip(*attributes, strict=True)]
    return np.asarray(texts, dtype=object)
