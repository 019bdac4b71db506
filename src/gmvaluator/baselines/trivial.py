"""Valuers by chance and by perfect labels, to compare with in every table of a study.

The third trivial baseline, the nearest raw pixels, is `GMValuator(encoder="pixels@28",
rerank="none", quality="none")`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gmvaluator.baselines.assembling import assemble
from gmvaluator.baselines.checks import check_at_least, check_enough, fitted
from gmvaluator.images import ImageSet, ImageSource
from gmvaluator.images.pixels import known_labels
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.scores import Contributions


class RandomValuer:
    """k contributors drawn at random for each generated image, with equal scores 1/k.

    The same seed and sets give the same valuation.
    """

    name = "random"

    def __init__(self, *, k: int = 50, seed: int = 0) -> None:
        check_at_least(1, "k", k)
        self.k = k
        self.seed = seed
        self._train: ImageSet | None = None

    def fit(self, train: ImageSource) -> Self:
        """Keep the training images; nothing is read of them."""
        self._train = ImageSet.open(train)
        return self

    def value(self, generated: ImageSource) -> Valuation:
        """Raises `InputError` if not fitted, or if k exceeds the images to draw from."""
        train, images = fitted(self._train), ImageSet.open(generated)
        start = time.perf_counter()
        rng = np.random.default_rng([self.seed, len(images)])
        pools = self._pools(train, images)
        rows = np.stack([rng.choice(pool, self.k, replace=False) for pool in pools])
        contributions = Contributions(
            rows=rows,
            distances=np.zeros(rows.shape, dtype=np.float32),
            scores=np.full(rows.shape, 1 / self.k),
            n_train=len(train),
        )
        return assemble(
            train,
            images,
            contributions,
            settings={"valuer": self.name, "k": self.k},
            seed=self.seed,
            seconds={"values": time.perf_counter() - start},
        )

    def _pools(self, train: ImageSet, images: ImageSet) -> Iterator[int | NDArray[np.int64]]:
        """The training rows to draw from, or their number, for each generated image."""
        check_enough(self.k, len(train), "training images")
        yield from (len(train) for _ in images.ids)


class SameClassValuer(RandomValuer):
    """k contributors drawn at random from the generated image's own class, with equal scores.

    The valuer is perfect in the identical class test by construction, and does not distinguish
    images of one class.
    """

    name = "same-class"

    def fit(self, train: ImageSource) -> Self:
        """Take the training images. InputError if an image has no label."""
        known_labels(ImageSet.open(train), "training images")
        return super().fit(train)

    def _pools(self, train: ImageSet, images: ImageSet) -> Iterator[int | NDArray[np.int64]]:
        of_train = known_labels(train, "training images")
        members = {label: np.flatnonzero(of_train == label) for label in np.unique(of_train)}
        for label in known_labels(images, "generated images"):
            pool = members.get(label, np.empty(0, dtype=np.int64))
            check_enough(self.k, len(pool), f"training images of class {label}")
            yield pool
