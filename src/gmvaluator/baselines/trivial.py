"""What chance and perfect labels give: every table of a study should show both.

The third trivial baseline, the nearest raw pixels, is `GMValuator(encoder="pixels@28",
rerank="none", quality="none")`.
"""

from __future__ import annotations

import time
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gmvaluator.baselines.assembling import assemble
from gmvaluator.baselines.checks import check_at_least, check_enough, fitted
from gmvaluator.images import ImageSet
from gmvaluator.images.pixels import known_labels
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.scores import Contributions


class RandomValuer:
    """k contributors drawn at random for each generated image, with equal scores 1/k.

    The same seed and sets give the same valuation.
    """

    def __init__(self, *, k: int = 50, seed: int = 0) -> None:
        check_at_least(1, "k", k)
        self.k = k
        self.seed = seed
        self._train: ImageSet | None = None

    def fit(self, train: object) -> Self:
        """Remember the training images; nothing is read of them."""
        self._train = ImageSet.open(train)
        return self

    def value(self, generated: object) -> Valuation:
        """Raises `InputError` if not fitted, or if k exceeds the training set."""
        train, images = fitted(self._train), ImageSet.open(generated)
        check_enough(self.k, len(train), "training images")
        start = time.perf_counter()
        rng = np.random.default_rng([self.seed, len(images)])
        rows = np.stack([rng.choice(len(train), self.k, replace=False) for _ in images.ids])
        return assemble(
            train,
            images,
            _equal(rows, len(train)),
            settings={"valuer": "random", "k": self.k},
            seed=self.seed,
            seconds={"values": time.perf_counter() - start},
        )


class SameClassValuer:
    """k contributors drawn at random from the generated image's own class, with equal scores.

    What labels alone can tell: perfect in the identical class test by construction, blind to
    everything within a class.
    """

    def __init__(self, *, k: int = 50, seed: int = 0) -> None:
        check_at_least(1, "k", k)
        self.k = k
        self.seed = seed
        self._train: ImageSet | None = None

    def fit(self, train: object) -> Self:
        """Remember the training images.

        Raises:
            InputError: a training image has no label.
        """
        images = ImageSet.open(train)
        known_labels(images, "training images")
        self._train = images
        return self

    def value(self, generated: object) -> Valuation:
        """Raises `InputError` if not fitted, without labels, or if a class has fewer than k."""
        train, images = fitted(self._train), ImageSet.open(generated)
        start = time.perf_counter()
        rng = np.random.default_rng([self.seed, len(images)])
        of_train = known_labels(train, "training images")
        members = {label: np.flatnonzero(of_train == label) for label in np.unique(of_train)}
        rows = []
        for label in known_labels(images, "generated images"):
            own = members.get(label, np.empty(0, dtype=np.int64))
            check_enough(self.k, len(own), f"training images of class {label}")
            rows.append(rng.choice(own, self.k, replace=False))
        return assemble(
            train,
            images,
            _equal(np.stack(rows), len(train)),
            settings={"valuer": "same-class", "k": self.k},
            seed=self.seed,
            seconds={"values": time.perf_counter() - start},
        )


def _equal(rows: NDArray[np.int64], n_train: int) -> Contributions:
    """Equal scores at equal distances."""
    return Contributions(
        rows=rows,
        distances=np.zeros(rows.shape, dtype=np.float32),
        scores=np.full(rows.shape, 1 / rows.shape[1]),
        n_train=n_train,
    )
