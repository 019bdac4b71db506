"""Contributors by kernel ridge: which training images share a generated one, and by how much.

Nearest images can say the same thing many times over. Here the contributors of a generated image
are those of the greatest kernel ridge weight (`kernel_ridge`), within its candidates or among all.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gmvaluator.engine.trained import Fitted
from gmvaluator.geometry import Vectors, blocks, pair_squared
from gmvaluator.matching.recall import Candidates, Index, build_index, choose_index, first_distinct
from gmvaluator.matching.rerank import Contributors
from gmvaluator.memory import allocate
from gmvaluator.scoring.weightings.kernel_ridge import Kernel, greatest, ridge_of_all, ridge_within
from gmvaluator.scoring.weightings.landmarks import Landmarks

EXACT_OPERATIONS = 2e12
"""n²·(n/3 + 2m) up to which all n training images are solved for at once: about a minute."""


class RidgeWeigher:
    """Kernel ridge weights for one fitted training set; what is learned is kept for the next call.

    Args:
        fitted: the training set.
        seed: of the indexes.
        memory: bytes that may be used.
    """

    def __init__(self, fitted: Fitted, seed: int, memory: int) -> None:
        self._fitted = fitted
        self._seed = seed
        self._memory = memory
        self._indexes: dict[str, Index] = {}

    @cached_property
    def kernel(self) -> Kernel:
        """Learned when it is first asked for."""
        return Kernel.fit(self._train, self._fitted.order)

    @cached_property
    def _train(self) -> Vectors:
        """(n, dim) training vectors as products take them: a third as long where all are grey."""
        vectors = self._fitted.vectors
        return _one_of_three(vectors, self._memory) if _repeat_thrice(vectors) else vectors

    def _asking(self, generated: Vectors) -> Vectors:
        """(m, dim) generated vectors beside `_train`."""
        grey = self._train is not self._fitted.vectors
        return _one_of_three(generated, self._memory) if grey else generated

    @cached_property
    def _landmarks(self) -> Landmarks:
        return Landmarks.fit(self.kernel, self._train, self._fitted.order, memory=self._memory)

    def within(self, contributors: Contributors, generated: Vectors, k: int) -> Contributors:
        """Of (m, c) contributors the k of the greatest weight, solved for among the c.

        Args:
            contributors: re-ranked, or all candidates.
            generated: (m, dim) vectors in the recall space.
        """
        asking = self._asking(generated)
        weights = ridge_within(self.kernel, contributors.rows, self._train, asking)
        places, kept = greatest(weights, k)
        return replace(
            contributors,
            rows=np.take_along_axis(contributors.rows, places, axis=1),
            distances=np.take_along_axis(contributors.distances, places, axis=1),
            beyond=None,
            ridge=kept,
        )

    def globally(self, generated: Vectors, nearest: Candidates | None, k: int) -> Contributors:
        """The k of the greatest weight of all n training images.

        Up to `EXACT_OPERATIONS` all are solved for at once. Above, (m, 2c) are: the c nearest and
        those of the greatest approximate weight (`Landmarks`), found by inner product.

        Args:
            generated: (m, dim) vectors in the recall space.
            nearest: c nearest of each generated image; None where all are solved for.
        """
        asking = self._asking(generated)
        if nearest is None:
            rows, weights = ridge_of_all(self.kernel, self._train, asking, k)
        else:
            candidates = self._union(nearest, asking)
            found = ridge_within(self.kernel, candidates, self._train, asking)
            places, weights = greatest(found, k)
            rows = np.take_along_axis(candidates, places, axis=1)
        train = self._fitted.vectors
        numbers = np.repeat(np.arange(len(generated)), k)
        squared = pair_squared(generated, numbers, train, rows.ravel()).reshape(rows.shape)
        return Contributors(
            rows=rows,
            distances=self._fitted.space.distance(squared),
            n_train=len(train),
            ridge=weights,
        )

    def exact(self, m: int) -> bool:
        """Whether m generated images are few enough to solve for all training images at once."""
        n = len(self._fitted.vectors)
        return n * n * (n / 3 + 2 * m) <= EXACT_OPERATIONS and 4 * n * n <= self._memory

    def _union(self, nearest: Candidates, asking: Vectors) -> NDArray[np.int64]:
        """(m, 2c) distinct rows: by turns the nearest and those of the greatest weight."""
        fitted = self._fitted
        c = nearest.rows.shape[1]
        vectors = self._landmarks.train
        n, dim = vectors.shape
        name = choose_index(n, len(asking), dim, memory=self._memory)
        if name not in self._indexes:
            self._indexes[name] = build_index(vectors, name, order=fitted.order, seed=self._seed)
        wanted = min(2 * c, n)
        _, heavy = self._indexes[name].search(self._landmarks.queries(self.kernel, asking), wanted)
        turns = np.concatenate(
            [np.stack([nearest.rows, heavy[:, :c]], axis=2).reshape(len(heavy), -1), heavy[:, c:]],
            axis=1,
        )
        return np.take_along_axis(turns, first_distinct(turns, wanted), axis=1)


def _repeat_thrice(vectors: Vectors) -> bool:
    """Whether the thirds of each vector are the same, as pixels of grey images in RGB are."""
    n, dim = vectors.shape
    parts = (vectors[rows].reshape(-1, 3, dim // 3) for rows in blocks(n, 4 * dim) if dim % 3 == 0)
    return dim % 3 == 0 and all(bool((part == part[:, :1]).all()) for part in parts)


def _one_of_three(vectors: Vectors, memory: int) -> Vectors:
    """(b, dim) → (b, dim / 3), that are as far from grey vectors made so, but for a constant each.

    Σ_c ‖g_c − x‖² = 3 ‖ḡ − x‖² + Σ_c ‖g_c − ḡ‖² for the three thirds g_c of a vector and the third
    x of a grey one, and a constant of a generated image leaves its weights as they are.
    """
    n, dim = vectors.shape
    lean = allocate((n, dim // 3), memory // 2)
    for rows in blocks(n, 4 * dim):
        mean = vectors[rows].reshape(-1, 3, dim // 3).mean(axis=1)
        lean[rows] = np.sqrt(np.float32(3)) * mean
    return lean
