"""Place: from the images of a set to their vectors in every recall space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gmvaluator.encoders.embedding import embed
from gmvaluator.engine.context import Context
from gmvaluator.engine.trained import Trained
from gmvaluator.images import ImageSet
from gmvaluator.matching.placed import Kind, PlacedSet, add_space, with_mirror_images


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
    first, *others = trained.spaces
    embeddings = embed(
        images,
        first.encoder,
        rows=None if rows is None else np.asarray(rows, dtype=np.int64),
        strict=strict,
        budget=context.budget,
        progress=context.progress,
        stage=f"embed {kind}",
    )
    placed = PlacedSet(
        images,
        embeddings.rows,
        embeddings.keys,
        {first.encoder.fingerprint: first.space.place(embeddings.vectors, in_place=True)},
        kind=kind,
        skipped=embeddings.skipped,
        tally=embeddings.tally,
    )
    for other in others:
        placed = add_space(other.encoder, other.space, placed, context.budget, context.progress)
    return mirrored(context, trained, placed)


def mirrored(context: Context, trained: Trained, placed: PlacedSet) -> PlacedSet:
    """The same images, followed by their mirror images where the settings compare these."""
    if not context.settings.mirror:
        return placed
    spaces = [(recall_space.encoder, recall_space.space) for recall_space in trained.spaces]
    return with_mirror_images(spaces, placed, context.budget, context.progress)
