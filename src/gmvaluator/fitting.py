"""Learning from a training set: its vectors, and the space and scale of every distance."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gmvaluator.embeddings import embed, encode_batches
from gmvaluator.encoders.base import Encoder
from gmvaluator.errors import InputError
from gmvaluator.fitted import Fitted, FittedTerm, RecallSpace, training_set
from gmvaluator.geometry import Space, Vectors, evenly_spread, nearest, pair_squared
from gmvaluator.images import ImageSet
from gmvaluator.progress import Progress
from gmvaluator.quality import RealismReference
from gmvaluator.recall import Candidates
from gmvaluator.rerank import Side, Term, pair_distances, placed_vectors, rerank
from gmvaluator.settings import Settings, resolve_counts

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
    encoder, *others = encoders
    embeddings = embed(
        images, encoder, strict=strict, memory=memory, progress=progress, stage="embed train"
    )
    embedded = time.perf_counter()
    train = training_set(images.ids, images.labels, images.location, embeddings)
    _, candidates = resolve_counts(settings, len(train.ids))
    space = Space.fit(encoder.metric, embeddings.vectors)
    vectors = space.place(embeddings.vectors, in_place=True)
    order = train.order
    side = Side(images, train.rows, {encoder.fingerprint: vectors}, tally=embeddings.tally)
    known = {encoder.fingerprint: space}
    for each in (*others, *rerankers):
        if each.fingerprint not in known:
            known[each.fingerprint] = _fit_space(each, side, order)
    second = None
    if others:
        term = Term(others[0], known[others[0].fingerprint])
        second = RecallSpace(term.space, placed_vectors(term, side, memory, progress, what="train"))
        side.placed[term.encoder.fingerprint] = second.vectors
    spaces = [known[reranker.fingerprint] for reranker in rerankers]
    scales = [1.0] * len(rerankers)
    if len(rerankers) > 1:
        terms = [Term(*pair) for pair in zip(rerankers, spaces, strict=True)]
        scales = learn_scales(terms, side, vectors, order, candidates)
    names = [name for name, _ in settings.rerank]
    realism = RealismReference.fit(vectors, order) if settings.quality == "realism" else None
    everyone = {each.name: each for each in (*encoders, *rerankers)}
    return Fitted(
        train=train,
        space=space,
        vectors=vectors,
        order=order,
        terms=tuple(FittedTerm(*each) for each in zip(names, spaces, scales, strict=True)),
        realism=realism,
        encoders={name: each.fingerprint for name, each in everyone.items()},
        weights=_weight_hashes(everyone.values()),
        tally=embeddings.tally,
        second=second,
        seconds={"embed train": embedded - start, "fit": time.perf_counter() - embedded},
    )


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
    queries, others = _sample(side, vectors, order, SCALE_PAIRS)
    asking = np.repeat(order[:SCALE_IMAGES], others.shape[1])
    squared = pair_squared(vectors, asking, vectors, others.ravel()).reshape(others.shape)
    found = Candidates(others, space.distance(squared), len(vectors))
    distances = rerank(found, side, queries, terms, others.shape[1]).distances
    spacing = float(np.median(np.where(distances > 0, distances, np.inf).min(axis=1)))
    if not np.isfinite(spacing):
        raise InputError(
            "most training images equal their neighbours, so they have no spacing; remove "
            "duplicates or pass a temperature"
        )
    return spacing


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
