"""Fit: from training images to the vectors, spaces and scales that a valuation needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.embedding import Embeddings, Tally, embed, encode_batches
from gmvaluator.engine.context import Context
from gmvaluator.engine.domain import LEAST_DIFFERENT
from gmvaluator.engine.timing import timed
from gmvaluator.engine.trained import Trained, TrainingSet, distinct_images
from gmvaluator.errors import InputError, either
from gmvaluator.geometry import (
    Space,
    Vectors,
    blocks,
    evenly_spread,
    intrinsic_dimension,
    nearest,
    nearest_other,
)
from gmvaluator.images import ImageSet
from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.matching.duplicates.find import (
    NEAR_SHARE,
    RECALL_SHARE,
    NearSearch,
    exact_copies,
    near_copies,
)
from gmvaluator.matching.placed import PlacedSet, RecallSpace
from gmvaluator.matching.recall import first_distinct
from gmvaluator.matching.rerank import Term, pair_distances, rerank_among_training
from gmvaluator.scoring.quality import RealismReference
from gmvaluator.scoring.weightings import Temperature
from gmvaluator.scoring.weightings.softmax import spacing_share
from gmvaluator.settings import Settings, resolve_counts

SCALE_IMAGES = 64
"""Training images that scales and spacings are measured at."""
SCALE_PAIRS = 32
"""Neighbours of each of these images that the image is compared with."""
DIMENSION_IMAGES = 128
"""Training images that the intrinsic dimension is measured at."""
DIMENSION_NEIGHBOURS = 20
"""Neighbours of each of these images whose distances say how fast their number grows."""
LEAST_DIMENSION = 8.0
"""A smaller dimension is that of near twins among the training images, not of the set.

Shares by it would be about even among twins, and name the source of an altered copy less well.
"""
SPREAD_IMAGES = 1_024
"""Training images that spreads are measured among."""
NO_SPREAD = 1e-6
"""Of the median distance: a smaller spread is rounding."""
MEAN_IMAGES = 1_024
"""Training images that the mean of a centred re-rank distance is learned from."""


def fit_images(context: Context, images: ImageSet, *, strict: bool) -> Trained:
    """Embed the training images and learn what a valuation needs.

    Args:
        images: the training images.
        strict: fail on the first image that cannot be read.

    Raises:
        InputError: no readable image, or fewer images than k or candidates.
    """
    where = images.location or "the training set"
    _check_sizes(context.settings, len(images), len(images), where)
    seconds: dict[str, float] = {}
    with timed(seconds, "embed train"):
        embeddings = embed(
            images,
            context.encoders[0],
            others=context.encoders[1:],
            strict=strict,
            budget=context.budget,
            progress=context.progress,
            stage="embed train",
        )
    train = TrainingSet.of(images, embeddings)
    clusters = None
    if context.settings.dedup != "none":
        with timed(seconds, "find copies"):
            clusters = _find_copies(context, images, train, embeddings)
    with timed(seconds, "fit"):
        distinct = distinct_images(train, clusters)
        vectors = {
            fingerprint: _distinct_vectors(of_encoder, clusters)
            for fingerprint, of_encoder in _by_encoder(context, embeddings).items()
        }
        _check_sizes(context.settings, len(distinct.ids), len(train.ids), where)
        placed, spaces, terms = _learn(context, images, distinct, vectors, embeddings.tally)
        realism = None
        if context.quality.needs_reference:
            realism = RealismReference.fit(spaces[0].vectors, distinct.order)
    encoders = context.all_encoders()
    return Trained(
        train=train,
        placed=placed,
        spaces=spaces,
        order=distinct.order,
        terms=terms,
        realism=realism,
        encoders={name: encoder.fingerprint for name, encoder in encoders.items()},
        weights={
            file.name: file.sha256 for encoder in encoders.values() for file in encoder.weights
        },
        clusters=clusters,
        seconds=seconds,
    )


def _find_copies(
    context: Context, images: ImageSet, train: TrainingSet, embeddings: Embeddings
) -> Clusters:
    """Copies among the training images: exact ones and, where the settings say so, near ones."""
    exact = Clusters.exact(
        exact_copies(
            images,
            train.rows,
            train.keys,
            train.order,
            embeddings.vectors,
            context.progress,
            embeddings.fractions,
        )
    )
    if context.settings.dedup != "near" or len(exact.kept) < 2:
        return exact
    # near copies are found in spaces of their own: the valuation learns from what remains
    vectors = {
        fingerprint: _copied(context, of_encoder, exact.kept)
        for fingerprint, of_encoder in _by_encoder(context, embeddings).items()
    }
    distinct = train.select(exact.kept)
    placed, spaces, terms = _learn(context, images, distinct, vectors, embeddings.tally)
    order, first = distinct.order, spaces[0]
    others = _others_by_turns(spaces[:1], order[:SCALE_IMAGES], SCALE_PAIRS)
    spacings = [_spacing(distances, placed, first, order, others) for distances in (terms, ())]
    # where most images equal their neighbours, those that do are the copies
    by_rerank, by_recall = (0.0 if not np.isfinite(spacing) else spacing for spacing in spacings)
    copies = near_copies(
        NearSearch(
            terms,
            placed,
            first,
            order,
            threshold=NEAR_SHARE * by_rerank,
            reach=(RECALL_SHARE if terms else NEAR_SHARE) * by_recall,
        ),
        seed=context.settings.seed,
        budget=context.budget,
        progress=context.progress,
    )
    return exact.joined(copies.representatives, copies.distances)


def _by_encoder(context: Context, embeddings: Embeddings) -> dict[str, Vectors]:
    """The vectors of the recall encoders by fingerprint."""
    return {context.encoders[0].fingerprint: embeddings.vectors, **embeddings.others}


def _copied(context: Context, vectors: Vectors, kept: NDArray[np.int64]) -> Vectors:
    """A copy of some rows, within the memory budget."""
    copy = context.budget.allocate((len(kept), vectors.shape[1]))
    for rows in blocks(len(copy), 4 * copy.shape[1]):
        copy[rows] = vectors[kept[rows]]
    return copy


def _distinct_vectors(vectors: Vectors, clusters: Clusters | None) -> Vectors:
    """Vectors of the images that count, moved up in place to the rows of images that do not."""
    if clusters is None or not clusters.copies:
        return vectors
    kept = clusters.kept
    for rows in blocks(len(kept), 4 * vectors.shape[1]):
        # no row moves down, so no row is overwritten before it is read
        vectors[rows] = vectors[kept[rows]]
    return vectors[: len(kept)]


def _check_sizes(settings: Settings, n: int, n_train: int, where: str) -> None:
    """Raise InputError where too few different images are left.

    Args:
        n: different training images.
        n_train: training images, copies included.
        where: the set, for messages.
    """
    resolve_counts(settings, n, copies=n_train - n)
    no_quality = either("quality='none'", "--quality none")
    by_spacing = spacing_share(settings.temperature) is not None
    needs = (
        (settings.quality == "domain", "quality 'domain'", LEAST_DIFFERENT, no_quality),
        (settings.quality == "realism", "quality 'realism'", 2, no_quality),
        (len(settings.rerank) > 1, "mixing several re-rank distances", 2, "a single rerank"),
        (by_spacing, f"temperature {settings.temperature!r}", 2, "a number as temperature"),
    )
    for applies, what, least, instead in needs:
        if not applies or n >= least:
            continue
        if n == n_train:
            wanted = "more" if n > 1 else "a set of training images, such as a folder"
            raise InputError(
                f"{where} holds {n} training image{'s' if n > 1 else ''}, and {what} needs at "
                f"least {least}; pass {wanted}, or {instead}"
            )
        raise InputError(
            f"{what} needs at least {least} different training images, and the {n_train} are "
            f"copies of {'one' if n == 1 else n} (dedup={settings.dedup!r}); pass others, or "
            f"{instead}"
        )


def _learn(
    context: Context,
    images: ImageSet,
    train: TrainingSet,
    vectors: Mapping[str, Vectors],
    tally: Tally,
) -> tuple[PlacedSet, tuple[RecallSpace, ...], tuple[Term, ...]]:
    """The placed training images, the recall spaces and the re-rank distances with their scales.

    Args:
        vectors: (c, dim) of each recall encoder by fingerprint; they are placed in place.
    """
    first = context.encoders[0]
    spaces_by_encoder = {first.fingerprint: Space.fit(first.metric, vectors[first.fingerprint])}
    sample = np.sort(train.order[:MEAN_IMAGES])
    for encoder in context.encoders[1:]:
        if encoder.fingerprint not in spaces_by_encoder:
            sampled = vectors[encoder.fingerprint][sample]
            spaces_by_encoder[encoder.fingerprint] = Space.fit(encoder.metric, sampled)
    placed = PlacedSet(
        images,
        train.rows,
        train.keys,
        {name: spaces_by_encoder[name].place(vectors[name], in_place=True) for name in vectors},
        kind="train",
        skipped=train.skipped,
        tally=tally,
    )
    for encoder in context.rerankers:
        if encoder.fingerprint not in spaces_by_encoder:
            spaces_by_encoder[encoder.fingerprint] = _fit_space(encoder, placed, sample)
    spaces = tuple(
        RecallSpace(
            encoder,
            spaces_by_encoder[encoder.fingerprint],
            placed.vectors[encoder.fingerprint],
        )
        for encoder in context.encoders
    )
    terms = tuple(
        Term(encoder, spaces_by_encoder[encoder.fingerprint]) for encoder in context.rerankers
    )
    if len(terms) > 1:
        terms = scaled_terms(context, terms, placed, spaces, train.order)
    return placed, spaces, terms


def _fit_space(encoder: Encoder, train: PlacedSet, sample: NDArray[np.int64]) -> Space:
    """The space of a re-rank distance; a mean is learned from a sample of training images."""
    if encoder.metric != "centred-cosine":
        return Space(encoder.metric)
    rows = train.rows[sample]
    batches = encode_batches(train.source(), encoder, rows=rows, strict=True, tally=train.tally)
    return Space.fit(encoder.metric, np.concatenate([block for _, block in batches]))


def scaled_terms(
    context: Context,
    terms: Sequence[Term],
    train: PlacedSet,
    spaces: Sequence[RecallSpace],
    order: NDArray[np.int64],
) -> tuple[Term, ...]:
    """The terms of a mixed re-rank with the weights of the settings and scales learned now."""
    mixing = context.settings.mixing
    spacings: Sequence[float | None] = [None] * len(terms)
    if mixing == "decisive":
        scales = learn_spreads(terms, train, order)
        others = _others_by_turns(spaces, order[:SCALE_IMAGES], SCALE_PAIRS)
        by_term = [_spacing([term], train, spaces[0], order, others) for term in terms]
        # where most images equal their neighbours, none is close by comparison
        spacings = [spacing if np.isfinite(spacing) else None for spacing in by_term]
    else:
        scales = learn_scales(terms, train, spaces[0], order, context.settings.scale_candidates)
    return tuple(
        replace(term, weight=weight, scale=scale, mixing=mixing, spacing=spacing)
        for term, weight, scale, spacing in zip(
            terms, context.rerank_weights, scales, spacings, strict=True
        )
    )


def learn_scales(
    terms: Sequence[Term],
    train: PlacedSet,
    first: RecallSpace,
    order: NDArray[np.int64],
    candidates: int,
) -> list[float]:
    """Median distance from training images to their own candidates, for each re-rank distance.

    Estimated on the first `SCALE_IMAGES` images of the fixed order and `SCALE_PAIRS` candidates of
    each image, evenly spread over their ranks. An image is never its own candidate.

    Raises:
        InputError: more than half the distances are zero, so there is no scale to divide by.
    """
    _check_other_images(order)
    sample = order[:SCALE_IMAGES]
    others = _nearest_others(first, sample, candidates)
    pairs = others[:, evenly_spread(others.shape[1], SCALE_PAIRS)]
    return [
        _median(term, pair_distances(term, pairs, train, train.select(sample))) for term in terms
    ]


def learn_spreads(terms: Sequence[Term], train: PlacedSet, order: NDArray[np.int64]) -> list[float]:
    """Standard deviation of the distances from a training image to all others, for each distance.

    So every distance speaks as loudly as it tells images apart. The median over the first
    `SCALE_IMAGES` images of the fixed order, each compared with the others among the first
    `SPREAD_IMAGES`. Where all distances are equal: the median distance.

    Raises:
        InputError: more than half the distances are zero, so there is no scale to divide by.
    """
    _check_other_images(order)
    sample, many = order[:SCALE_IMAGES], order[:SPREAD_IMAGES]
    pairs = np.stack([many[many != own] for own in sample])
    spreads = []
    for term in terms:
        distances = pair_distances(term, pairs, train, train.select(sample))
        median = _median(term, distances)
        spread = float(np.median(distances.std(axis=1, dtype=np.float64)))
        spreads.append(spread if spread > NO_SPREAD * median else median)
    return spreads


def _check_other_images(order: NDArray[np.int64]) -> None:
    if len(order) < 2:
        raise InputError(
            "mixing several re-rank distances needs at least 2 training images, not 1; "
            "pass a single rerank"
        )


def _median(term: Term, distances: NDArray[np.float32]) -> float:
    """The median distance by a term; InputError where that is 0."""
    median = float(np.median(distances))
    if not median > 0:
        raise InputError(
            f"most training images equal their neighbours by {term.encoder.name}, so it "
            "cannot be mixed with other distances; remove duplicates or pass a single rerank"
        )
    return median


def learn_temperature(context: Context, trained: Trained) -> tuple[Temperature, float | None]:
    """τ of the settings by what the training images give, and their dimension where τ reads it."""
    temperature = context.settings.temperature
    # what is kept for later valuations is not counted for the first of them
    trained = trained.counting(Tally())
    if context.weighting.by_dimension:
        candidates = context.settings.scale_candidates
        dimension = trained.memo.get(
            ("dimension", candidates),
            lambda: learn_dimension(
                trained.terms, trained.placed, trained.spaces, trained.order, candidates
            ),
        )
        return "auto" if isinstance(temperature, str) else temperature / dimension, dimension
    share = spacing_share(temperature)
    if share is None:
        return "auto" if isinstance(temperature, str) else temperature, None
    spaces = trained.spaces if context.settings.mixing == "decisive" else trained.spaces[:1]
    spacing = trained.memo.get(
        "spacing",
        lambda: learn_spacing(trained.terms, trained.placed, spaces, trained.order),
    )
    return share * spacing, None


def learn_dimension(
    terms: Sequence[Term],
    train: PlacedSet,
    spaces: Sequence[RecallSpace],
    order: NDArray[np.int64],
    candidates: int,
) -> float:
    """Intrinsic dimension of the training set: how fast the number of neighbours grows.

    The maximum likelihood of Levina & Bickel (NIPS 2004, Eq. 8) from the distances to the
    `DIMENSION_NEIGHBOURS` nearest others by the whole re-rank, (K − 2) / Σ_j ln(d_K / d_j); the
    median over the first `DIMENSION_IMAGES` images of the fixed order. A copy of an image is not
    another image. At least `LEAST_DIMENSION`.

    Args:
        terms, train, spaces, order: as for `learn_spacing`.
        candidates: others that an image is compared with, as many as a generated image is.
    """
    if len(spaces[0].vectors) < 2:
        return LEAST_DIMENSION
    sample = order[:DIMENSION_IMAGES]
    others = _others_by_turns(spaces, sample, candidates)
    distances = rerank_among_training(terms, train, spaces[0], sample, others).distances
    dimensions = [
        dimension
        for row in distances.astype(np.float64)
        if (dimension := intrinsic_dimension(row[row > 0][:DIMENSION_NEIGHBOURS])) is not None
    ]
    return max(LEAST_DIMENSION, float(np.median(dimensions))) if dimensions else LEAST_DIMENSION


def learn_spacing(
    terms: Sequence[Term],
    train: PlacedSet,
    spaces: Sequence[RecallSpace],
    order: NDArray[np.int64],
) -> float:
    """Median distance from a training image to the nearest other one, by the whole re-rank.

    Estimated on the first `SCALE_IMAGES` images of the fixed order, each among its `SCALE_PAIRS`
    nearest in the recall spaces. A copy of an image is not another image.

    Args:
        terms: of the re-rank; no term: distances in the recall space.
        train: the training images.
        spaces: one or two recall spaces.
        order: (c,) see `TrainingSet.order`.

    Raises:
        InputError: a single training image, or most images equal all of their neighbours.
    """
    if len(spaces[0].vectors) < 2:
        raise InputError(
            "the spacing of training images needs at least 2 of them, not 1; pass a temperature"
        )
    others = _others_by_turns(spaces, order[:SCALE_IMAGES], SCALE_PAIRS)
    spacing = _spacing(terms, train, spaces[0], order, others)
    if not np.isfinite(spacing):
        raise InputError(
            "most training images equal their neighbours, so they have no spacing; remove "
            "duplicates or pass a temperature"
        )
    return spacing


def _spacing(
    terms: Sequence[Term],
    train: PlacedSet,
    first: RecallSpace,
    order: NDArray[np.int64],
    others: NDArray[np.int64],
) -> float:
    """See `learn_spacing`; infinite where most images equal all of their neighbours.

    Args:
        others: (s, c) that each of the first images of the order is compared with.
    """
    sample = order[: len(others)]
    ranked = rerank_among_training(terms, train, first, sample, others)
    return float(np.median(nearest_other(ranked.distances)))


def _others_by_turns(
    spaces: Sequence[RecallSpace], sample: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """(s, c) others of sampled training images: the `count` nearest, or as many of two spaces."""
    by_space = [_nearest_others(space, sample, count) for space in spaces]
    # by turns of two spaces, and each other image once
    others = np.stack(by_space, axis=2).reshape(len(sample), -1)
    if len(spaces) > 1:
        few = by_space[0].shape[1]
        others = np.take_along_axis(others, first_distinct(others, few), axis=1)
    return others


def _nearest_others(first: RecallSpace, sample: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(s, count) nearest others of each sampled training image in the recall space."""
    n = min(count + 1, len(first.vectors))
    _, rows = nearest(first.vectors[sample], first.vectors, n)
    return np.stack(
        [others[others != own][: n - 1] for others, own in zip(rows, sample, strict=True)]
    )
