"""Images → vectors: the first stage, and the one that meets bad images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.base import Encoder
from gmvaluator.errors import InputError
from gmvaluator.images import Batch, ImageSet, Skip
from gmvaluator.progress import Progress, Silent

BATCH_SIZE = 64


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors of the readable images of a set, in the set's order.

    Attributes:
        vectors: (n, dim) float32, as the encoder gave them.
        rows: (n,) int64, row of each vector's image in the set; bad images are missing here.
        keys: n content keys (hash of the image's bytes).
        skipped: the images that could not be read, with the reason.
    """

    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]
    keys: tuple[str, ...]
    skipped: tuple[Skip, ...]


def encode_batches(
    images: ImageSet,
    encoder: Encoder,
    *,
    rows: NDArray[np.int64] | None = None,
    batch_size: int = BATCH_SIZE,
    strict: bool = False,
) -> Iterator[tuple[Batch, NDArray[np.float32]]]:
    """Batches of images with their vectors, one pass through the network an image.

    Raises:
        InputError: the encoder returned something else than (B, dim) finite numbers, or,
            with `strict`, an image cannot be read.
    """
    encoder.prepare()
    batches = images.batches(
        encoder.preprocessing,
        batch_size=batch_size,
        rows=rows,
        on_error="raise" if strict else "skip",
    )
    dim: int | None = None
    for batch in batches:
        vectors = np.empty((0, 0), dtype=np.float32)
        if len(batch.rows):
            vectors = encoder.encode(batch.pixels)
            check_vectors(vectors, len(batch.rows), encoder.name)
            dim = dim or vectors.shape[1]
            if vectors.shape[1] != dim:
                raise InputError(
                    f"encoder {encoder.name} returned vectors of {vectors.shape[1]} numbers after "
                    f"vectors of {dim}; return the same number for every image"
                )
        yield batch, vectors


def check_vectors(vectors: NDArray[np.float32], n: int, name: str) -> None:
    """Refuse encoder output of the wrong shape or with NaN or infinite entries."""
    if vectors.ndim != 2 or len(vectors) != n:
        raise InputError(
            f"encoder {name} returned shape {vectors.shape} for {n} images; return ({n}, dim)"
        )
    if not np.isfinite(vectors).all():
        raise InputError(
            f"encoder {name} returned NaN or infinite numbers; check its weights and input range"
        )


def embed(
    images: ImageSet,
    encoder: Encoder,
    *,
    rows: NDArray[np.int64] | None = None,
    batch_size: int = BATCH_SIZE,
    strict: bool = False,
    progress: Progress | None = None,
    stage: str = "embed",
) -> Embeddings:
    """Embed every readable image of a set (or of its `rows`).

    Raises:
        InputError: no image is readable, or, with `strict`, one is not.
    """
    if strict and images.problems:
        problem = images.problems[0]
        raise InputError(f"{problem.id}: {problem.reason}; repair it or leave strict out")
    n = len(images) if rows is None else len(rows)
    vectors: NDArray[np.float32] | None = None
    kept: list[int] = []
    keys: list[str] = []
    skipped: list[Skip] = list(images.problems)
    with (progress or Silent()).stage(stage, n) as advance:
        for batch, block in encode_batches(
            images, encoder, rows=rows, batch_size=batch_size, strict=strict
        ):
            skipped.extend(skip for _, skip in batch.skipped)
            if len(block):
                if vectors is None:
                    # filled in place: a list of blocks joined at the end needs twice the memory
                    vectors = np.empty((n, block.shape[1]), dtype=np.float32)
                vectors[len(kept) : len(kept) + len(block)] = block
                kept.extend(batch.rows.tolist())
                keys.extend(batch.keys)
            advance(len(batch.rows) + len(batch.skipped))
    if vectors is None:
        first = f": {skipped[0].id}: {skipped[0].reason}" if skipped else ""
        raise InputError(
            f"none of the {n} images of {images.location or 'the set'} can be read{first}; "
            "pass at least one readable image"
        )
    return Embeddings(
        vectors=vectors[: len(kept)],
        rows=np.asarray(kept, dtype=np.int64),
        keys=tuple(keys),
        skipped=tuple(skipped),
    )
