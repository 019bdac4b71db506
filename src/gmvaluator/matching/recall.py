"""Recall: the nearest training images of every generated image, in one or two recall spaces.

The paper recalls by product quantization (Jégou et al., 2011). The indexes are in
`gmvaluator.matching.search`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gmvaluator.geometry import Space, Vectors
from gmvaluator.matching.search.indexes import Index
from gmvaluator.shown import short_repr


@short_repr
@dataclass(frozen=True, eq=False)
class Candidates:
    """Training images recalled for each generated image.

    From one recall space the nearest come first. From two spaces the nearest of both come by turns,
    and `distances` is NaN, since distances of two spaces do not compare.

    Attributes:
        rows: (m, candidates) int64, row of the training image.
        distances: (m, candidates) float32, in the unit of the recall space; an approximate index
            gives its own estimate.
        n_train: number of training images.
        indexes: name of the index that was searched in each recall space.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float32]
    n_train: int
    indexes: tuple[str, ...] = ()

    def take(self, columns: NDArray[np.int64]) -> Candidates:
        """Some of the candidates of each image.

        Args:
            columns: (m, c) number of each within its row.
        """
        return replace(
            self,
            rows=np.take_along_axis(self.rows, columns, axis=1),
            distances=np.take_along_axis(self.distances, columns, axis=1),
        )

    def sorted(self, ties: NDArray[np.int64]) -> Candidates:
        """The candidates of each image, nearest first; `ties` order them at equal distance."""
        return self.take(np.lexsort((ties[self.rows], self.distances), axis=1))


def search_space(
    index: Index, space: Space, queries: Vectors, n: int, *, n_train: int
) -> Candidates:
    """The n nearest training images of each query in one space.

    Args:
        index: built on the training images placed in `space`.
        queries: (m, dim), placed in `space`.
        n: candidates per query, at most `n_train`.
    """
    squared, rows = index.search(queries, n)
    return Candidates(rows=rows, distances=space.distance(squared), n_train=n_train)


def nearer(both: Candidates, ties: NDArray[np.int64]) -> Candidates:
    """Merge the candidates of m images with the candidates of their mirror images.

    A training image counts once, at the smaller of its two distances. The result is exact if the
    search was: one of the n nearest of both lists is one of the n nearest of its own list.

    Args:
        both: (2m, n): row j is of image j, row m + j of its mirror image.
        ties: (n_train,) ranks that order training images at equal distance.
    """
    n_queries, n = both.rows.shape
    by_image = (2, n_queries // 2, n)
    joined = replace(
        both,
        rows=np.concatenate(list(both.rows.reshape(by_image)), axis=1),
        distances=np.concatenate(list(both.distances.reshape(by_image)), axis=1),
    )
    joined = joined.sorted(ties)
    return joined.take(first_distinct(joined.rows, n))


def by_turns(first: Candidates, second: Candidates, ties: NDArray[np.int64]) -> Candidates:
    """(m, n) candidates from two lists of (m, n): the nearest of both spaces by turns.

    The distances are NaN, since distances of two spaces do not compare. A re-rank gives distances.

    Args:
        first, second: (m, n) candidates of the two spaces.
        ties: (n_train,) ranks that order training images at equal distance.
    """
    m, n = first.rows.shape
    ranked = [candidates.sorted(ties).rows for candidates in (first, second)]
    turns = np.stack(ranked, axis=2).reshape(m, 2 * n)
    rows = np.take_along_axis(turns, first_distinct(turns, n), axis=1)
    distances = np.full(rows.shape, np.nan, np.float32)
    return Candidates(rows, distances, first.n_train, first.indexes + second.indexes)


def first_distinct(rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """(m, n) columns of the first n distinct numbers of each row of (m, w), in their order."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    repeated = np.zeros(rows.shape, dtype=bool)
    np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return np.argsort(repeated, axis=1, kind="stable")[:, :n]
