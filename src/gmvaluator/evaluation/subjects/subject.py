"""Subjects of studies: sources of labelled generated images.

A subject gives m labelled images for a seed, from a generator or from a set. A classifier labels
the images of unconditional generators. The legibility measures how far labels can be trusted.
"""

from __future__ import annotations

import csv
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.evaluation.subjects.classifier import Classifier, as_rgb, train_classifier
from gmvaluator.files.atomic import publish_file
from gmvaluator.files.pieces import Workspace
from gmvaluator.files.seals import hash_file
from gmvaluator.images import ImageSet
from gmvaluator.images.pixels import known_labels, load_pixels
from gmvaluator.memory import once
from gmvaluator.progress import Progress
from gmvaluator.samplers import Sampler, draw, load_sampler

CLASSIFIER_SEEDS = (0, 1)
# a classifier passes over its images so often, and over a small set until it has seen so many
LEAST_EPOCHS = 4
LEAST_SEEN = 60_000


@dataclass(frozen=True)
class Sample:
    """Labelled generated images.

    Attributes:
        images: the images, each with a label.
        legibility: share of images whose label a classifier confirms: the second classifier for an
            unconditional generator, else the first. None without a classifier. A class ratio is
            hardly higher than the legibility.
    """

    images: ImageSet
    legibility: float | None


class Subject(ABC):
    """A source of generated images.

    Attributes:
        name: name in tables and file names.
        generator: file of the generator. None without a generator.
        classifiers: classifiers of the images. None if the study needs no labels.
    """

    name: str
    generator: Path | None = None
    classifiers: Classifiers | None = None

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of the source of the images."""

    @property
    def accuracy(self) -> float | None:
        """Of the classifier on held-out images."""
        return None if self.classifiers is None else self.classifiers.accuracy

    @abstractmethod
    def sample(self, m: int, seed: int) -> Sample:
        """m labelled images. The same seed gives the same images."""


@dataclass(frozen=True, eq=False)
class Classifiers:
    """Two classifiers of a labelled training set, trained on first use and stored.

    The first classifier labels images. The share of images on which the second one agrees is the
    images' legibility.

    Attributes:
        train: labelled images, all readable.
        held_out: labelled images on which the accuracy is measured. Default: a tenth of `train`,
            which is then left out of the training.
        work: working folder that stores the classifiers.
        size: side of the input, a multiple of 4.
        tag: name of the training set in file names.
        progress: receives the progress.
    """

    train: ImageSet
    held_out: ImageSet | None
    work: Workspace
    size: int
    tag: str
    progress: Progress

    @property
    @once
    def pair(self) -> tuple[Classifier, Classifier]:
        """The classifier that labels images, and the second classifier."""
        first, second = (self._get(seed) for seed in CLASSIFIER_SEEDS)
        return first, second

    @property
    def accuracy(self) -> float:
        """Share of held-out images that the first classifier labels rightly."""
        return self.pair[0].config.accuracy

    @property
    def channels(self) -> int:
        """1 grey, 3 RGB."""
        return self.pair[0].config.channels

    def pixels(self, images: ImageSet) -> NDArray[np.uint8]:
        """Pixels in the size and channels of the classifiers."""
        stack = load_pixels(images, self.size)
        if self.channels == 3:
            return as_rgb(stack)
        if self.channels == 1 and stack.ndim == 4:
            return np.asarray(stack.mean(axis=3).round(), dtype=np.uint8)
        return stack

    def _get(self, seed: int) -> Classifier:
        file = self.work.path("classifiers", f"{self.tag}-{self.size}-{seed}.safetensors")
        if not file.is_file():
            pixels, labels = self._data
            held_out, rest = self._measured_on
            epochs = max(LEAST_EPOCHS, -(-LEAST_SEEN // len(rest)))
            train_classifier(
                pixels[rest],
                labels[rest],
                held_out=held_out,
                epochs=epochs,
                seed=seed,
                progress=self.progress,
            ).save(file)
        return Classifier.load(file)

    @property
    @once
    def _data(self) -> tuple[NDArray[np.uint8], NDArray[np.object_]]:
        labels = known_labels(self.train, "training images")
        return load_pixels(self.train, self.size), labels

    @property
    def _measured_on(
        self,
    ) -> tuple[tuple[NDArray[np.uint8], NDArray[np.object_]], NDArray[np.int64]]:
        """((images, labels) held out, rows of the training set to train on)."""
        everything = np.arange(len(self.train))
        if self.held_out is not None:
            labels = known_labels(self.held_out, "held-out images")
            return (load_pixels(self.held_out, self.size), labels), everything
        shuffled = np.random.default_rng(0).permutation(everything)
        out, rest = shuffled[: len(shuffled) // 10], np.sort(shuffled[len(shuffled) // 10 :])
        pixels, labels = self._data
        return (pixels[out], labels[out]), rest


class DrawnSubject(Subject):
    """Images drawn from a generator file. A classifier labels unconditional images."""

    generator: Path
    classifiers: Classifiers

    def __init__(
        self,
        name: str,
        generator: Path,
        work: Workspace,
        classifiers: Classifiers,
        progress: Progress | None = None,
    ) -> None:
        self.name = name
        self.generator = generator
        self.classifiers = classifiers
        self._work = work
        self._progress = progress

    @property
    @once
    def fingerprint(self) -> str:
        return hash_file(self.generator)

    @property
    @once
    def _sampler(self) -> Sampler:
        return load_sampler(self.generator)

    def sample(self, m: int, seed: int) -> Sample:
        stem = f"{self.name}-{self.fingerprint[:8]}-m{m}-seed{seed}"
        folder = self._work.path("samples", stem)
        drawn = draw(self._sampler, m, folder, seed=seed, progress=self._progress)
        first, second = self.classifiers.pair
        manifest = self._work.path("samples", f"{stem}.csv")
        paths = [path.relative_to(manifest.parent) for path in drawn.paths]
        _write_manifest(manifest, paths, drawn.labels or [""] * m)
        pixels = self.classifiers.pixels(ImageSet.open(manifest))
        read = first.name(pixels)
        if drawn.labels is None:
            _write_manifest(manifest, paths, read.tolist())
            confirming = second.name(pixels)
        else:
            confirming = np.asarray(drawn.labels, dtype=object)
        return Sample(ImageSet.open(manifest), float(np.mean(read == confirming)))


def _write_manifest(file: Path, paths: Sequence[Path], labels: Sequence[object]) -> None:
    with publish_file(file) as part, part.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(("path", "label"))
        writer.writerows(zip(paths, labels, strict=True))


class SetSubject(Subject):
    """Random draws from a labelled set, such as real test images in place of generated images.

    Raises:
        InputError: an image has no label.
    """

    def __init__(self, name: str, images: ImageSet, classifiers: Classifiers | None = None) -> None:
        known_labels(images, f"images of {name}")
        self.name = name
        self.classifiers = classifiers
        self._images = images

    @property
    def fingerprint(self) -> str:
        listed = repr((self._images.ids, self._images.labels))
        return hashlib.blake2b(listed.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def sample(self, m: int, seed: int) -> Sample:
        if m > len(self._images):
            raise InputError(f"m={m} exceeds the {len(self._images)} images of {self.name}")
        rows = np.random.default_rng([seed, m]).choice(len(self._images), m, replace=False)
        images = self._images.select(np.sort(rows))
        if self.classifiers is None:
            return Sample(images, None)
        read = self.classifiers.pair[0].name(self.classifiers.pixels(images))
        return Sample(images, float(np.mean(read == known_labels(images, "images"))))
