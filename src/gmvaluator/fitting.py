"""Learning from a training set: its vectors, and the space and scale of every distance."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gmvaluator.embeddings import embed, encode_batches
from gmvaluator.encoders.base import Encoder
from gmvaluator.errors import InputError
from gmvaluator.fitted import Fitted, FittedTerm, training_set
from gmvaluator.geometry import Space, Vectors, nearest
from gmvaluator.images import ImageSet
from gmvaluator.progress import Progress
from gmvaluator.quality import RealismReference
from gmvaluator.rerank import Side, Term, pair_distances
from gmvaluator.settings import Settings, resolve_counts

SCALE_IMAGES = 64
SCALE_PAIRS = 32
MEAN_IMAGES = 1_024


def fit_images(
    images: ImageSet,
    encoder: Encoder,
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
        encoder: of the recall.
        rerankers: encoders of the re-rank distances, in the order of `settings.rerank`.
        settings: of the valuation.
        strict: fail on the first image that cannot be read.
        memory: bytes that may be used; see `embed`.
        progress: hears how far embedding is.

    Raises:
        InputError: no readable image, or fewer than k or candidates.
    """
    start = time.perf_counter()
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
    spaces = [
        space if reranker.fingerprint == encoder.fingerprint else _fit_space(reranker, side, order)
        for reranker in rerankers
    ]
    scales = [1.0] * len(rerankers)
    if len(rerankers) > 1:
        terms = [Term(*pair) for pair in zip(rerankers, spaces, strict=True)]
        scales = learn_scales(terms, side, vectors, order, candidates)
    names = [name for name, _ in settings.rerank]
    realism = RealismReference.fit(vectors, order) if settings.quality == "realism" else None
    everyone = {each.name: each for each in (encoder, *rerankers)}
    return Fitted(
        train=train,
        space=space,
        vectors=vectors,
        order=order,
        terms=tuple(FittedTerm(*learned) for learned in zip(names, spaces, scales, strict=True)),
        realism=realism,
        encoders={name: each.fingerprint for name, each in everyone.items()},
        weights=_weight_hashes(everyone.values()),
        tally=embeddings.tally,
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
    sample = order[:SCALE_IMAGES]
    n = min(candidates + 1, len(vectors))
    _, found = nearest(vectors[sample], vectors, n)
    others = np.stack([row[row != own][: n - 1] for row, own in zip(found, sample, strict=True)])
    spread = np.unique(np.linspace(0, n - 2, min(SCALE_PAIRS, n - 1)).round().astype(np.int64))
    placed = {name: known[sample] for name, known in side.placed.items()}
    queries = Side(side.images, side.rows[sample], placed, tally=side.tally)
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
