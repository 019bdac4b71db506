"""The training images of greatest influence, from whole columns of influences."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from gmvaluator.scoring.scores import Contributions

Influence = NDArray[np.float64]


def proponents(influence: Influence, k: int) -> NDArray[np.int64]:
    """(m, k) rows of the k training images of greatest influence on each test image, best first.

    Args:
        influence: (n_train, m).
        k: 1 to n_train.
    """
    order = np.argsort(-influence, axis=0, kind="stable")
    return np.ascontiguousarray(order[:k].T)


def opponents(influence: Influence, k: int) -> NDArray[np.int64]:
    """(m, k) rows of the k training images of least influence, the most negative first."""
    return proponents(-influence, k)


def strongest(blocks: Iterable[Influence], k: int) -> Contributions:
    """The k proponents of each test image, with signed scores; nearer is more influential.

    Args:
        blocks: (n_train, b) of some test images after the others.
        k: 1 to n_train.
    """
    rows, scores, n = [], [], 0
    for influence in blocks:
        n = len(influence)
        rows.append(proponents(influence, k))
        scores.append(np.take_along_axis(influence, rows[-1].T, axis=0).T)
    best_scores = np.concatenate(scores)
    return Contributions(np.concatenate(rows), (-best_scores).astype(np.float32), best_scores, n)
