"""Kernel ridge within the candidates as a weighting.

Nearest images can say the same thing many times over. Kernel ridge gives weight to the training
images that add something (`kernel_ridge`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError, either
from gmvaluator.geometry import Vectors, blocks
from gmvaluator.matching.rerank import Contributors
from gmvaluator.memory import Budget
from gmvaluator.scoring.weightings.base import Choice, Temperature, Weighting
from gmvaluator.scoring.weightings.kernel_ridge import Kernel, greatest, ridge_within
from gmvaluator.scoring.weightings.shares import divide_or_equal


class Ridge(Weighting):
    """Squared kernel ridge weights, solved for within the candidates of each generated image."""

    name = "ridge"
    withdrawal = (
        "an approximation: the recorded weights divided by their sum; a kernel ridge solved "
        "without the images would weigh the rest otherwise"
    )

    def conflict(self, *, reranked: bool, mirror: bool) -> str | None:
        if not mirror:
            return None
        return (
            f"weighting {self.name} compares images as they are; pass "
            f"{either('mirror=False', '--no-mirror')}, or "
            "weighting softmax or shapley"
        )

    def choose(self, choice: Choice, k: int) -> Contributors:
        """The k of the greatest weight: of all candidates, or of the k nearest after a re-rank."""
        among = choice.nearest().nearest(k) if choice.reranked else choice.nearest()
        generated = choice.generated
        with choice.progress.stage("weights (ridge)", len(generated)) as advance:
            train, kernel = training_vectors(choice), kernel_of(choice)
            queries = query_vectors(choice)
            weights = ridge_within(kernel, among.rows, train, queries)
            columns, greatest_weights = greatest(weights, k)
            advance(len(generated))
        return replace(
            among,
            rows=np.take_along_axis(among.rows, columns, axis=1),
            distances=np.take_along_axis(among.distances, columns, axis=1),
            beyond=None,
            ridge=greatest_weights,
        )

    def shares(self, contributors: Contributors, temperature: Temperature) -> NDArray[np.float64]:
        del temperature
        if contributors.ridge is None:
            raise InputError(
                f"these contributors have no ridge weights; choose them by weighting {self.name}"
            )
        return divide_or_equal(contributors.ridge)


def kernel_of(choice: Choice) -> Kernel:
    """The kernel, fitted to the training vectors once."""
    return choice.memo.get(
        ("ridge kernel", choice.first.encoder.fingerprint),
        lambda: Kernel.fit(training_vectors(choice), choice.order),
    )


def training_vectors(choice: Choice) -> Vectors:
    """(n, dim) training vectors for products: a third as long where all images are grey."""

    def shorten() -> Vectors:
        vectors = choice.first.vectors
        return one_of_three(vectors, choice.budget) if repeats_thrice(vectors) else vectors

    return choice.memo.get(("ridge vectors", choice.first.encoder.fingerprint), shorten)


def query_vectors(choice: Choice) -> Vectors:
    """(m, dim) generated vectors, as long as `training_vectors`."""
    shortened = training_vectors(choice) is not choice.first.vectors
    return one_of_three(choice.generated, choice.budget) if shortened else choice.generated


def repeats_thrice(vectors: Vectors) -> bool:
    """Whether the thirds of each vector are the same, as pixels of grey images in RGB are."""
    n, dim = vectors.shape
    thirds = (vectors[rows].reshape(-1, 3, dim // 3) for rows in blocks(n, 4 * dim) if dim % 3 == 0)
    return dim % 3 == 0 and all(bool((part == part[:, :1]).all()) for part in thirds)


def one_of_three(vectors: Vectors, budget: Budget) -> Vectors:
    """(b, dim) → (b, dim / 3) with the same differences of distances to grey vectors.

    Σ_c ‖g_c − x‖² = 3 ‖ḡ − x‖² + Σ_c ‖g_c − ḡ‖² for the three thirds g_c of a vector and the third
    x of a grey one. The last sum is a constant of a generated image, and leaves its weights as they
    are.
    """
    n, dim = vectors.shape
    means = budget.allocate((n, dim // 3))
    for rows in blocks(n, 4 * dim):
        mean = vectors[rows].reshape(-1, 3, dim // 3).mean(axis=1)
        means[rows] = np.sqrt(np.float32(3)) * mean
    return means
