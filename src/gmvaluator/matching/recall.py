"""Recall: the nearest training images of every generated image, in one or two recall spaces.

The paper recalls by product quantization (Jégou et al., 2011). The indexes are in
`gmvaluator.matching.search`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmvaluator.geometry import Space, Vectors
from gmvaluator.matching.placed import PlacedSet, RecallSpace
from gmvaluator.matching.search.build import choose_index
from gmvaluator.matching.search.indexes import Index
from gmvaluator.memory import Budget
from gmvaluator.progress import Progress
from gmvaluator.shown import short_repr

OpenIndex = Callable[[RecallSpace, str], Index]
"""The index of a name over the training vectors of a recall space."""


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


def recall(
    spaces: Sequence[RecallSpace],
    generated: PlacedSet,
    n: int,
    *,
    index: str,
    open_index: OpenIndex,
    ties: NDArray[np.int64],
    budget: Budget,
    progress: Progress,
) -> Candidates:
    """The n candidates of each generated image.

    One space gives the n nearest, two spaces give the nearest of both by turns. Of an image and its
    mirror image the nearer counts.

    Args:
        spaces: one or two recall spaces.
        generated: m images, placed in each of the spaces.
        n: candidates per generated image.
        index: name of the index; `auto` chooses one by size (`choose_index`).
        open_index: opens an index over a space.
        ties: (n_train,) ranks that order training images at equal distance.
    """
    names: list[str] = []
    by_space: list[Candidates] = []
    for recall_space in spaces:
        queries = generated.vectors[recall_space.encoder.fingerprint]
        n_train, dim = recall_space.vectors.shape
        name = index
        if index == "auto":
            name = choose_index(n_train, len(queries), dim, memory=budget.total)
        with progress.stage(f"recall ({name})", len(queries)) as advance:
            candidates = search_space(
                open_index(recall_space, name), recall_space.space, queries, n, n_train=n_train
            )
            advance(len(queries))
        names.append(name)
        by_space.append(nearer(candidates, ties) if generated.mirrored else candidates)
    merged = by_space[0] if len(by_space) == 1 else by_turns(by_space[0], by_space[1], ties)
    return Candidates(merged.rows, merged.distances, merged.n_train, tuple(names))


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
    rows = np.concatenate(list(both.rows.reshape(by_image)), axis=1)
    distances = np.concatenate(list(both.distances.reshape(by_image)), axis=1)
    order = np.lexsort((ties[rows], distances), axis=1)
    rows = np.take_along_axis(rows, order, axis=1)
    distances = np.take_along_axis(distances, order, axis=1)
    first = first_distinct(rows, n)
    return Candidates(
        rows=np.take_along_axis(rows, first, axis=1),
        distances=np.take_along_axis(distances, first, axis=1),
        n_train=both.n_train,
    )


def by_turns(first: Candidates, second: Candidates, ties: NDArray[np.int64]) -> Candidates:
    """(m, n) candidates from two lists of (m, n): the nearest of both spaces by turns.

    The distances are NaN, since distances of two spaces do not compare. A re-rank gives distances.

    Args:
        first, second: (m, n) candidates of the two spaces.
        ties: (n_train,) ranks that order training images at equal distance.
    """
    m, n = first.rows.shape
    ranked = [
        np.take_along_axis(
            candidates.rows,
            np.lexsort((ties[candidates.rows], candidates.distances), axis=1),
            axis=1,
        )
        for candidates in (first, second)
    ]
    turns = np.stack(ranked, axis=2).reshape(m, 2 * n)
    rows = np.take_along_axis(turns, first_distinct(turns, n), axis=1)
    return Candidates(rows, np.full(rows.shape, np.nan, np.float32), first.n_train)


def first_distinct(rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """(m, n) columns of the first n distinct numbers of each row of (m, w), in their order."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    repeated = np.zeros(rows.shape, dtype=bool)
    np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return np.argsort(repeated, axis=1, kind="stable")[:, :n]
