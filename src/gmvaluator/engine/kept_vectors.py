"""Short vectors of the re-rank, kept in the index: a picture is then matched without the images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np

from gmvaluator.encoders.base import Encoder
from gmvaluator.engine.context import Context
from gmvaluator.engine.trained import Trained
from gmvaluator.geometry import Levels, Space, Vectors, blocks
from gmvaluator.matching.placed import PlacedSet, placed_batches


def vectors_file(number: int) -> str:
    """Name of the file of a re-rank distance's vectors."""
    return f"term{number}.npy"


def keep_vectors(context: Context, trained: Trained, folder: Path) -> dict[str, str]:
    """Write the vectors of each re-rank distance that are no longer than those of the recall.

    Whole 255ths, such as pixels, take a byte each.

    Returns:
        Fingerprint of the encoder by name of the file.

    Raises:
        InputError, RunError: a training image can no longer be read, or has changed.
    """
    most = sum(4 * space.vectors.shape[1] for space in trained.spaces)
    spaces = {term.encoder.fingerprint: (term.encoder, term.space) for term in trained.terms}
    if context.domain is not None:
        spaces[context.domain.fingerprint] = (context.domain, Space(context.domain.metric))
    recalled = {space.encoder.fingerprint for space in trained.spaces}
    kept = {}
    for number, (fingerprint, (encoder, space)) in enumerate(spaces.items()):
        at_hand = fingerprint in trained.placed.vectors or trained.placed.images is not None
        if fingerprint in recalled or not at_hand or not _is_lasting(encoder):
            continue
        if _write(encoder, space, trained, folder / vectors_file(number), most, context):
            kept[vectors_file(number)] = fingerprint
    return kept


def open_vectors(folder: Path, kept: dict[str, str]) -> dict[str, Vectors]:
    """The vectors by fingerprint of their encoder, memory-mapped.

    Raises:
        OSError, ValueError: a file is missing or damaged.
    """
    opened: dict[str, Vectors] = {}
    for name, fingerprint in kept.items():
        array = np.load(folder / name, mmap_mode="r", allow_pickle=False)
        # what reads vectors of training images takes rows of them: as many float32 numbers
        opened[fingerprint] = cast("Vectors", Levels(array)) if array.dtype == np.uint8 else array
    return opened


def _is_lasting(encoder: Encoder) -> bool:
    """Whether the encoder's vectors follow from its fingerprint: a user's function may change."""
    return hasattr(encoder, "table")


def _batches(encoder: Encoder, space: Space, placed: PlacedSet) -> Iterator[tuple[slice, Vectors]]:
    """Which images, and their vectors: at hand, or encoded now."""
    vectors = placed.vectors.get(encoder.fingerprint)
    if vectors is None:
        yield from placed_batches(encoder, space, placed, np.arange(len(placed.rows)))
        return
    for part in blocks(len(vectors), 4 * vectors.shape[1]):
        yield part, np.asarray(vectors[part])


def _write(
    encoder: Encoder, space: Space, trained: Trained, file: Path, most: int, context: Context
) -> bool:
    """Whether the vectors of all c images are now in a file of at most `most` bytes an image."""
    n = len(trained.placed.rows)
    stored: np.memmap | None = None
    label = f"{encoder.name}: index"
    with context.progress.stage(label, n) as advance:
        for part, block in _batches(encoder, space, trained.placed):
            levels = Levels.of(block)
            if stored is None:
                kind, dim = (np.float32 if levels is None else np.uint8), block.shape[1]
                if dim * np.dtype(kind).itemsize > most:
                    return False
                stored = np.lib.format.open_memmap(file, "w+", kind, (n, dim))
            stored[part] = levels if stored.dtype == np.uint8 else block
            advance(len(block))
    if stored is not None:
        stored.flush()
    return stored is not None
