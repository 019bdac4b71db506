"""Batches of decoded images, read and decoded by threads a few batches ahead."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import ImageError
from gmvaluator.images.decoding import (
    PIXEL_LIMIT,
    Decoder,
    Preprocessing,
    content_key_of,
    fraction_of,
    unless_error,
)
from gmvaluator.images.pillow import quiet_pillow
from gmvaluator.images.sources import Raw, Skip
from gmvaluator.shown import short_repr

_BATCHES_AHEAD = 3


@short_repr
@dataclass(frozen=True)
class Batch:
    """Consecutive rows of a set, decoded and resized.

    Attributes:
        rows: (B,) rows of the images that could be read, in order.
        pixels: (D, 3, size, size) uint8 of the images that were decoded.
        keys: B content keys.
        skipped: row and reason of each image that could not be read.
        decoded: (D,) positions in `rows` of the images that were decoded: all but those whose key
            was known already.
        large: (D,) whether the image has more pixels than the usual limit. A key does not tell the
            limit that an image was read under, so what is known of a large image must not be kept
            by its key alone.
        fractions: (B,) s where a JPEG was decoded at 1/s of its size, or would have been; 0 for
            images of other kinds.
    """

    rows: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    keys: tuple[str, ...]
    skipped: tuple[tuple[int, Skip], ...]
    decoded: NDArray[np.int64]
    large: NDArray[np.bool_]
    fractions: NDArray[np.int8]


class _Pending:
    """A batch under way: its lists but `rows` are filled by the decoding threads."""

    def __init__(self, rows: NDArray[np.int64], inputs: Sequence[Input]) -> None:
        self.rows = rows
        self.pixels = [
            np.empty((len(rows), 3, wanted.preprocessing.size, wanted.preprocessing.size), np.uint8)
            for wanted in inputs
        ]
        self.keys: list[str] = [""] * len(rows)
        self.known = np.zeros((len(inputs), len(rows)), dtype=bool)
        self.fractions = np.zeros((len(inputs), len(rows)), dtype=np.int8)
        self.large = np.zeros(len(rows), dtype=bool)
        self.errors: list[ImageError | None] = [None] * len(rows)
        self.parts: list[Future[None]] = []

    def finish(self, ids: Sequence[str]) -> tuple[Batch, ...]:
        for part in self.parts:
            part.result()
        alive = np.asarray([error is None for error in self.errors], dtype=bool)
        keys = tuple(self.keys[at] for at in np.flatnonzero(alive))
        skipped = tuple(
            (int(row), Skip(ids[row], str(error)))
            for row, error in zip(self.rows, self.errors, strict=True)
            if error is not None
        )
        batches = []
        for pixels, known, fractions in zip(self.pixels, self.known, self.fractions, strict=True):
            decoded = alive & ~known
            batches.append(
                Batch(
                    self.rows[alive],
                    # all of them is the usual case, and copying it would cost as much as reading it
                    pixels if decoded.all() else pixels[decoded],
                    keys,
                    skipped,
                    np.flatnonzero(~known[alive]),
                    self.large[decoded],
                    fractions[alive],
                )
            )
        return tuple(batches)


@dataclass(frozen=True)
class Input:
    """An input that images are prepared for.

    Attributes:
        preprocessing: how images are resized.
        known: content keys of images that need no decoding: images that were read within the usual
            limit of pixels.
    """

    preprocessing: Preprocessing
    known: Callable[[str], bool] | None = None


@dataclass(frozen=True)
class Pipeline:
    """One reading thread feeds decoding threads; a bounded number of batches is under way.

    Attributes:
        read: gives the raw content of rows, or their errors.
        ids: of all rows of the set.
        pixel_limit: bounds width × height of an encoded image.
        inputs: what images are prepared for; each image is read once for all of them.
        workers: number of decoding threads. Default: the processors that the process may use.
    """

    read: Callable[[Sequence[int]], list[Raw | ImageError]]
    ids: Sequence[str]
    pixel_limit: int
    inputs: Sequence[Input]
    workers: int | None = None

    def run(self, parts: Sequence[NDArray[np.int64]]) -> Iterator[tuple[Batch, ...]]:
        """For each array of rows, in their order, a batch for each input."""
        workers = self.workers or processors()
        reader = ThreadPoolExecutor(1, "gmvaluator-read")
        decoders = ThreadPoolExecutor(workers, "gmvaluator-decode")
        ahead: deque[Future[_Pending]] = deque()
        waiting = iter(parts)
        try:
            for rows in waiting:
                ahead.append(reader.submit(self._start, rows, decoders, workers))
                if len(ahead) > _BATCHES_AHEAD:
                    yield ahead.popleft().result().finish(self.ids)
            while ahead:
                yield ahead.popleft().result().finish(self.ids)
        finally:
            # Also on break, errors and Ctrl-C; the reader first, it feeds the decoders.
            reader.shutdown(wait=True, cancel_futures=True)
            decoders.shutdown(wait=True, cancel_futures=True)

    def _start(
        self, rows: NDArray[np.int64], decoders: ThreadPoolExecutor, workers: int
    ) -> _Pending:
        pending = _Pending(rows, self.inputs)
        raws = self.read(rows.tolist())
        # Two parts a worker: large images of unequal cost still keep all of them busy.
        step = max(8, math.ceil(len(rows) / (2 * workers)))
        for at in range(0, len(rows), step):
            part = decoders.submit(self._decode, pending, raws[at : at + step], at)
            pending.parts.append(part)
        return pending

    def _decode(self, pending: _Pending, raws: Sequence[Raw | ImageError], start: int) -> None:
        with quiet_pillow():
            for at, raw in enumerate(raws, start):
                try:
                    self._prepare(pending, unless_error(raw), at)
                except ImageError as error:
                    pending.errors[at] = error

    def _prepare(self, pending: _Pending, raw: Raw, at: int) -> None:
        """Fill in one image for the inputs that do not know it."""
        pending.fractions[:, at] = [
            fraction_of(raw, wanted.preprocessing) for wanted in self.inputs
        ]
        if any(wanted.known for wanted in self.inputs):
            pending.keys[at] = key = content_key_of(raw)
            pending.known[:, at] = [
                wanted.known is not None and wanted.known(key) for wanted in self.inputs
            ]
            if pending.known[:, at].all():
                if self.pixel_limit < PIXEL_LIMIT and isinstance(raw, bytes):
                    Decoder(raw, self.pixel_limit)  # checks the limit
                return
        decoder = Decoder(raw, self.pixel_limit)
        for wanted, stack, known in zip(
            self.inputs, pending.pixels, pending.known[:, at], strict=True
        ):
            if not known:
                pixels = decoder.input(wanted.preprocessing)
                # Grey (H,W) spreads over the channels; (H,W,3) turns into (3,H,W).
                stack[at] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        if not pending.keys[at]:
            # of an encoded image it is the key of its bytes
            whole = None if isinstance(raw, bytes) else decoder.picture()
            pending.keys[at] = content_key_of(raw, whole)
        pending.large[at] = decoder.width * decoder.height > PIXEL_LIMIT


def raising(batches: Iterator[tuple[Batch, ...]]) -> Iterator[tuple[Batch, ...]]:
    """The same batches; the first skipped image is an `ImageError` instead."""
    with closing(cast("Any", batches)):
        for together in batches:
            for _, skip in together[0].skipped:
                raise ImageError(f"{skip.id}: {skip.reason}")
            yield together


def of_one_input(batches: Iterator[tuple[Batch, ...]]) -> Iterator[Batch]:
    """The batches of a pipeline with a single input."""
    with closing(cast("Any", batches)):
        for (batch,) in batches:
            yield batch


def processors() -> int:
    """Number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
