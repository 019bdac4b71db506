"""Generated images whose sources are known: what is known of them, and their files."""

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
from gmvaluator.evaluation.subjects.subject import Sample, Subject
from gmvaluator.files.atomic import publish_file
from gmvaluator.files.pieces import Workspace
from gmvaluator.generators.data import common_side
from gmvaluator.images import ImageSet, Preprocessing
from gmvaluator.images.pixels import load_pixels

LARGEST_SIDE, MIXED_SIDE = 256, 64  # of images of one size, and where sizes differ


@dataclass(frozen=True, eq=False)
class Pool:
    """Training images that copies are made of.

    Attributes:
        train: all n of them, readable.
        side: in pixels, of what is made.
        colour: whether any of them is in colour.
        single: rows of the images that no other training image equals.
        digest: changes with any image.
    """

    train: ImageSet
    side: int
    colour: bool
    single: NDArray[np.int64]
    digest: str

    @staticmethod
    def read(train: ImageSet) -> Pool:
        """Look at every training image once.

        Raises:
            ImageError: one cannot be read.
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
        """(r, side, side, 3) of these training images, (r, side, side) if all of them are grey."""
        distinct, inverse = np.unique(rows, return_inverse=True)
        stack = load_pixels(self.train.select(distinct), self.side)
        if self.colour and stack.ndim == 3:
            stack = np.repeat(stack[..., None], 3, axis=3)
        return np.ascontiguousarray(stack[inverse])

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Rows of distinct training images without a twin.

        Raises:
            InputError: more than there are.
        """
        if count > len(self.single):
            raise InputError(
                f"{count} sources of {len(self.single)} training images without a twin; pass a "
                "smaller m or more training images"
            )
        return rng.permutation(self.single)[:count]


@dataclass(frozen=True, eq=False)
class Truth:
    """What generated images were made of.

    Attributes:
        kinds: (g,) text, how each was made.
        sources: (g, s) rows of the training images that each was made of, −1 where of none.
        weights: (g, s) how much of it each source is; rows sum to 1.
        owners: (n,) owner of each training image, or (0,) where nobody asks.
        sets: names of the sets that owners' shares are known of, among `kinds`.
        known: (sets, owners) share of each owner in each, NaN where it is not known.
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
        """Where nobody asks for owners."""
        names, nobody = np.array([], dtype="U1"), np.empty(0, dtype=np.int64)
        return Truth(kinds, sources, weights, nobody, names, np.empty((0, 0)))

    def with_owners(self, owners: NDArray[np.int64], sets: NDArray[np.str_]) -> Truth:
        """And the shares of owners in these sets, as the sources have them."""
        known = np.zeros((len(sets), int(owners.max()) + 1))
        for row, name in zip(known, sets, strict=True):
            chosen = (self.kinds == name)[:, None] & (self.sources >= 0)
            held = owners[self.sources[chosen]]
            row += np.bincount(held, self.weights[chosen], minlength=len(row))
            row /= (self.kinds == name).sum()
        return replace(self, owners=owners, sets=sets, known=known)


@dataclass(frozen=True, eq=False)
class Made:
    """Pixels and the truth of them; training images too where they are others than the pool's."""

    images: Images
    truth: Truth
    train: Images | None = None


@dataclass(frozen=True, eq=False)
class PlantedSet:
    """Generated images with the truth of them, and the training images they are to be valued by."""

    images: ImageSet
    truth: Truth
    train: ImageSet


Make = Callable[[Pool, int, int], Made]


class PlantedSubject(Subject):
    """One kind of generated images, as studies take it.

    Args:
        name: of the kind.
        recipe: everything that decides what is made, beside pool, m and seed.
        make: (pool, m, seed) → images and truth.
        work: keeps them.
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
        """m images of every sort of this kind; made once, then read from their file."""
        stem = f"planted-{self.name}-{self._fingerprint}-m{m}-seed{seed}"
        file, own = (self._work.path("sets", f"{stem}{tail}.npz") for tail in ("", "-train"))
        if not file.is_file():
            made = self._make(self._pool, m, seed)
            if made.train is not None:
                _write(own, images=made.train)
            _write(file, images=made.images, **vars(made.truth))  # last: it says all are there
        with np.load(file, allow_pickle=False) as kept:
            truth = Truth(**{each.name: kept[each.name] for each in fields(Truth)})
        train = ImageSet.open(own) if own.is_file() else self._pool.train
        return PlantedSet(ImageSet.open(file), truth, train)


def _write(file: Path, **arrays: Any) -> None:
    with publish_file(file) as part, part.open("wb") as handle:
        np.savez_compressed(handle, **arrays)
