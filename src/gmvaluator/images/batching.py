"""Batches of decoded images, read and decoded by threads a few batches ahead."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import ImageError
from gmvaluator.images.decoding import (
    PIXEL_LIMIT,
    Preprocessing,
    check_pixels,
    content_key_of,
    decode,
    fit,
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
    """

    rows: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    keys: tuple[str, ...]
    skipped: tuple[tuple[int, Skip], ...]
    decoded: NDArray[np.int64]
    large: NDArray[np.bool_]


class _Pending:
    """A batch under way: its lists but `rows` are filled by the decoding threads."""

    def __init__(self, rows: NDArray[np.int64], size: int) -> None:
        self.rows = rows
        self.pixels = np.empty((len(rows), 3, size, size), np.uint8)
        self.keys: list[str] = [""] * len(rows)
        self.known = np.zeros(len(rows), dtype=bool)
        self.large = np.zeros(len(rows), dtype=bool)
        self.errors: list[ImageError | None] = [None] * len(rows)
        self.parts: list[Future[None]] = []

    def finish(self, ids: Sequence[str]) -> Batch:
        for part in self.parts:
            part.result()
        alive = np.asarray([error is None for error in self.errors], dtype=bool)
        decoded = alive & ~self.known
        return Batch(
            self.rows[alive],
            # all of them is the usual case, and copying it would cost as much as reading it
            self.pixels if decoded.all() else self.pixels[decoded],
            tuple(self.keys[at] for at in np.flatnonzero(alive)),
            tuple(
                (int(row), Skip(ids[row], str(error)))
                for row, error in zip(self.rows, self.errors, strict=True)
                if error is not None
            ),
            np.flatnonzero(~self.known[alive]),
            self.large[decoded],
        )


@dataclass(frozen=True)
class Pipeline:
    """One reading thread feeds decoding threads; a bounded number of batches is under way.

    Attributes:
        read: gives the raw content of rows, or their errors.
        ids: of all rows of the set.
        pixel_limit: bounds width × height of an encoded image.
        preprocessing: how images are resized.
        workers: number of decoding threads. Default: the processors that the process may use.
        known: content keys of images that need no decoding: images that were read within the usual
            limit of pixels.
    """

    read: Callable[[Sequence[int]], list[Raw | ImageError]]
    ids: Sequence[str]
    pixel_limit: int
    preprocessing: Preprocessing
    workers: int | None = None
    known: Callable[[str], bool] | None = None

    def run(self, parts: Sequence[NDArray[np.int64]]) -> Iterator[Batch]:
        """One batch for each array of rows, in their order."""
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
        pending = _Pending(rows, self.preprocessing.size)
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
                    if self._is_known(pending, raw, at):
                        continue
                    picture = decode(unless_error(raw), self.pixel_limit)
                    pending.keys[at] = pending.keys[at] or content_key_of(raw, picture)
                    pending.large[at] = picture.width * picture.height > PIXEL_LIMIT
                    pixels = np.asarray(fit(picture, self.preprocessing))
                except ImageError as error:
                    pending.errors[at] = error
                    continue
                # Grey (H,W) spreads over the channels; (H,W,3) turns into (3,H,W).
                pending.pixels[at] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def _is_known(self, pending: _Pending, raw: Raw | ImageError, at: int) -> bool:
        if self.known is None:
            return False
        pending.keys[at] = content_key_of(raw)
        if not self.known(pending.keys[at]):
            return False
        if self.pixel_limit < PIXEL_LIMIT and isinstance(raw, bytes):
            check_pixels(raw, self.pixel_limit)
        pending.known[at] = True
        return True


def raising(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches; the first skipped image is an `ImageError` instead."""
    try:
        for batch in batches:
            for _, skip in batch.skipped:
                raise ImageError(f"{skip.id}: {skip.reason}")
            yield batch
    finally:
        cast("Any", batches).close()


def processors() -> int:
    """Number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
