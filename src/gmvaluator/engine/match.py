"""Match images with one training set: place, recall, re-rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.embedding import embed
from gmvaluator.encoders.mirrored import mirrored_of
from gmvaluator.engine.context import Context
from gmvaluator.engine.trained import Trained
from gmvaluator.geometry import Space
from gmvaluator.images import ImageSet
from gmvaluator.matching.placed import Kind, PlacedSet, RecallSpace, add_spaces
from gmvaluator.matching.recall import Candidates, by_turns, nearer, search_space
from gmvaluator.matching.rerank import Contributors, rerank
from gmvaluator.matching.search.build import choose_index
from gmvaluator.matching.search.kept import open_kept_index


def place(
    context: Context,
    trained: Trained,
    images: ImageSet,
    kind: Kind = "generated",
    *,
    rows: Sequence[int] | None = None,
    strict: bool = False,
) -> PlacedSet:
    """Embed images and place their vectors in every recall space, with mirror images if so set.

    Args:
        kind: what the images are.
        rows: images of the set to place; None: all.
        strict: fail on the first image that cannot be read.

    Raises:
        InputError: no readable image.
    """
    first = trained.spaces[0]
    spaces: list[tuple[Encoder, Space]] = [(part.encoder, part.space) for part in trained.spaces]
    if context.settings.mirror:  # mirror images share the decoding
        spaces += [(mirrored_of(encoder), space) for encoder, space in spaces]
    embeddings = embed(
        images,
        first.encoder,
        others=[encoder for encoder, _ in spaces[1:]],
        rows=None if rows is None else np.asarray(rows, dtype=np.int64),
        strict=strict,
        budget=context.budget,
        progress=context.progress,
        stage=f"embed {kind}",
    )
    vectors = {first.encoder.fingerprint: embeddings.vectors, **embeddings.others}
    by_fingerprint = {encoder.fingerprint: space for encoder, space in spaces}
    placed = PlacedSet(
        images,
        embeddings.rows,
        embeddings.keys,
        {name: by_fingerprint[name].place(block, in_place=True) for name, block in vectors.items()},
        kind=kind,
        skipped=embeddings.skipped,
        tally=embeddings.tally,
    )
    return in_every_space(context, trained, placed)


def in_every_space(context: Context, trained: Trained, placed: PlacedSet) -> PlacedSet:
    """The same images in every recall space, with mirror images if so set."""
    spaces = [(recall_space.encoder, recall_space.space) for recall_space in trained.spaces]
    mirror = context.settings.mirror
    return add_spaces(spaces, placed, context.budget, context.progress, mirror=mirror)


def recall_for_weighting(context: Context, trained: Trained, batch: PlacedSet) -> Candidates | None:
    """The candidates that the weighting chooses among; None where it takes all training images."""
    if context.weighting.takes_all(len(trained.order), len(batch.rows), context.budget):
        return None
    _, n_candidates = context.settings.counts
    return recall(context, trained, batch, n_candidates)


def rank_for_weighting(
    context: Context, trained: Trained, batch: PlacedSet, candidates: Candidates | None
) -> Contributors | None:
    """The candidates, nearest first; None where the weighting ranks none."""
    if candidates is None or not context.weighting.ranks:
        return None
    return rank(context, trained, batch, candidates)


def recall(context: Context, trained: Trained, batch: PlacedSet, n: int) -> Candidates:
    """The n candidates of each image.

    One recall space gives the n nearest, two spaces give the nearest of both by turns.
    """
    first, *others = (_recall_in(context, trained, space, batch, n) for space in trained.spaces)
    return by_turns(first, others[0], trained.ties) if others else first


def _recall_in(
    context: Context, trained: Trained, recall_space: RecallSpace, batch: PlacedSet, n: int
) -> Candidates:
    """The n nearest of each image in one space; of an image and its mirror image the nearer."""
    encoder, settings = recall_space.encoder, context.settings
    queries, (n_train, dim) = batch.vectors[encoder.fingerprint], recall_space.vectors.shape
    name = settings.index
    if name == "auto":
        name = choose_index(n_train, len(queries), dim, memory=context.budget.total)
    with context.progress.stage(f"recall ({name})", len(queries)) as advance:
        index = trained.memo.get(
            ("index", encoder.fingerprint, name),
            lambda: open_kept_index(
                name,
                recall_space,
                context.store,
                # no index is kept of exact search
                train="" if name == "exact" else trained.distinct.fingerprint,
                order=trained.order,
                seed=settings.seed,
            ),
        )
        candidates = search_space(index, recall_space.space, queries, n, n_train=n_train)
        advance(len(queries))
    candidates = replace(candidates, indexes=(name,))
    return nearer(candidates, trained.ties) if batch.mirrored else candidates


def rank(
    context: Context, trained: Trained, batch: PlacedSet, candidates: Candidates
) -> Contributors:
    """All candidates of each image, nearest first by the re-rank."""
    return rerank(
        candidates,
        trained.placed,
        batch,
        trained.terms,
        candidates.rows.shape[1],
        ties=trained.ties,
        budget=context.budget,
        progress=context.progress,
    )
