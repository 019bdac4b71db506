"""Learning from a training set: its vectors, and the space and scale of every distance."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.embedding import Embeddings, Tally, embed, encode_batches
from gmvaluator.engine.trained import Fitted, FittedTerm, RecallSpace, TrainingSet, training_set
from gmvaluator.errors import InputError
from gmvaluator.geometry import Space, Vectors, blocks, evenly_spread, nearest
from gmvaluator.images import ImageSet
from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.matching.duplicates.find import (
    NEAR_SHARE,
    RECALL_SHARE,
    NearSearch,
    exact_copies,
    near_copies,
)
from gmvaluator.matching.rerank import Side, Term, among_training, pair_distances, placed_vectors
from gmvaluator.memory import allocate
from gmvaluator.progress import Progress
from gmvaluator.scoring.quality import RealismReference
from gmvaluator.settings import DEFAULT_CANDIDATES, Settings, resolve_counts

SCALE_IMAGES = 64
SCALE_PAIRS = 32
MEAN_IMAGES = 1_024


def fit_images(
    images: ImageSet,
    encoders: Sequence[Encoder],
    rerankers: Sequence[Encoder],
    settings: Settings,
    *,
    strict: bool,
    memory: int,
    progress: Progress,
) -> Fitted:
    """Embed the training images and learn what valuing needs of them.

    Args:
        images: the training images.
        encoders: of the recall, one or two.
        rerankers: encoders of the re-rank distances, in the order of `settings.rerank`.
        settings: of the valuation.
        strict: fail on the first image that cannot be read.
        memory: bytes that may be used; see `embed`.
        progress: hears how far embedding is.

    Raises:
        InputError: no readable image, or fewer than k or candidates.
    """
    start = time.perf_counter()
    encoder = encoders[0]
    embeddings = embed(
        images, encoder, strict=strict, memory=memory, progress=progress, stage="embed train"
    )
    embedded = time.perf_counter()
    train = training_set(images.ids, images.labels, images.location, embeddings)
    learner = _Learner(images, encoders, rerankers, settings, memory, progress)
    seconds = {"embed train": embedded - start}
    clusters = None
    if settings.dedup != "none":
        clusters = learner.clusters(train, embeddings)
        seconds["find copies"] = time.perf_counter() - embedded
    compared = time.perf_counter()
    distinct, raw = _kept(train, embeddings.vectors, clusters)
    resolve_counts(settings, len(distinct.ids), copies=len(train.ids) - len(distinct.ids))
    _check_different(settings, len(distinct.ids), len(train.ids))
    learned = learner.learn(distinct, raw, embeddings.tally)
    names = [name for name, _ in settings.rerank]
    everyone = {each.name: each for each in (*encoders, *rerankers)}
    terms = [(term.space, term.scale) for term in learned.terms]
    realism = None
    if settings.quality == "realism":
        realism = RealismReference.fit(learned.vectors, learned.order)
    return Fitted(
        train=train,
        space=learned.space,
        vectors=learned.vectors,
        order=learned.order,
        terms=tuple(FittedTerm(name, *each) for name, each in zip(names, terms, strict=True)),
        realism=realism,
        encoders={name: each.fingerprint for name, each in everyone.items()},
        weights=_weight_hashes(everyone.values()),
        tally=embeddings.tally,
        second=learned.second,
        clusters=clusters,
        dedup=settings.dedup,
        seconds=seconds | {"fit": time.perf_counter() - compared},
    )


@dataclass(frozen=True, eq=False)
class _Learned:
    """What `Fitted` holds of c images: spaces, vectors, and the re-rank with its scales."""

    space: Space
    vectors: Vectors
    order: NDArray[np.int64]
    second: RecallSpace | None
    terms: tuple[Term, ...]
    side: Side


@dataclass(frozen=True, eq=False)
class _Learner:
    """Learns of training images what settings need; see `fit_images`."""

    images: ImageSet
    encoders: Sequence[Encoder]
    rerankers: Sequence[Encoder]
    settings: Settings
    memory: int
    progress: Progress

    def learn(self, train: TrainingSet, vectors: Vectors, tally: Tally) -> _Learned:
        """Of (n, dim) vectors by the first encoder, whose memory is used again."""
        encoder, *others = self.encoders
        candidates = self.settings.candidates or max(DEFAULT_CANDIDATES, self.settings.k or 0)
        space = Space.fit(encoder.metric, vectors)
        vectors = space.place(vectors, in_place=True)
        order = train.order
        side = Side(self.images, train.rows, {encoder.fingerprint: vectors}, tally=tally)
        known = {encoder.fingerprint: space}
        for each in (*others, *self.rerankers):
            if each.fingerprint not in known:
                known[each.fingerprint] = _fit_space(each, side, order)
        second = None
        if others:
            term = Term(others[0], known[others[0].fingerprint])
            placed = placed_vectors(term, side, self.memory, self.progress, what="train")
            second = RecallSpace(term.space, placed)
            side.placed[term.encoder.fingerprint] = placed
        terms = [Term(each, known[each.fingerprint]) for each in self.rerankers]
        if len(terms) > 1:
            scales = learn_scales(terms, side, vectors, order, candidates)
            weights = [weight for _, weight in self.settings.rerank]
            terms = [
                replace(term, weight=weight, scale=scale)
                for term, weight, scale in zip(terms, weights, scales, strict=True)
            ]
        return _Learned(space, vectors, order, second, tuple(terms), side)

    def clusters(self, train: TrainingSet, embeddings: Embeddings) -> Clusters:
        """Copies among the training images, exact ones and, where the settings ask, near ones."""
        exact = Clusters.exact(
            exact_copies(
                self.images, train.rows, train.keys, train.order, embeddings.vectors, self.progress
            )
        )
        if self.settings.dedup != "near" or len(exact.kept) < 2:
            return exact
        # learned of a copy of the vectors: what is valued by is learned of what remains
        raw = allocate((len(exact.kept), embeddings.vectors.shape[1]), self.memory // 2)
        for rows in blocks(len(raw), 4 * raw.shape[1]):
            raw[rows] = embeddings.vectors[exact.kept[rows]]
        learned = self.learn(train.select(exact.kept), raw, embeddings.tally)
        found = near_copies(
            _near_search(learned),
            seed=self.settings.seed,
            memory=self.memory,
            progress=self.progress,
        )
        return exact.joined(found.representatives, found.distances)


def _check_different(settings: Settings, n: int, n_train: int) -> None:
    """Raise InputError where all training images are copies of one and settings need a second."""
    needing = {
        "quality 'realism'": settings.quality == "realism",
        "mixing several re-rank distances": len(settings.rerank) > 1,
        "temperature 'spacing'": settings.temperature == "spacing",
    }
    asked = [name for name, needs in needing.items() if needs]
    if n == 1 < n_train and asked:
        raise InputError(
            f"{asked[0]} needs at least 2 different training images, and the {n_train} are copies "
            f"of one (dedup={settings.dedup!r}); pass others, or other settings"
        )


def _near_search(learned: _Learned) -> NearSearch:
    of_images = (learned.side, learned.space, learned.vectors, learned.order)
    spacings = [_spacing(terms, *of_images) for terms in (learned.terms, ())]
    # where most images equal their neighbours, those that do are the copies
    own, recalls = (0.0 if not np.isfinite(each) else each for each in spacings)
    reach = RECALL_SHARE if learned.terms else NEAR_SHARE
    return NearSearch(learned.terms, *of_images, NEAR_SHARE * own, reach * recalls)


def _kept(
    train: TrainingSet, vectors: Vectors, clusters: Clusters | None
) -> tuple[TrainingSet, Vectors]:
    """The training images that count and their vectors, which move up to take the places freed."""
    if clusters is None or not clusters.copies:
        return train, vectors
    kept = clusters.kept
    for rows in blocks(len(kept), 4 * vectors.shape[1]):
        # no row moves down, so none is written over before it is read
        vectors[rows] = vectors[kept[rows]]
    return train.select(kept), vectors[: len(kept)]


def _weight_hashes(encoders: Iterable[Encoder]) -> dict[str, str]:
    return {file.name: file.sha256 for encoder in encoders for file in encoder.weights}


def _fit_space(encoder: Encoder, side: Side, order: NDArray[np.int64]) -> Space:
    """The space of a re-rank encoder; a mean is learned on a fixed sample of training images."""
    if encoder.metric != "centred-cosine":
        return Space(encoder.metric)
    rows = np.sort(side.rows[order[:MEAN_IMAGES]])
    batches = encode_batches(side.images, encoder, rows=rows, strict=True, tally=side.tally)
    vectors = [block for _, block in batches]
    return Space.fit(encoder.metric, np.concatenate(vectors))


def learn_scales(
    terms: Sequence[Term],
    side: Side,
    vectors: Vectors,
    order: NDArray[np.int64],
    candidates: int,
) -> list[float]:
    """Median distance from training images to their own candidates, for each re-rank distance.

    Estimated on the first `SCALE_IMAGES` images of the fixed order and `SCALE_PAIRS` of each
    one's candidates, evenly spread over their ranks; an image is never its own candidate.

    Raises:
        InputError: more than half the distances are zero, so there is no scale to divide by.
    """
    if len(vectors) < 2:
        raise InputError(
            "mixing several re-rank distances needs at least 2 training images, not 1; "
            "pass a single rerank"
        )
    queries, others = _sample(side, vectors, order, candidates)
    spread = evenly_spread(others.shape[1], SCALE_PAIRS)
    scales = []
    for term in terms:
        scale = float(np.median(pair_distances(term, others[:, spread], side, queries)))
        if not scale > 0:
            raise InputError(
                f"most training images equal their neighbours by {term.encoder.name}, so it "
                "cannot be mixed with other distances; remove duplicates or pass a single rerank"
            )
        scales.append(scale)
    return scales


def learn_spacing(
    terms: Sequence[Term], side: Side, space: Space, vectors: Vectors, order: NDArray[np.int64]
) -> float:
    """Median distance from a training image to its nearest other one, by the whole re-rank.

    Estimated on the first `SCALE_IMAGES` images of the fixed order, each among its `SCALE_PAIRS`
    nearest in the recall space. Copies of an image are no others.

    Args:
        terms: of the re-rank; none: distances in the recall space.
        side: the training images.
        space, vectors: the recall space and the (n, dim) vectors placed in it.
        order: (n,) see `TrainingSet.order`.

    Raises:
        InputError: a single training image, or most equal all of their neighbours.
    """
    if len(vectors) < 2:
        raise InputError(
            "the spacing of training images needs at least 2 of them, not 1; pass a temperature"
        )
    spacing = _spacing(terms, side, space, vectors, order)
    if not np.isfinite(spacing):
        raise InputError(
            "most training images equal their neighbours, so they have no spacing; remove "
            "duplicates or pass a temperature"
        )
    return spacing


def _spacing(
    terms: Sequence[Term], side: Side, space: Space, vectors: Vectors, order: NDArray[np.int64]
) -> float:
    """See `learn_spacing`; infinite where most equal all of their neighbours."""
    _, others = _sample(side, vectors, order, SCALE_PAIRS)
    asking = order[:SCALE_IMAGES]
    distances = among_training(terms, side, space, vectors, asking, others).distances
    return float(np.median(np.where(distances > 0, distances, np.inf).min(axis=1)))


def _sample(
    side: Side, vectors: Vectors, order: NDArray[np.int64], count: int
) -> tuple[Side, NDArray[np.int64]]:
    """The first `SCALE_IMAGES` images of the order, and (s, count) nearest others of each."""
    sample = order[:SCALE_IMAGES]
    n = min(count + 1, len(vectors))
    _, found = nearest(vectors[sample], vectors, n)
    others = np.stack([row[row != own][: n - 1] for row, own in zip(found, sample, strict=True)])
    placed = {name: known[sample] for name, known in side.placed.items()}
    return Side(side.images, side.rows[sample], placed, tally=side.tally), others
