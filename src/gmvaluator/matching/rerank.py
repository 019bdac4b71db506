"""Re-rank: exact perceptual distances on the recalled pairs, then the k nearest (Eq. 4's P_j).

A distance here is always one between vectors, so every image passes through a network once,
however many pairs it is in, and long vectors (LPIPS) are never held for the whole training set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.embedding import Tally, encode_batches
from gmvaluator.encoders.mirrored import Mirrored
from gmvaluator.errors import InputError, RunError
from gmvaluator.geometry import Space, Vectors, pair_squared
from gmvaluator.images import Batch, ImageSet
from gmvaluator.matching.recall import Candidates
from gmvaluator.memory import DEFAULT_MEMORY, allocate
from gmvaluator.progress import Progress, Silent


@dataclass(frozen=True, eq=False)
class Contributors:
    """The k training images that share each generated one, best first.

    Attributes:
        rows: (m, k) int64, row of the training image.
        distances: (m, k) float32, in the re-rank distance's unit.
        n_train: number of training images.
        beyond: (m,) float32, distance of the nearest candidate that was not kept; None where all
            were kept.
        ridge: (m, k) float64, squared kernel ridge weights; None where they were not asked for.
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
    """One distance of the re-rank: an encoder, its space, and its share in the weighted mean."""

    encoder: Encoder
    space: Space
    weight: float = 1.0
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class Side:
    """One side of the comparison: the readable images of a set, and vectors already at hand.

    Attributes:
        images: where the images are read from.
        rows: (n,) row in `images` of each image compared here.
        placed: placed vectors by encoder fingerprint, each (n, dim).
        keys: n content keys that the images must still have; None where they cannot change.
        tally: counts what passes through the networks.
        mirrored: whether the n images are followed by their n mirror images; 2n vectors then.
    """

    images: ImageSet
    rows: NDArray[np.int64]
    placed: dict[str, Vectors]
    keys: tuple[str, ...] | None = None
    tally: Tally = field(default_factory=Tally)
    mirrored: bool = False


def pair_distances(
    term: Term,
    pairs: NDArray[np.int64],
    train: Side,
    generated: Side,
    *,
    memory: int = DEFAULT_MEMORY,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Distances of the (m, c) pairs (generated image j, training image pairs[j, p]) → (m, c).

    Vectors at hand are used; otherwise generated images are encoded first and each training
    image in a pair passes once, however many pairs it is in. Mirror images, where the generated
    side has them, are images like the others: 2m rows of pairs then. Of `memory` bytes half may
    hold vectors of generated images; more of them go to a scratch file.
    """
    m, c = pairs.shape
    train_vectors = train.placed.get(term.encoder.fingerprint)
    if train_vectors is not None:
        vectors = placed_vectors(term, generated, memory, progress)
        squared = pair_squared(vectors, np.repeat(np.arange(m), c), train_vectors, pairs.ravel())
    else:
        vectors = placed_vectors(term, generated, memory, progress)
        squared = _stream(term, pairs, train, vectors, progress)
    return term.space.distance(squared.reshape(m, c))


def rerank(
    candidates: Candidates,
    train: Side,
    generated: Side,
    terms: Sequence[Term],
    k: int,
    *,
    ties: NDArray[np.int64] | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: Progress | None = None,
) -> Contributors:
    """The k nearest candidates by one distance, or by a weighted mean of scaled ones.

    Args:
        candidates: recalled training images, (m, c).
        train: the n training images the candidates' rows count.
        generated: the m generated images.
        terms: none keeps the recall's order and distances; one gives its distance as it is;
            several give Σ_t w_t·d_t/scale_t / Σ_t w_t. Of a generated image and its mirror image,
            where that side has them, the nearer counts.
        k: contributors a generated image, at most c.
        ties: (n,) ranks that order training images at equal distance (default: their rows).
        memory: bytes that may be used; see `pair_distances`.

    Raises:
        InputError: k exceeds the candidates, or an image can no longer be read.
        RunError: a training image is another one than when it was embedded.
    """
    m, c = candidates.rows.shape
    if not 1 <= k <= c:
        raise InputError(f"k={k} contributors of {c} candidates; pass 1 ≤ k ≤ candidates")
    if not terms:
        distances = candidates.distances
    else:
        pairs = np.tile(candidates.rows, (2 if generated.mirrored else 1, 1))
        each = _mean_distances(terms, pairs, train, generated, memory, progress)
        distances = each.reshape(-1, m, c).min(axis=0)
    tie_ranks = candidates.rows if ties is None else ties[candidates.rows]
    order = np.lexsort((tie_ranks, distances), axis=1)
    return Contributors(
        rows=np.take_along_axis(candidates.rows, order, axis=1),
        distances=np.take_along_axis(distances, order, axis=1),
        n_train=candidates.n_train,
    ).nearest(k)


def among_training(
    terms: Sequence[Term],
    side: Side,
    space: Space,
    vectors: Vectors,
    asking: NDArray[np.int64],
    others: NDArray[np.int64],
) -> Contributors:
    """Training images as contributors of other training images: all of `others`, nearest first.

    Args:
        terms: of the re-rank; none: distances in the recall space.
        side: the n training images.
        space, vectors: the recall space and the (n, dim) vectors placed in it.
        asking: (s,) rows of the images that are compared.
        others: (s, c) rows of those that each is compared with.
    """
    placed = {name: known[asking] for name, known in side.placed.items()}
    keys = None if side.keys is None else tuple(side.keys[row] for row in asking)
    queries = Side(side.images, side.rows[asking], placed, keys, side.tally)
    repeated = np.repeat(asking, others.shape[1])
    squared = pair_squared(vectors, repeated, vectors, others.ravel()).reshape(others.shape)
    found = Candidates(others, space.distance(squared), len(vectors))
    return rerank(found, side, queries, terms, others.shape[1])


def _mean_distances(
    terms: Sequence[Term],
    pairs: NDArray[np.int64],
    train: Side,
    generated: Side,
    memory: int,
    progress: Progress | None,
) -> NDArray[np.float32]:
    """The distance of one term as it is, the weighted mean of scaled ones of several."""
    if len(terms) == 1:
        return pair_distances(terms[0], pairs, train, generated, memory=memory, progress=progress)
    total = np.zeros(pairs.shape, dtype=np.float64)
    for term in terms:
        total += (term.weight / term.scale) * pair_distances(
            term, pairs, train, generated, memory=memory, progress=progress
        )
    return np.asarray(total / sum(term.weight for term in terms), dtype=np.float32)


def placed_vectors(
    term: Term,
    side: Side,
    memory: int = DEFAULT_MEMORY,
    progress: Progress | None = None,
    *,
    what: str = "generated",
) -> Vectors:
    """All vectors of a side in the term's space, on disk where half of `memory` does not hold them.

    Args:
        what: names the side's images in progress.

    Raises:
        InputError: an image can no longer be read.
        RunError: a training image is another one than when it was embedded.
    """
    at_hand = side.placed.get(term.encoder.fingerprint)
    if at_hand is not None:
        return at_hand
    encoders = [term.encoder, *([Mirrored(term.encoder)] if side.mirrored else [])]
    n = len(encoders) * len(side.rows)
    vectors: Vectors | None = None
    with (progress or Silent()).stage(f"{term.encoder.name}: {what}", n) as advance:
        start = 0
        for batch, block in chain.from_iterable(
            encode_batches(side.images, encoder, rows=side.rows, strict=True, tally=side.tally)
            for encoder in encoders
        ):
            if vectors is None:
                vectors = allocate((n, block.shape[1]), memory // 2)
            _check_unchanged(side, np.arange(start, start + len(block)) % len(side.rows), batch)
            vectors[start : start + len(block)] = term.space.place(block, in_place=True)
            start += len(block)
            advance(len(batch.rows))
    if vectors is None:
        raise InputError("no generated image to compare; pass at least one readable image")
    return vectors


def _stream(
    term: Term,
    pairs: NDArray[np.int64],
    train: Side,
    generated: Vectors,
    progress: Progress | None,
) -> NDArray[np.float32]:
    """Pass each training image in `pairs` through the network once; (m·c,) squared distances."""
    c = pairs.shape[1]
    squared = np.empty(pairs.size, dtype=np.float32)
    by_train = np.argsort(pairs, axis=None, kind="stable")
    asked, starts = np.unique(pairs.ravel()[by_train], return_index=True)
    ends = np.append(starts[1:], pairs.size)
    with (progress or Silent()).stage(f"{term.encoder.name}: candidates", len(asked)) as advance:
        done = 0
        for batch, block in encode_batches(
            train.images, term.encoder, rows=train.rows[asked], strict=True, tally=train.tally
        ):
            numbers = slice(done, done + len(block))
            _check_unchanged(train, asked[numbers], batch)
            slots = by_train[starts[done] : ends[numbers.stop - 1]]
            within = np.repeat(np.arange(len(block)), ends[numbers] - starts[numbers])
            # by generated image: its vector, long as it may be, then comes from memory once
            order = np.argsort(slots, kind="stable")
            slots = slots[order]
            squared[slots] = pair_squared(
                term.space.place(block, in_place=True), within[order], generated, slots // c
            )
            done = numbers.stop
            advance(len(batch.rows))
    return squared


def _check_unchanged(train: Side, numbers: NDArray[np.int64], batch: Batch) -> None:
    if train.keys is None:
        return
    for number, key in zip(numbers, batch.keys, strict=True):
        if train.keys[number] != key:
            name = train.images.ids[train.rows[number]]
            raise RunError(
                f"training image {name} has changed since it was embedded; fit or make the index "
                "again"
            )
