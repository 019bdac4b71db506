"""Generated images whose sources are known: their truth, and their files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.evaluation.planted.transformations import Images
from gmvaluator.evaluation.subjects.classifier import as_rgb
from gmvaluator.evaluation.subjects.subject import Sample, Subject
from gmvaluator.files.atomic import publish_file
from gmvaluator.files.pieces import Workspace
from gmvaluator.generators.data import common_side
from gmvaluator.images import ImageSet, Preprocessing
from gmvaluator.images.pixels import load_pixels

LARGEST_SIDE = 256  # of images of one size
MIXED_SIDE = 64  # of images of several sizes


@dataclass(frozen=True, eq=False)
class Pool:
    """Training images from which generated images are made.

    Attributes:
        train: all n training images, each of them readable.
        side: side of the generated images in pixels.
        colour: whether a training image is in colour.
        single: rows of the images that equal no other training image.
        digest: hash of all images.
    """

    train: ImageSet
    side: int
    colour: bool
    single: NDArray[np.int64]
    digest: str

    @staticmethod
    def read(train: ImageSet) -> Pool:
        """Read every training image once.

        Raises:
            ImageError: an image cannot be read.
        """
        keys: list[str] = []
        colour = False
        for batch in train.batches(Preprocessing(8, interpolation="box"), on_error="raise"):
            keys += batch.keys
            colour = colour or bool((batch.pixels != batch.pixels[:, :1]).any())
        side = common_side(train) or MIXED_SIDE
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        digest = hashlib.blake2b("".join(keys).encode(), digest_size=8).hexdigest()
        single = np.flatnonzero(counts[inverse] == 1)
        return Pool(train, min(side, LARGEST_SIDE), colour, single, digest)

    def pixels(self, rows: NDArray[np.int64]) -> Images:
        """(r, side, side, 3) pixels of these rows; (r, side, side) if the pool is grey."""
        distinct, inverse = np.unique(rows, return_inverse=True)
        stack = load_pixels(self.train.select(distinct), self.side)
        return np.ascontiguousarray((as_rgb(stack) if self.colour else stack)[inverse])

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Rows of `count` distinct training images that equal no other training image.

        Raises:
            InputError: `count` exceeds the number of such images.
        """
        if count > len(self.single):
            raise InputError(
                f"{count} sources of {len(self.single)} training images without a twin; pass a "
                "smaller m or more training images"
            )
        return rng.permutation(self.single)[:count]


@dataclass(frozen=True, eq=False)
class Truth:
    """The sources of generated images.

    Attributes:
        kinds: (g,) kind of each generated image.
        sources: (g, s) rows of the training images from which each image was made, −1 for none.
        weights: (g, s) share of each source in the image. Rows sum to 1.
        owners: (n,) owner of each training image; (0,) if there are no owners.
        sets: the names among `kinds` for which owners' shares are known.
        known: (sets, owners) known share of each owner in each set, NaN if unknown.
    """

    kinds: NDArray[np.str_]
    sources: NDArray[np.int64]
    weights: NDArray[np.float64]
    owners: NDArray[np.int64]
    sets: NDArray[np.str_]
    known: NDArray[np.float64]

    @staticmethod
    def of_sources(
        kinds: NDArray[np.str_], sources: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> Truth:
        """A truth without owners."""
        names, nobody = np.array([], dtype="U1"), np.empty(0, dtype=np.int64)
        return Truth(kinds, sources, weights, nobody, names, np.empty((0, 0)))

    def with_owners(self, owners: NDArray[np.int64], sets: NDArray[np.str_]) -> Truth:
        """This truth with owners, and the owners' shares in these sets counted from the sources."""
        shares = np.zeros((len(sets), int(owners.max()) + 1))
        for row, name in zip(shares, sets, strict=True):
            in_set = (self.kinds == name)[:, None] & (self.sources >= 0)
            held = owners[self.sources[in_set]]
            row += np.bincount(held, self.weights[in_set], minlength=len(row))
            row /= (self.kinds == name).sum()
        return replace(self, owners=owners, sets=sets, known=shares)


@dataclass(frozen=True, eq=False)
class Made:
    """What a maker returns.

    Attributes:
        images: pixels of the generated images.
        truth: their sources.
        train: pixels of the training images. None if they are those of the pool.
    """

    images: Images
    truth: Truth
    train: Images | None = None


@dataclass(frozen=True, eq=False)
class PlantedSet:
    """Generated images, their truth, and the training images to value."""

    images: ImageSet
    truth: Truth
    train: ImageSet


Make = Callable[[Pool, int, int], Made]


class PlantedSubject(Subject):
    """One kind of generated images as a subject of studies.

    Args:
        name: name of the kind.
        recipe: every setting of `make` but pool, m and seed, as text.
        make: (pool, m, seed) → images and truth.
        pool: the training images.
        work: working folder that stores the images.
    """

    def __init__(self, name: str, recipe: str, make: Make, pool: Pool, work: Workspace) -> None:
        self.name = name
        self._make = make
        self._pool = pool
        self._work = work
        whole = repr((name, recipe, pool.digest, pool.side))
        self._fingerprint = hashlib.blake2b(whole.encode(), digest_size=8).hexdigest()

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def sample(self, m: int, seed: int) -> Sample:
        """The images of `planted`."""
        return Sample(self.planted(m, seed).images, None)

    def planted(self, m: int, seed: int) -> PlantedSet:
        """m images per sort of this kind. They are made once, then read from their file."""
        stem = f"planted-{self.name}-{self._fingerprint}-m{m}-seed{seed}"
        file, train_file = (self._work.path("sets", f"{stem}{tail}.npz") for tail in ("", "-train"))
        if not file.is_file():
            made = self._make(self._pool, m, seed)
            if made.train is not None:
                _write(train_file, images=made.train)
            _write(
                file, images=made.images, **vars(made.truth)
            )  # last: `file` marks the set as complete
        with np.load(file, allow_pickle=False) as arrays:
            truth = Truth(**{field.name: arrays[field.name] for field in fields(Truth)})
        train = ImageSet.open(train_file) if train_file.is_file() else self._pool.train
        return PlantedSet(ImageSet.open(file), truth, train)


def _write(file: Path, **arrays: Any) -> None:
    with publish_file(file) as part, part.open("wb") as handle:
        np.savez_compressed(handle, **arrays)
