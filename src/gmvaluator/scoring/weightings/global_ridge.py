"""Kernel ridge among all training images as a weighting."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import either
from gmvaluator.geometry import Vectors, pair_squared
from gmvaluator.matching.recall import Candidates, first_distinct
from gmvaluator.matching.rerank import Contributors
from gmvaluator.matching.search.build import build_index, choose_index
from gmvaluator.memory import Budget
from gmvaluator.scoring.weightings.base import Choice
from gmvaluator.scoring.weightings.kernel_ridge import greatest, ridge_of_all, ridge_within
from gmvaluator.scoring.weightings.landmarks import Landmarks
from gmvaluator.scoring.weightings.ridge import (
    Ridge,
    kernel_of,
    query_vectors,
    training_vectors,
)

EXACT_OPERATIONS = 2e12
"""n²·(n/3 + 2m) up to which all n training images are solved for at once: about a minute."""
EXACT_BYTES = 9
"""Bytes per n² that the exact solution takes at its peak: 8.7 measured."""


class GlobalRidge(Ridge):
    """Squared kernel ridge weights, solved for among all training images.

    Up to `EXACT_OPERATIONS` all n images are solved for at once. Above, 2c images are: the c
    nearest, and those of the greatest approximate weight (`Landmarks`).
    """

    name = "global-ridge"
    ranks = False

    def conflict(self, *, reranked: bool, mirror: bool) -> str | None:
        if reranked:
            return (
                f"weighting {self.name} finds contributors by their weight among all training "
                "images, without a re-rank; pass "
                + either(
                    "rerank='none', or weighting='ridge'", "--rerank none, or --weighting ridge"
                )
            )
        return super().conflict(reranked=reranked, mirror=mirror)

    def takes_all(self, n: int, m: int, budget: Budget) -> bool:
        return n * n * (n / 3 + 2 * m) <= EXACT_OPERATIONS and EXACT_BYTES * n * n <= budget.free

    def choose(self, choice: Choice, k: int) -> Contributors:
        """The k of the greatest weight of all n training images."""
        generated = choice.generated
        with choice.progress.stage("weights (ridge)", len(generated)) as advance:
            train, kernel = training_vectors(choice), kernel_of(choice)
            queries = query_vectors(choice)
            if choice.candidates is None:
                rows, weights = ridge_of_all(kernel, train, queries, k)
            else:
                union = _union(choice, choice.candidates, queries)
                columns, weights = greatest(ridge_within(kernel, union, train, queries), k)
                rows = np.take_along_axis(union, columns, axis=1)
            numbers = np.repeat(np.arange(len(generated)), k)
            vectors = choice.first.vectors
            squared = pair_squared(generated, numbers, vectors, rows.ravel()).reshape(rows.shape)
            advance(len(generated))
        return Contributors(
            rows=rows,
            distances=choice.first.space.distance(squared),
            n_train=len(vectors),
            ridge=weights,
        )


def _union(choice: Choice, nearest: Candidates, queries: Vectors) -> NDArray[np.int64]:
    """(m, 2c) distinct rows: by turns the nearest and those of the greatest approximate weight."""
    kernel = kernel_of(choice)
    landmarks = choice.memo.get(
        "ridge landmarks",
        lambda: Landmarks.fit(kernel, training_vectors(choice), choice.order, budget=choice.budget),
    )
    n, dim = landmarks.train.shape
    name = choose_index(n, len(queries), dim, memory=choice.budget.total)
    index = choice.memo.get(
        ("ridge index", name),
        lambda: build_index(landmarks.train, name, order=choice.order, seed=choice.seed),
    )
    c = nearest.rows.shape[1]
    n_rows = min(2 * c, n)
    _, heavy = index.search(landmarks.queries(kernel, queries), n_rows)
    turns = np.concatenate(
        [np.stack([nearest.rows, heavy[:, :c]], axis=2).reshape(len(heavy), -1), heavy[:, c:]],
        axis=1,
    )
    return np.take_along_axis(turns, first_distinct(turns, n_rows), axis=1)
