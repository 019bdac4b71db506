"""Contributors by kernel ridge: which training images share a generated one, and by how much.

Nearest images can say the same thing many times over. Here the contributors of a generated image
are those of the greatest kernel ridge weight (`kernel_ridge`), within its candidates or among all.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gmvaluator.fitted import Fitted
from gmvaluator.geometry import Vectors, pair_squared
from gmvaluator.kernel_ridge import Kernel, greatest, ridge_of_all, ridge_within
from gmvaluator.landmarks import Landmarks
from gmvaluator.recall import Candidates, Index, build_index, choose_index, first_distinct
from gmvaluator.rerank import Contributors

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
        return Kernel.fit(self._fitted.vectors, self._fitted.order)

    @cached_property
    def _landmarks(self) -> Landmarks:
        fitted = self._fitted
        return Landmarks.fit(self.kernel, fitted.vectors, fitted.order, memory=self._memory)

    def within(self, contributors: Contributors, generated: Vectors, k: int) -> Contributors:
        """Of (m, c) contributors the k of the greatest weight, solved for among the c.

        Args:
            contributors: re-ranked, or all candidates.
            generated: (m, dim) vectors in the recall space.
        """
        weights = ridge_within(self.kernel, contributors.rows, self._fitted.vectors, generated)
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
        train = self._fitted.vectors
        if nearest is None:
            rows, weights = ridge_of_all(self.kernel, train, generated, k)
        else:
            candidates = self._union(nearest, generated)
            found = ridge_within(self.kernel, candidates, train, generated)
            places, weights = greatest(found, k)
            rows = np.take_along_axis(candidates, places, axis=1)
        asking = np.repeat(np.arange(len(generated)), k)
        squared = pair_squared(generated, asking, train, rows.ravel()).reshape(rows.shape)
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

    def _union(self, nearest: Candidates, generated: Vectors) -> NDArray[np.int64]:
        """(m, 2c) distinct rows: by turns the nearest and those of the greatest weight."""
        fitted = self._fitted
        c = nearest.rows.shape[1]
        vectors = self._landmarks.train
        n, dim = vectors.shape
        name = choose_index(n, len(generated), dim, memory=self._memory)
        if name not in self._indexes:
            self._indexes[name] = build_index(vectors, name, order=fitted.order, seed=self._seed)
        wanted = min(2 * c, n)
        _, heavy = self._indexes[name].search(
            self._landmarks.queries(self.kernel, generated), wanted
        )
        turns = np.concatenate(
            [np.stack([nearest.rows, heavy[:, :c]], axis=2).reshape(len(heavy), -1), heavy[:, c:]],
            axis=1,
        )
        return np.take_along_axis(turns, first_distinct(turns, wanted), axis=1)
