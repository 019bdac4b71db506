"""`ImageSet`: images from any source as RGB uint8, with stable ids, in order and in batches.

A declared image stays in its set even when it is damaged: reading it raises `ImageError`, and
`batches` lists it as a `Skip`.
"""

from __future__ import annotations

import hashlib
import operator
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeGuard, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmvaluator.arguments import whole_number
from gmvaluator.errors import ImageError, InputError
from gmvaluator.images.batching import Batch, Input, Pipeline, of_one_input, processors, raising
from gmvaluator.images.decoding import (
    PIXEL_LIMIT,
    Decoder,
    Preprocessing,
    content_key_of,
    decode,
    encode_jpeg,
    encode_png,
    shrink,
    unless_error,
)
from gmvaluator.images.ids import letters
from gmvaluator.images.pillow import quiet_pillow
from gmvaluator.images.sources import LeftOut, Listing, Raw, open_source
from gmvaluator.images.sources.address import Choice, limited
from gmvaluator.shown import short_repr

if TYPE_CHECKING:
    from PIL.Image import Image

# JPEG blurs digits and icons, and saves little on them
LOSSLESS_SIDE = 64
THUMBNAIL_QUALITY = 82


@short_repr
@dataclass(frozen=True, eq=False)
class Thumbnail:
    """A small copy of an image.

    Attributes:
        pixels: (H, W) grey or (H, W, 3) RGB, uint8.
        file: the same as a PNG up to 64 pixels, else as a JPEG.
    """

    pixels: NDArray[np.uint8]
    file: bytes


_T = TypeVar("_T")


class ImageSet:
    """Images with unique, stable ids; opened, never loaded whole.

    Attributes:
        ids, metadata: n ids, and n entries in each column of metadata.
        location: the absolute path that opens this very set again; None for images in memory and
            for a selection of a set.
        origin: the absolute path of the source on disk, also of a selection; None in memory.
        problems: parts of the source that could not even be listed, such as an unreadable folder.
        left_out: what lies in a folder beside the images and is no image.
        pixel_limit: largest width × height of an encoded image that is decoded.
        notes: sentences about what was chosen of the source, and what was left out.
    """

    def __init__(self, listing: Listing, *, pixel_limit: int = PIXEL_LIMIT) -> None:
        self.ids = listing.ids
        self.metadata = listing.metadata
        self.location = self.origin = listing.location
        self.problems = listing.problems
        self.left_out = listing.left_out
        left_out = str(listing.left_out)
        self.notes = (*listing.notes, left_out) if left_out else listing.notes
        self._labels = listing.labels
        self._reader = listing.reader
        self.pixel_limit = pixel_limit
        self._source_rows: NDArray[np.int64] | None = None  # None: all of them, in order

    @classmethod
    def open(cls, source: ImageSource, *, pixel_limit: int = PIXEL_LIMIT) -> ImageSet:
        """List the images of a source; nothing is decoded.

        Takes a folder of images (first-level sub-folder = label), of Parquet files or of tar
        shards; one image file; Parquet in the Hugging Face layout; a CSV or Parquet manifest
        with a `path` column; `.npz` or `.npy` with uint8 (N,H,W[,C]); WebDataset `.tar` files or
        a pattern such as `shard-{000..010}.tar`; a list of PIL images or arrays, a uint8 array,
        a torch or Hugging Face data set, or an `ImageSet`, which is returned as it is. Several
        sources are one set as a list of pairs (prefix of its ids, path).

        A path may end with a choice: `data/#split=train` (or `all`), `data.parquet#image=target`,
        `shards/#image=jpg`, `photos/#pixel_limit=200000000`; several are parted by commas.

        `pixel_limit` bounds width × height of an encoded image, checked before it is decoded,
        unless the path ends with a limit.
        Raises `InputError` if the source is missing, empty or of an unknown kind.
        """
        if isinstance(source, ImageSet):
            return source
        pixel_limit = whole_number("pixel_limit", pixel_limit, 1)
        if _is_joined(source):
            joined = _join(source, pixel_limit)
            return cls(joined, pixel_limit=joined.choice.pixel_limit or pixel_limit)
        listing = open_source(source)
        if listing.choice.pixel_limit is not None:
            pixel_limit = listing.choice.pixel_limit
        elif pixel_limit != PIXEL_LIMIT and listing.location is not None:
            # what opens this very set again has its limit
            listing = replace(listing, location=limited(listing.location, pixel_limit))
        return cls(listing, pixel_limit=pixel_limit)

    @property
    def labels(self) -> tuple[str | None, ...] | None:
        """One label an image, or None; asking may read a torch data set through, once."""
        if callable(self._labels):
            self._labels = self._labels()
        return self._labels

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Every image in order; `batches` is faster and survives damaged ones."""
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        selected = "selected " if self.origin != self.location else ""
        return f"ImageSet({len(self)} images {selected}from {self.origin or 'memory'})"

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """The whole image as (H, W, 3) uint8; raises `ImageError` if it cannot be decoded."""
        return np.array(self._picture(index).convert("RGB"))

    def content_key(self, index: int) -> str:
        """32 hex digits that name the content: blake2b-128 of the encoded bytes.

        Images that come as arrays are named by shape, dtype and pixels instead. Raises
        `ImageError` if the content cannot be read (it need not be decodable).
        """
        row = self._row(index)
        raw = self._read([row])[0]
        with quiet_pillow():
            return self._guard(row, lambda: content_key_of(raw))

    def pixel_keys(self, rows: ArrayLike, batch_size: int = 64) -> Iterator[str | None]:
        """32 hex digits that name the decoded RGB pixels and their shape, an image of `rows`.

        Equal where two images have the same pixels, even from different files. None where an image
        cannot be read.
        """
        selected, batch_size = self._check_rows(rows), whole_number("batch_size", batch_size, 1)

        def key(raw: Raw | ImageError) -> str | None:
            try:
                picture = decode(unless_error(raw), self.pixel_limit)
            except ImageError:
                return None
            return content_key_of(np.asarray(picture.convert("RGB")))

        with quiet_pillow(), ThreadPoolExecutor(processors(), "gmvaluator-decode") as pool:
            for at in range(0, len(selected), batch_size):
                yield from pool.map(key, self._read(selected[at : at + batch_size].tolist()))

    def read_bytes(self, index: int) -> bytes:
        """The encoded image as stored, or a PNG of an image that is not encoded."""
        row = self._row(index)
        raw = self._guard(row, lambda: unless_error(self._read([row])[0]))
        return raw if isinstance(raw, bytes) else encode_png(np.asarray(self._picture(row)))

    def png(self, index: int, max_side: int) -> bytes:
        """A PNG of at most `max_side` pixels a side; smaller images keep their size."""
        max_side = whole_number("max_side", max_side, 1)
        return encode_png(np.asarray(shrink(self._picture(index), max_side)))

    def thumbnail(self, index: int, max_side: int, key: str | None = None) -> Thumbnail | None:
        """The image at most `max_side` pixels a side.

        None if its content key is not `key`; key and picture are of the same bytes.
        """
        row, max_side = self._row(index), whole_number("max_side", max_side, 1)
        raw = self._read([row])[0]

        def shrunk() -> Thumbnail | None:
            if key is not None and content_key_of(raw) != key:
                return None
            pixels = Decoder(unless_error(raw), self.pixel_limit).thumbnail(max_side)
            if max(pixels.shape[:2]) <= LOSSLESS_SIDE:
                return Thumbnail(pixels, encode_png(pixels))
            return Thumbnail(pixels, encode_jpeg(pixels, THUMBNAIL_QUALITY))

        with quiet_pillow():
            return self._guard(row, shrunk)

    def select(self, rows: ArrayLike, *, ids: Sequence[str] | None = None) -> ImageSet:
        """The set of `rows` in the order given, sharing the source.

        `ids` are other ids for these images; by default ids stay the same.

        A selection has no `location`: opening the source again would give the whole set. Pass the
        selection itself where a run or an index of it is taken up again.

        Raises `InputError` if a row is out of range or given twice, or ids are not one an image.
        """
        selected = self._check_rows(rows)
        if ids is not None and not len(ids) == len(set(map(letters, ids))) == len(selected):
            raise InputError(f"select was given {len(ids)} ids; wanted {len(selected)} distinct.")
        if len(np.unique(selected)) != len(selected):
            raise InputError("select was given a row twice; wanted distinct rows: ids are unique.")

        def pick(values: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(values[row] for row in selected)

        labels = _Deferred(self, selected)
        subset = ImageSet(
            Listing(
                self._reader,
                pick(self.ids) if ids is None else tuple(ids),
                labels if callable(self._labels) else labels(),
                {name: pick(values) for name, values in self.metadata.items()},
                problems=self.problems,
            ),
            pixel_limit=self.pixel_limit,
        )
        subset.origin = self.origin
        subset.left_out, subset.notes = self.left_out, self.notes
        if ids is None and np.array_equal(selected, np.arange(len(self))):
            subset.location = self.location
        subset._source_rows = selected if self._source_rows is None else self._source_rows[selected]
        return subset

    def batches(
        self,
        preprocessing: Preprocessing,
        batch_size: int = 64,
        rows: ArrayLike | None = None,
        workers: int | None = None,
        on_error: Literal["skip", "raise"] = "skip",
        known: Callable[[str], bool] | None = None,
    ) -> Iterator[Batch]:
        """Decoded, resized images in the order of `rows` (default: all), a few batches ahead.

        One thread reads, `workers` threads (default: the processors at hand) decode; both end
        with the iterator. Every row is in exactly one batch, as a survivor or skipped; with
        `on_error="raise"` the first bad image raises `ImageError`. Images whose content key is
        `known` (called in the decoding threads) are not decoded and have no pixels.
        """
        inputs = [Input(preprocessing, known)]
        return of_one_input(self.batches_for(inputs, batch_size, rows, workers, on_error))

    def batches_for(
        self,
        inputs: Sequence[Input],
        batch_size: int = 64,
        rows: ArrayLike | None = None,
        workers: int | None = None,
        on_error: Literal["skip", "raise"] = "skip",
    ) -> Iterator[tuple[Batch, ...]]:
        """As `batches`, for several inputs at once: each image is read once, and decoded once.

        An image is decoded again only where a JPEG is so large that the inputs need it at different
        fractions of its size (see `Preprocessing`). The pixels are those of `batches`.

        Yields:
            A batch for each input. The rows, keys and skipped images are the same in all of them.
        """
        batch_size = whole_number("batch_size", batch_size, 1)
        workers = None if workers is None else whole_number("workers", workers, 1)
        if on_error not in ("skip", "raise"):
            raise InputError(f"on_error={on_error!r} was given; wanted 'skip' or 'raise'.")
        selected = np.arange(len(self)) if rows is None else self._check_rows(rows)
        parts = [selected[at : at + batch_size] for at in range(0, len(selected), batch_size)]
        produced = Pipeline(self._read, self.ids, self.pixel_limit, inputs, workers).run(parts)
        return raising(produced) if on_error == "raise" else produced

    def _row(self, index: int) -> int:
        row = operator.index(index)
        if not -len(self) <= row < len(self):
            # IndexError, not InputError: iteration over a sequence ends with it.
            raise IndexError(f"index {row} was given; the set has {len(self)} images.")
        return row % len(self)

    def _check_rows(self, rows: ArrayLike) -> NDArray[np.int64]:
        array = np.asarray(rows)
        if array.size == 0:
            return np.empty(0, np.int64)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise InputError(
                f"rows of {array.dtype}, shape {array.shape} were given; wanted a list of row "
                "numbers: use numpy.flatnonzero on a mask."
            )
        if array.min() < 0 or array.max() >= len(self):
            raise InputError(
                f"rows {array.min()}..{array.max()} were given; wanted 0..{len(self) - 1}."
            )
        return array.astype(np.int64)

    def _read(self, rows: Sequence[int]) -> list[Raw | ImageError]:
        if self._source_rows is not None:
            rows = self._source_rows[list(rows)].tolist()
        return self._reader.read(rows)

    def _picture(self, index: int) -> Image:
        row = self._row(index)
        raw = self._read([row])[0]
        with quiet_pillow():
            return self._guard(row, lambda: decode(unless_error(raw), self.pixel_limit))

    def _guard(self, row: int, action: Callable[[], _T]) -> _T:
        try:
            return action()
        except ImageError as error:
            raise ImageError(f"{self.ids[row]}: {error}") from error.__cause__


class ImageDataset(Protocol):
    """A torch `Dataset`, a Hugging Face `Dataset` or another sized collection of images."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Any: ...


ImageSource: TypeAlias = (
    str
    | os.PathLike[str]
    | ImageSet
    | NDArray[np.uint8]
    | Sequence["Image | NDArray[np.uint8]"]
    | Sequence[Sequence[str | Path]]
    | ImageDataset
)
"""What `ImageSet.open` takes: a path; an open set; a uint8 array; a list of PIL images or arrays; a
list of pairs (prefix of ids, path); a torch or Hugging Face data set."""


@dataclass(frozen=True)
class _Parts:
    """Reader of several sets, one after the other."""

    sets: tuple[ImageSet, ...]
    starts: tuple[int, ...]

    def read(self, rows: Sequence[int]) -> list[Raw | ImageError]:
        raws: list[Raw | ImageError] = []
        for row in rows:
            part = bisect_right(self.starts, row) - 1
            raws += self.sets[part]._read([row - self.starts[part]])
        return raws


def _is_joined(source: Any) -> TypeGuard[Sequence[Sequence[Any]]]:
    """Whether it is a list of pairs (prefix, path); JSON has lists for pairs."""
    return (
        isinstance(source, list)
        and bool(source)
        and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in source)
        and all(isinstance(prefix, str) and isinstance(path, str | Path) for prefix, path in source)
    )


def _join(named: Sequence[Sequence[Any]], pixel_limit: int) -> Listing:
    """Sources with the prefixes that their ids get, as one in this order."""
    sets = tuple(ImageSet.open(path, pixel_limit=pixel_limit) for _, path in named)
    ids = [
        prefix + name for (prefix, _), part in zip(named, sets, strict=True) for name in part.ids
    ]
    different = len(set(map(letters, ids)))
    if not ids or different < len(ids):
        raise InputError(
            f"{len(named)} sources hold {len(ids)} images, {different} of different ids; "
            "wanted at least one, and prefixes that keep ids apart"
        )
    labels = [label for part in sets for label in part.labels or (None,) * len(part)]
    columns = [name for name in sets[0].metadata if all(name in part.metadata for part in sets)]
    metadata = {
        name: tuple(entry for part in sets for entry in part.metadata[name]) for name in columns
    }
    starts = np.cumsum([0, *(len(part) for part in sets)])[:-1]
    return Listing(
        _Parts(sets, tuple(starts.tolist())),
        tuple(ids),
        tuple(labels) if any(label is not None for label in labels) else None,
        metadata,
        problems=tuple(problem for part in sets for problem in part.problems),
        left_out=sum((part.left_out for part in sets), LeftOut()),
        choice=Choice(pixel_limit=max(part.pixel_limit for part in sets)),
    )


@dataclass(frozen=True)
class _Deferred:
    """Labels of a selection whose set has not read its own yet; a class, to be picklable."""

    whole: ImageSet
    rows: NDArray[np.int64]

    def __call__(self) -> tuple[str | None, ...] | None:
        labels = self.whole.labels
        return None if labels is None else tuple(labels[row] for row in self.rows)


def set_fingerprint(ids: Sequence[str], keys: Sequence[str]) -> str:
    """64 hex digits (SHA-256) over the (id, content key) pairs of a set, in order."""
    if len(ids) != len(keys):
        raise InputError(f"{len(ids)} ids and {len(keys)} keys were given; wanted one key an id.")
    digest = hashlib.sha256()
    for id_, key in zip(ids, keys, strict=True):
        for text in (id_.encode("utf-8", "surrogatepass"), key.encode()):
            # The length first: ("ab", "c") must not equal ("a", "bc").
            digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()
