"""Re-rank: exact perceptual distances of the recalled pairs, then the k nearest (P_j of Eq. 4).

A distance is always one between vectors. So every image passes through a network once, however
many pairs the image is in, and long vectors (LPIPS) are never held for the whole training set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.base import Encoder
from gmvaluator.errors import InputError
from gmvaluator.geometry import Space, Vectors, pair_squared
from gmvaluator.matching.placed import PlacedSet, RecallSpace, place_images, placed_batches
from gmvaluator.matching.recall import Candidates
from gmvaluator.memory import Budget
from gmvaluator.progress import Progress, Silent
from gmvaluator.shown import short_repr

Mixing = Literal["fixed", "decisive"]
"""How several distances become one.

`fixed`: the weighted mean of the distances, each divided by its median among neighbours.
`decisive`: the weighted root mean square of the distances, each divided by its spread over the
training set; a distance counts more for a generated image that it matches decisively and closely.
"""
MIXINGS: tuple[Mixing, ...] = get_args(Mixing)
DECISIVE_AMONG = 10
"""Candidates after the nearest one whose median distance says how decisive the nearest is."""
DECISIVENESS = 8
"""Exponent of the decisiveness of a distance in its weight.

A smaller one finds fewer blurred copies, a larger one ranks contributors of other classes higher;
no benchmark of the repository measures either yet.
"""
CLOSENESS = 1
"""Exponent of the closeness of an image by a distance in the weight of the distance."""
MOST_DECISIVE = 1_000.0


@short_repr
@dataclass(frozen=True, eq=False)
class Contributors:
    """The k training images that share each generated image, best first.

    Attributes:
        rows: (m, k) int64, row of the training image.
        distances: (m, k) float32, in the unit of the re-rank distance.
        n_train: number of training images.
        beyond: (m,) float32, distance of the nearest candidate that is no contributor; None where
            all candidates are contributors.
        ridge: (m, k) float64, squared kernel ridge weights; None for other weightings.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float32]
    n_train: int
    beyond: NDArray[np.float32] | None = None
    ridge: NDArray[np.float64] | None = None

    def nearest(self, k: int) -> Contributors:
        """The first k of each image, of contributors that are sorted by distance."""
        if k >= self.rows.shape[1]:
            return self
        # copies: a view would keep all candidates in memory with the result
        return replace(
            self,
            rows=self.rows[:, :k].copy(),
            distances=self.distances[:, :k].copy(),
            beyond=self.distances[:, k].copy(),
        )


@dataclass(frozen=True, eq=False)
class Term:
    """One distance of the re-rank.

    Attributes:
        encoder: of the vectors that are compared.
        space: metric, with what the metric learned from the training set.
        weight: of the distance in the weighted mean.
        scale: of the distance on the training set; the distance is divided by the scale.
        spacing: median distance of a training image to the nearest other one by this term; None
            where the mixing does not read it.
        mixing: how the distance is joined with others; the same for all terms of a re-rank.
    """

    encoder: Encoder
    space: Space
    weight: float = 1.0
    scale: float = 1.0
    mixing: Mixing = "fixed"
    spacing: float | None = None


def pair_distances(
    term: Term,
    pairs: NDArray[np.int64],
    train: PlacedSet,
    generated: PlacedSet,
    *,
    budget: Budget | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Distances of the (m, c) pairs (generated image j, training image pairs[j, p]) → (m, c).

    Vectors at hand are used. Otherwise generated images are encoded first, and each training image
    in a pair passes once, however many pairs the image is in. A mirrored generated set has 2m rows
    of pairs.
    """
    m, c = pairs.shape
    vectors = place_images(term.encoder, term.space, generated, budget or Budget(), progress)
    train_vectors = train.vectors.get(term.encoder.fingerprint)
    if train_vectors is not None:
        squared = pair_squared(vectors, np.repeat(np.arange(m), c), train_vectors, pairs.ravel())
    else:
        squared = _stream(term, pairs, train, vectors, progress)
    return term.space.distance(squared.reshape(m, c))


def rerank(
    candidates: Candidates,
    train: PlacedSet,
    generated: PlacedSet,
    terms: Sequence[Term],
    k: int,
    *,
    ties: NDArray[np.int64] | None = None,
    budget: Budget | None = None,
    progress: Progress | None = None,
) -> Contributors:
    """The k nearest candidates by one distance, or by a weighted mean of scaled distances.

    Args:
        candidates: recalled training images, (m, c).
        train: the n training images that the rows of the candidates count.
        generated: the m generated images.
        terms: no term keeps the order and distances of the recall; one term gives its distance as
            it is; several terms give Σ_t w_t·d_t/scale_t / Σ_t w_t, or what `decisive_mean`
            says. Of a generated image and its mirror image the nearer counts.
        k: contributors per generated image, at most c.
        ties: (n,) ranks that order training images at equal distance (default: their rows).

    Raises:
        InputError: k exceeds the candidates, or an image can no longer be read.
        RunError: a training image has changed since it was embedded.
    """
    m, c = candidates.rows.shape
    if not 1 <= k <= c:
        raise InputError(f"k={k} contributors of {c} candidates; pass 1 ≤ k ≤ candidates")
    distances = candidates.distances
    if terms:
        pairs = np.tile(candidates.rows, (2 if generated.mirrored else 1, 1))
        by_term = [
            pair_distances(term, pairs, train, generated, budget=budget, progress=progress)
            for term in terms
        ]
        if len(terms) > 1 and terms[0].mixing == "decisive":
            nearer_form = [by_form.reshape(-1, m, c).min(axis=0) for by_form in by_term]
            distances = decisive_mean(terms, nearer_form)
        else:
            distances = _weighted_mean(terms, by_term).reshape(-1, m, c).min(axis=0)
    tie_ranks = candidates.rows if ties is None else ties[candidates.rows]
    order = np.lexsort((tie_ranks, distances), axis=1)
    return Contributors(
        rows=np.take_along_axis(candidates.rows, order, axis=1),
        distances=np.take_along_axis(distances, order, axis=1),
        n_train=candidates.n_train,
    ).nearest(k)


def rerank_among_training(
    terms: Sequence[Term],
    train: PlacedSet,
    first: RecallSpace,
    numbers: NDArray[np.int64],
    others: NDArray[np.int64],
) -> Contributors:
    """Training images as contributors of other training images: all of `others`, nearest first.

    Args:
        terms: of the re-rank; no term: distances in the recall space.
        train: the n training images.
        first: the first recall space.
        numbers: (s,) images that are compared.
        others: (s, c) images that each is compared with.
    """
    # a re-rank of at least one term reads no distance of the recall
    candidates = Candidates(others, np.full(others.shape, np.nan, np.float32), len(train.rows))
    terms = terms or [Term(first.encoder, first.space)]
    return rerank(candidates, train, train.select(numbers), terms, others.shape[1])


def _weighted_mean(
    terms: Sequence[Term], by_term: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The distance of one term as it is, or the weighted mean of several scaled distances."""
    if len(terms) == 1:
        return by_term[0]
    total = np.zeros(by_term[0].shape, dtype=np.float64)
    for term, distances in zip(terms, by_term, strict=True):
        total += (term.weight / term.scale) * distances
    return np.asarray(total / sum(term.weight for term in terms), dtype=np.float32)


def decisive_mean(
    terms: Sequence[Term], by_term: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """√(Σ_t w_tj·(d_t/scale_t)² / Σ_t w_tj), (m, c): a mean that trusts decisive distances.

    w_tj is the term's weight times (d̃_tj / d_tj)^`DECISIVENESS` · (s_t / d_tj)^`CLOSENESS`: d_tj
    is the distance of image j to its nearest candidate by the term, d̃_tj the median distance to
    the next `DECISIVE_AMONG`, s_t the spacing of the training images. So a distance by which one
    candidate stands out, such as the source of a copy, decides for this image. A distance by which
    all candidates are about as far, or the image lies far outside the training images, such as
    features of a texture that no training image has, counts little.

    Args:
        terms: at least two, with weights, scales and spacings.
        by_term: distances of the m images to their c candidates by each term, (m, c).
    """
    m = len(by_term[0])
    weights, total = np.zeros(m), np.zeros(by_term[0].shape)
    for term, distances in zip(terms, by_term, strict=True):
        weight = term.weight * _decisiveness(distances) ** DECISIVENESS
        if term.spacing is not None:
            weight *= _closeness(distances, term.spacing) ** CLOSENESS
        weights += weight
        total += weight[:, None] * np.square(distances / term.scale, dtype=np.float64)
    return np.asarray(np.sqrt(total / weights[:, None]), dtype=np.float32)


def _decisiveness(distances: NDArray[np.float32]) -> NDArray[np.float64]:
    """(m,) median distance of the candidates after the nearest one, divided by the nearest's."""
    few = min(DECISIVE_AMONG + 1, distances.shape[1])
    if few < 2:
        return np.ones(len(distances))
    near = np.sort(np.partition(distances, few - 1, axis=1)[:, :few], axis=1).astype(np.float64)
    nearest, others = near[:, 0], np.median(near[:, 1:], axis=1)
    ratio = np.full(len(near), MOST_DECISIVE)
    np.divide(others, nearest, out=ratio, where=nearest * MOST_DECISIVE > others)
    return np.where(others > 0, ratio, 1.0)


def _closeness(distances: NDArray[np.float32], spacing: float) -> NDArray[np.float64]:
    """(m,) the spacing of training images, divided by the distance of the nearest candidate."""
    nearest = distances.min(axis=1).astype(np.float64)
    return np.asarray(spacing / np.maximum(nearest, spacing / MOST_DECISIVE))


def _stream(
    term: Term,
    pairs: NDArray[np.int64],
    train: PlacedSet,
    generated: Vectors,
    progress: Progress | None,
) -> NDArray[np.float32]:
    """Pass each training image in `pairs` through the network once; (m·c,) squared distances."""
    c = pairs.shape[1]
    squared = np.empty(pairs.size, dtype=np.float32)
    by_train = np.argsort(pairs, axis=None, kind="stable")
    numbers, starts = np.unique(pairs.ravel()[by_train], return_index=True)
    ends = np.append(starts[1:], pairs.size)
    with (progress or Silent()).stage(f"{term.encoder.name}: candidates", len(numbers)) as advance:
        for part, block in placed_batches(term.encoder, term.space, train, numbers):
            slots = by_train[starts[part.start] : ends[part.stop - 1]]
            within = np.repeat(np.arange(len(block)), ends[part] - starts[part])
            # by generated image: its vector, however long, then comes from memory once
            order = np.argsort(slots, kind="stable")
            slots = slots[order]
            squared[slots] = pair_squared(block, within[order], generated, slots // c)
            advance(len(block))
    return squared
