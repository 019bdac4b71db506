"""Images → vectors: the first stage, and the one that meets bad images."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.base import Encoder
from gmvaluator.errors import InputError
from gmvaluator.files.store import Table
from gmvaluator.images import Batch, ImageSet, Input, Skip
from gmvaluator.memory import Budget
from gmvaluator.progress import Progress, Silent
from gmvaluator.shown import short_repr

BATCH_SIZE = 64
Encoded = tuple[Batch, NDArray[np.float32]]
MOST_WAITING = 16
"""Batches held back at most until enough new images for a full batch have come together."""


@dataclass(frozen=True)
class Tally:
    """Images by encoder: those that passed through it, and those whose vector was at hand."""

    encoded: Counter[str] = field(default_factory=Counter)
    cached: Counter[str] = field(default_factory=Counter)

    def copy(self) -> Tally:
        """One to count on with, leaving this one as it is."""
        return Tally(self.encoded.copy(), self.cached.copy())

    def as_json(self) -> dict[str, dict[str, int]]:
        """Plain types, as in `run.json`."""
        return {"encoded": dict(+self.encoded), "cached": dict(+self.cached)}


@short_repr
@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors of the readable images of a set, in the set's order.

    Attributes:
        vectors: (n, dim) float32, as the encoder gave them.
        others: vectors of further encoders by fingerprint.
        fractions: (n,) int8, see `Batch`, of the first encoder.
        rows: (n,) int64, row of each vector's image in the set; bad images are missing here.
        keys: n content keys (hash of the image's bytes).
        skipped: the images that could not be read, with the reason.
        tally: how many were encoded, how many taken from the cache.
    """

    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]
    keys: tuple[str, ...]
    skipped: tuple[Skip, ...]
    tally: Tally
    fractions: NDArray[np.int8]
    others: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


def encode_batches(
    images: ImageSet,
    encoder: Encoder,
    *,
    rows: NDArray[np.int64] | None = None,
    batch_size: int = BATCH_SIZE,
    strict: bool = False,
    tally: Tally | None = None,
) -> Iterator[Encoded]:
    """`encode_together` with one encoder: batches of images with their vectors."""
    together = encode_together(
        images, (encoder,), rows=rows, batch_size=batch_size, strict=strict, tally=tally
    )
    with closing(together):
        for (encoded,) in together:
            yield encoded


def encode_together(
    images: ImageSet,
    encoders: Sequence[Encoder],
    *,
    rows: NDArray[np.int64] | None = None,
    batch_size: int = BATCH_SIZE,
    strict: bool = False,
    tally: Tally | None = None,
) -> Generator[tuple[Encoded, ...]]:
    """Batches of images with their vectors by each encoder, in order.

    Each image is read and decoded once, and passes at most once through each network. An encoder
    that has a `table` (see `NetworkEncoder`) takes from it the vectors it holds, by image content,
    and keeps there those it computes, also when the iteration ends early. Images above the usual
    limit of pixels are encoded every time (see `Batch.large`).

    Raises:
        InputError: an encoder returned something else than (B, dim) finite numbers, or,
            with `strict`, an image cannot be read.
    """
    tally, jobs, inputs = tally or Tally(), [], []
    n = len(images) if rows is None else len(rows)
    for encoder in encoders:
        table: Table | None = getattr(encoder, "table", None)
        if table is not None and table.takes_longer_than(n):
            table = None
        if table is None or not len(table):
            encoder.prepare()
        jobs.append(_Encoding(encoder, table, batch_size, tally))
        known = None if table is None else table.__contains__
        inputs.append(Input(encoder.preprocessing, known))
    on_error: Literal["raise", "skip"] = "raise" if strict else "skip"
    batches = images.batches_for(inputs, batch_size=batch_size, rows=rows, on_error=on_error)
    # one encoder may hold batches back that another has encoded
    ready: list[deque[Encoded]] = [deque() for _ in jobs]
    try:
        for together in batches:
            for job, batch, encoded in zip(jobs, together, ready, strict=True):
                encoded.extend(job.take(batch))
            while all(ready):
                yield tuple(encoded.popleft() for encoded in ready)
        for job, encoded in zip(jobs, ready, strict=True):
            encoded.extend(job.finish())
        while all(ready):
            yield tuple(encoded.popleft() for encoded in ready)
    finally:
        for job in jobs:
            job.close()


class _Encoding:
    """Fills batches with vectors: full batches for the network, however many images are known."""

    def __init__(
        self, encoder: Encoder, table: Table | None, batch_size: int, tally: Tally
    ) -> None:
        self._encoder = encoder
        self._table = table
        self._batch_size = batch_size
        self._tally = tally
        self._waiting: list[Batch] = []
        self._dim: int | None = None

    def take(self, batch: Batch) -> Iterator[Encoded]:
        self._waiting.append(batch)
        fresh = sum(len(batch.decoded) for batch in self._waiting)
        if self._table is None or fresh >= self._batch_size or len(self._waiting) >= MOST_WAITING:
            yield from self.finish()

    def close(self) -> None:
        """Write the vectors that were computed."""
        if self._table is not None:
            self._table.flush()

    def finish(self) -> Iterator[Encoded]:
        waiting, self._waiting = self._waiting, []
        if self._table is None:
            for batch in waiting:
                yield batch, self._encode(batch.pixels)
            return
        computed = self._compute(waiting, self._table)
        for batch in waiting:
            rows = [
                computed[key] if key in computed else self._table.row(key) for key in batch.keys
            ]
            self._tally.cached[self._encoder.name] += sum(key not in computed for key in batch.keys)
            yield batch, np.stack(rows) if rows else np.empty((0, 0), dtype=np.float32)

    def _compute(self, batches: Sequence[Batch], table: Table) -> dict[str, NDArray[np.float32]]:
        """Vectors of the images that were decoded, by key: copies of an image pass once."""
        new: dict[str, NDArray[np.uint8]] = {}
        large: set[str] = set()
        for batch in batches:
            for at, pixels, is_large in zip(batch.decoded, batch.pixels, batch.large, strict=True):
                # it may have been computed since it was decoded, a few batches ago
                if batch.keys[at] not in table:
                    new.setdefault(batch.keys[at], pixels)
                if is_large:
                    large.add(batch.keys[at])
        keys = list(new)
        computed: dict[str, NDArray[np.float32]] = {}
        for start in range(0, len(keys), self._batch_size):
            chunk = keys[start : start + self._batch_size]
            vectors = self._encode(np.stack([new[key] for key in chunk]))
            kept = [at for at, key in enumerate(chunk) if key not in large]
            table.add([chunk[at] for at in kept], vectors[kept])
            computed.update(zip(chunk, vectors, strict=True))
        return computed

    def _encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        if not len(pixels):
            return np.empty((0, 0), dtype=np.float32)
        vectors = self._encoder.encode(pixels)
        check_vectors(vectors, len(pixels), self._encoder.name)
        self._dim = self._dim or vectors.shape[1]
        if vectors.shape[1] != self._dim:
            raise InputError(
                f"encoder {self._encoder.name} returned vectors of {vectors.shape[1]} numbers "
                f"after vectors of {self._dim}; return the same number for every image"
            )
        self._tally.encoded[self._encoder.name] += len(pixels)
        return vectors


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
    others: Sequence[Encoder] = (),
    rows: NDArray[np.int64] | None = None,
    batch_size: int = BATCH_SIZE,
    strict: bool = False,
    budget: Budget | None = None,
    progress: Progress | None = None,
    stage: str = "embed",
) -> Embeddings:
    """Embed every readable image of a set (or of its `rows`).

    Vectors that exceed the memory budget are kept in a scratch file. `others` are further encoders;
    they share the decoding of the images.

    Raises:
        InputError: no image is readable, or, with `strict`, one is not.
        RunError: the folder of scratch files has no room for the vectors.
    """
    if strict and images.problems:
        problem = images.problems[0]
        raise InputError(f"{problem.id}: {problem.reason}; repair it or leave strict out")
    n = len(images) if rows is None else len(rows)
    encoders = {one.fingerprint: one for one in (encoder, *others)}
    vectors: dict[str, NDArray[np.float32]] = {}
    readable: list[int] = []
    keys: list[str] = []
    fractions: list[int] = []
    skipped: list[Skip] = list(images.problems)
    tally = Tally()
    with (progress or Silent()).stage(stage, n) as advance:
        for together in encode_together(
            images,
            tuple(encoders.values()),
            rows=rows,
            batch_size=batch_size,
            strict=strict,
            tally=tally,
        ):
            batch, _ = together[0]
            skipped.extend(skip for _, skip in batch.skipped)
            for fingerprint, (_, block) in zip(encoders, together, strict=True):
                if not len(block):
                    continue
                if fingerprint not in vectors:
                    # filled in place: a list of blocks joined at the end needs twice the memory
                    vectors[fingerprint] = (budget or Budget()).allocate((n, block.shape[1]))
                vectors[fingerprint][len(readable) : len(readable) + len(block)] = block
            readable.extend(batch.rows.tolist())
            keys.extend(batch.keys)
            fractions.extend(batch.fractions.tolist())
            advance(len(batch.rows) + len(batch.skipped))
    if not vectors:
        first = f": {skipped[0].id}: {skipped[0].reason}" if skipped else ""
        raise InputError(
            f"none of the {n} images of {images.location or 'the set'} can be read{first}; "
            "pass at least one readable image"
        )
    by_encoder = {name: block[: len(readable)] for name, block in vectors.items()}
    return Embeddings(
        vectors=by_encoder.pop(encoder.fingerprint),
        rows=np.asarray(readable, dtype=np.int64),
        keys=tuple(keys),
        skipped=tuple(skipped),
        tally=tally,
        fractions=np.asarray(fractions, dtype=np.int8),
        others=by_encoder,
    )
