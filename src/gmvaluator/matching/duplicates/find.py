"""Find copies within a training set: images of equal pixels, and images that look nearly the same.

A hundred copies of one image would take a hundred places among the contributors, and the owner of
the image would gain by the copies. So copies form clusters, and a cluster counts once (`clusters`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gmvaluator.geometry import Vectors, blocks
from gmvaluator.images import ImageSet
from gmvaluator.matching.placed import PlacedSet, RecallSpace
from gmvaluator.matching.rerank import Term, rerank_among_training
from gmvaluator.matching.search.build import build_index, choose_index
from gmvaluator.matching.search.indexes import Index
from gmvaluator.memory import Budget, once
from gmvaluator.progress import Progress
from gmvaluator.shown import short_repr

if TYPE_CHECKING:
    from gmvaluator.matching.duplicates.differences import Differences

ROUNDING = 1e-3
"""How far an encoder may place two images of equal pixels apart, in parts of a vector's length.

Measured are 1e-6 (EfficientNet-Lite0 by torch, in batches of other sizes) and 0 (by OpenVINO).
Images within it are decoded and compared, so a larger part costs time and never a wrong cluster.
"""
REDUCED = 0.25
"""As `ROUNDING`, for a JPEG that was decoded at a fraction of its size and another file of its
pixels. Measured is 0.1 at most (benchmarks/decoding.py)."""
MOST_STEPS = 64
"""Neighbours looked at on a line; where more are as near as that, all are decoded."""
NEAR_SHARE = 1 / 5
"""Near copies lie within this part of the spacing of training images (`engine.train`).

Chosen by benchmarks/near_copies.py: of 2,000 digits or photos no two different ones lie within it,
and within a third of the spacing one or two in a hundred digits have another. Wrong clusters would
take value from whom it belongs to; a copy that is missed keeps what it has with `exact`. In a set
of many kinds of images different ones lie within it too; these differ in a part (`differences`).
"""
RECALL_SHARE = 1 / 2
"""And within this part of the spacing in the recall space, where pairs are looked for."""
NEIGHBOURS = 16
"""Others that an image is compared with at first; more of them where all are copies."""


def exact_copies(
    images: ImageSet,
    rows: NDArray[np.int64],
    keys: Sequence[str],
    order: NDArray[np.int64],
    vectors: Vectors,
    progress: Progress,
    fractions: NDArray[np.int8] | None = None,
) -> NDArray[np.int64]:
    """(n,) for each image the first in `order` whose decoded pixels, at full size, are the same.

    Images of one content key are copies. Other images of equal pixels have nearly equal vectors, so
    only images with a neighbour that near are decoded again. An image that can no longer be read
    has no copies, and neither has an image that a random encoder places elsewhere. A JPEG that was
    decoded at a fraction of its size and another file of its pixels have vectors less near.

    Args:
        images: the set.
        rows: (n,) row of each image in it.
        keys: n content keys.
        order: (n,) see `TrainingSet.order`: by key.
        vectors: (n, dim) as the encoder gave them.
        progress: counts the images that are decoded and compared.
        fractions: (n,) see `Batch`; None: all images were decoded whole.
    """
    first = np.empty(len(keys), dtype=np.int64)
    seen: dict[str, int] = {}
    for row in order.tolist():
        first[row] = seen.setdefault(keys[row], row)
    likely = np.flatnonzero(first == np.arange(len(first)))
    alike = np.zeros(len(likely), dtype=np.bool_)
    if len(likely) > 1:
        alike = _likely_copies(_projected(vectors)[likely])
        if fractions is not None:
            alike |= _likely_otherwise(vectors, likely, fractions[likely])
    likely = likely[alike]
    if not len(likely):
        return first
    pixel_keys: dict[int, str] = {}
    with progress.stage("comparing pixels of likely copies", len(likely)) as advance:
        for row, key in zip(likely.tolist(), images.pixel_keys(rows[likely]), strict=True):
            if key is not None:
                pixel_keys[row] = key
            advance(1)
    by_pixels: dict[str, int] = {}
    leaders = np.arange(len(first))
    for row in order.tolist():
        if row in pixel_keys:
            leaders[row] = by_pixels.setdefault(pixel_keys[row], row)
    return np.asarray(leaders[first], dtype=np.int64)


def _projected(vectors: Vectors) -> NDArray[np.float64]:
    """(n, 3) places of (n, dim) vectors on three fixed random lines, in units of `ROUNDING`."""
    n, dim = vectors.shape
    lines = np.random.default_rng(0).choice((-1.0, 1.0), (dim, 3)).astype(np.float32)
    places, squares = np.empty((n, 3)), 0.0
    for rows in blocks(n, 4 * dim):
        block = np.asarray(vectors[rows])
        places[rows] = block @ lines
        squares += float(np.einsum("ij,ij->", block, block, dtype=np.float64))
    unit = ROUNDING * np.sqrt(squares / n)
    return places / unit if unit > 0 else np.zeros_like(places)


def _likely_copies(places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) whether another of (n, 3) points lies within 1 of a point on every line.

    By sorting, in cells of width 4 on the first line and along the second. The cells are laid
    twice, half a cell apart: two points within 1 share a cell of one of the two.
    """
    n = len(places)
    likely = np.zeros(n, dtype=np.bool_)
    for shift in (0.0, 0.5):
        cells = np.floor(places[:, 0] / 4 + shift)
        order = np.lexsort((places[:, 1], cells))
        cells, sorted_places = cells[order], places[order]
        here = np.arange(n - 1)
        for step in range(1, MOST_STEPS + 2):
            here = here[here + step < n]
            there = here + step
            apart = np.abs(sorted_places[there] - sorted_places[here])
            close = (cells[there] == cells[here]) & (apart[:, 1] <= 1)
            here, there, apart = here[close], there[close], apart[close]
            # so many within reach that it would take long to tell them apart
            alike = (apart <= 1).all(axis=1) | (step > MOST_STEPS)
            likely[order[here[alike]]] = True
            likely[order[there[alike]]] = True
            if not len(here) or likely.all():
                break
    return likely


def _likely_otherwise(
    vectors: Vectors, rows: NDArray[np.int64], fractions: NDArray[np.int8]
) -> NDArray[np.bool_]:
    """(r,) whether a reduced JPEG and an image of another format lie within `REDUCED`.

    Args:
        vectors: (n, dim) as the encoder gave them.
        rows: (r,) that are looked at.
        fractions: (r,) see `Batch`.
    """
    likely = np.zeros(len(rows), dtype=np.bool_)
    reduced, others = np.flatnonzero(fractions > 1), np.flatnonzero(fractions == 0)
    for some in blocks(len(reduced), 4 * vectors.shape[1]):
        jpegs = np.asarray(vectors[rows[reduced[some]]])
        lengths = np.einsum("ij,ij->i", jpegs, jpegs)
        for part in blocks(len(others), 4 * max(vectors.shape[1], len(jpegs))):
            block = np.asarray(vectors[rows[others[part]]])
            squared = np.einsum("ij,ij->i", block, block)[:, None] + lengths - 2 * block @ jpegs.T
            near = squared <= REDUCED**2 * lengths
            likely[others[part]] |= near.any(axis=1)
            likely[reduced[some]] |= near.any(axis=0)
    return likely


@short_repr
@dataclass(frozen=True, eq=False)
class Copies:
    """For each of c images the one that stands for it, and the distance to that one, (c,) each."""

    representatives: NDArray[np.int64]
    distances: NDArray[np.float32]


@short_repr
@dataclass(frozen=True, eq=False)
class NearSearch:
    """The images that near copies are looked for among, and the distances that decide.

    Attributes:
        terms: of the re-rank; no term: distances in the recall space.
        train: the c images, no two of which have the same pixels.
        first: the recall space.
        order: (c,) see `TrainingSet.order`.
        threshold: re-rank distance up to which an image is a near copy.
        reach: distance in the recall space up to which pairs are compared.
    """

    terms: Sequence[Term]
    train: PlacedSet
    first: RecallSpace
    order: NDArray[np.int64]
    threshold: float
    reach: float

    @property
    @once
    def differences(self) -> Differences:
        """Compares pairs by their pixels."""
        # torch is imported only where near copies are looked for
        from gmvaluator.matching.duplicates.differences import Differences

        return Differences(self.train.source(), self.train.rows)


def near_copies(search: NearSearch, *, seed: int, budget: Budget, progress: Progress) -> Copies:
    """Clusters of near copies, each around one image that stands for it.

    Two images are near copies if their distance lies within `threshold` and no part of the pictures
    differs. In the fixed order, an image that is no near copy of an earlier representative becomes
    one itself. Every other image goes to the nearest representative it is a near copy of. So no
    chain of small steps leads from one image to a different one, and two images of a cluster are
    at most two thresholds apart.

    Args:
        search: the images and distances.
        seed: of the index, where `choose_index` takes a trained one.
        progress: counts the images that are compared.
    """
    vectors = search.first.vectors
    c, dim = vectors.shape
    name = choose_index(c, c, dim, memory=budget.total)
    index = build_index(vectors, name, order=search.order, seed=seed)
    near = _among_neighbours(search, index, progress)
    representatives = np.arange(c)
    distances = np.zeros(c, dtype=np.float32)
    leads, taken = np.zeros(c, dtype=np.bool_), np.zeros(c, dtype=np.bool_)
    for row in search.order.tolist():
        if taken[row] or row not in near:
            continue
        leads[row] = True
        for other, distance in _all_near(search, index, row, near[row]).items():
            if not leads[other] and (not taken[other] or distance < distances[other]):
                taken[other] = True
                representatives[other], distances[other] = row, distance
    return Copies(representatives, distances)


def _among_neighbours(
    search: NearSearch, index: Index, progress: Progress
) -> dict[int, dict[int, float]]:
    """Near copies of each image that has any among its neighbours, or is one of another's."""
    c = len(search.first.vectors)
    near: dict[int, dict[int, float]] = defaultdict(dict)
    with progress.stage("looking for near copies", c) as advance:
        for rows in blocks(c, 4 * search.first.vectors.shape[1]):
            numbers = np.arange(rows.start, rows.stop)
            for row, other, distance in _near_pairs(search, index, numbers, NEIGHBOURS):
                near[row][other] = distance
                near[other][row] = distance
            advance(len(numbers))
    return near


def _all_near(
    search: NearSearch, index: Index, row: int, known: dict[int, float]
) -> dict[int, float]:
    """All near copies of one image: more neighbours are compared until one is no near copy.

    Args:
        known: near copies of the image that are known already, with their distances.
    """
    near, n = dict(known), NEIGHBOURS
    while len(near) >= n and n < len(search.first.vectors) - 1:
        n *= 2
        pairs = _near_pairs(search, index, np.array([row]), n)
        near |= {other: distance for _, other, distance in pairs}
    return near


def _near_pairs(
    search: NearSearch, index: Index, numbers: NDArray[np.int64], n: int
) -> list[tuple[int, int, float]]:
    """(image, other, distance) of near copies among the n neighbours of each of some images."""
    vectors = search.first.vectors
    squared, others = index.search(vectors[numbers], min(n + 1, len(vectors)))
    within = search.first.space.distance(squared) <= search.reach
    within &= others != numbers[:, None]
    has_near = within.any(axis=1)
    if not has_near.any():
        return []
    # the places of the image itself and of what is out of reach repeat its first neighbour
    first = np.take_along_axis(others, within.argmax(axis=1)[:, None], axis=1)
    numbers, others = numbers[has_near], np.where(within, others, first)[has_near]
    ranked = rerank_among_training(search.terms, search.train, search.first, numbers, others)
    rows, places = np.nonzero(ranked.distances <= search.threshold)
    if not len(rows):
        return []
    pairs = np.column_stack([numbers[rows], ranked.rows[rows, places]])
    alike = search.differences.alike(pairs)
    distances = ranked.distances[rows, places]
    (rows, others), distances = pairs[alike].T, distances[alike]
    return list(zip(rows.tolist(), others.tolist(), distances.tolist(), strict=True))
