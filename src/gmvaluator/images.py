"""`ImageSet`: images from any source as RGB uint8, with stable ids, in order and in batches.

All PIL code lives here. A declared image stays in its set even when it is damaged: reading it
raises `ImageError`, and `batches` lists it as a `Skip`.
"""

from __future__ import annotations

import hashlib
import io
import math
import operator
import os
import re
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from gmvaluator.errors import ImageError, InputError
from gmvaluator.sources import FORMATS, Listing, Raw, Skip, image_format, open_source

__all__ = ["PIXEL_LIMIT", "Batch", "ImageSet", "Preprocessing", "Skip", "set_fingerprint"]

_T = TypeVar("_T")

PIXEL_LIMIT = 89_478_485  # Pillow's own limit: a quarter GiB at 3 bytes a pixel
_BATCHES_AHEAD = 3
_WHITE = (255, 255, 255)
_ORIENTATION = 0x0112
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PLUGINS = {
    "PNG": "PngImagePlugin.PngImageFile",
    "JPEG": "JpegImagePlugin.JpegImageFile",
    "GIF": "GifImagePlugin.GifImageFile",
    "BMP": "BmpImagePlugin.BmpImageFile",
    "WEBP": "WebPImagePlugin.WebPImageFile",
    "TIFF": "TiffImagePlugin.TiffImageFile",
    "PPM": "PpmImagePlugin.PpmImageFile",
    "AVIF": "AvifImagePlugin.AvifImageFile",
    "QOI": "QoiImagePlugin.QoiImageFile",
}


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's square input.

    `size` is in pixels. `fit="squash"` scales both sides to `size`; `"crop"` scales the shorter
    side to `size` and keeps the centre, as torchvision's Resize and CenterCrop do.
    `interpolation` names a PIL filter, which smooths when shrinking. An image that has the size
    already is not resampled.
    """

    size: int
    fit: Literal["squash", "crop"] = "squash"
    interpolation: Literal["bilinear", "bicubic", "box", "lanczos"] = "bicubic"

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 1:
            raise InputError(f"size={self.size!r} was given; wanted a whole number of pixels ≥ 1.")
        if self.fit not in ("squash", "crop"):
            raise InputError(f"fit={self.fit!r} was given; wanted 'squash' or 'crop'.")
        if self.interpolation not in _FILTERS:
            raise InputError(
                f"interpolation={self.interpolation!r} was given; wanted one of "
                f"{', '.join(map(repr, _FILTERS))}."
            )


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of a set, decoded and resized.

    `rows` (B,), `pixels` (B, 3, size, size) and `keys` (B,) hold the images that could be read,
    in order; `skipped` the (row, reason) of the others.
    """

    rows: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    keys: tuple[str, ...]
    skipped: tuple[tuple[int, Skip], ...]


class ImageSet:
    """Images with unique, stable ids; opened, never loaded whole.

    `ids`, `labels` (None if the source has none) and the columns of `metadata` have one entry an
    image. `location` is the absolute path of a source on disk, else None. `problems` are parts
    of the source that could not even be listed, such as an unreadable folder.
    """

    def __init__(self, listing: Listing, *, pixel_limit: int = PIXEL_LIMIT) -> None:
        self.ids = listing.ids
        self.metadata = listing.metadata
        self.location = listing.location
        self.problems = listing.problems
        self._labels = listing.labels
        self._reader = listing.reader
        self._limit = pixel_limit
        self._source_rows: NDArray[np.int64] | None = None  # None: all of them, in order

    @classmethod
    def open(cls, source: Any, *, pixel_limit: int = PIXEL_LIMIT) -> ImageSet:
        """List the images of a source; nothing is decoded.

        Takes a folder of images (first-level sub-folder = label), of Parquet files or of tar
        shards; one image file; Parquet in the Hugging Face layout; a CSV or Parquet manifest
        with a `path` column; `.npz` or `.npy` with uint8 (N,H,W[,C]); WebDataset `.tar` files or
        a pattern such as `shard-{000..010}.tar`; a list of PIL images or arrays, a uint8 array,
        a torch or Hugging Face data set, or an `ImageSet`, which is returned as it is.

        `pixel_limit` bounds width × height of an encoded image, checked before it is decoded.
        Raises `InputError` if the source is missing, empty or of an unknown kind.
        """
        if isinstance(source, ImageSet):
            return source
        if not isinstance(pixel_limit, int) or pixel_limit < 1:
            raise InputError(f"pixel_limit={pixel_limit!r} was given; wanted a whole number ≥ 1.")
        return cls(open_source(source), pixel_limit=pixel_limit)

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
        return f"ImageSet({len(self)} images from {self.location or 'memory'})"

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
        with _quiet_pillow():
            return self._guard(row, lambda: _content_key(raw))

    def read_bytes(self, index: int) -> bytes:
        """The encoded image as stored, or a PNG of an image that is not encoded."""
        row = self._row(index)
        raw = self._guard(row, lambda: _unless_error(self._read([row])[0]))
        return raw if isinstance(raw, bytes) else _to_png(self._picture(row))

    def png(self, index: int, max_side: int) -> bytes:
        """A PNG of at most `max_side` pixels a side; smaller images keep their size."""
        if max_side < 1:
            raise InputError(f"max_side={max_side} was given; wanted at least 1 pixel.")
        picture = self._picture(index)
        scale = max_side / max(picture.size)
        if scale < 1:
            width, height = (max(1, round(side * scale)) for side in picture.size)
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        return _to_png(picture)

    def select(self, rows: ArrayLike) -> ImageSet:
        """The set of `rows` in the order given, sharing the source; ids stay the same.

        Raises `InputError` if a row is out of range or given twice.
        """
        chosen = self._check_rows(rows)
        if len(np.unique(chosen)) != len(chosen):
            raise InputError("select was given a row twice; wanted distinct rows: ids are unique.")

        def pick(values: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(values[row] for row in chosen)

        labels = _Deferred(self, chosen)
        subset = ImageSet(
            Listing(
                self._reader,
                pick(self.ids),
                labels if callable(self._labels) else labels(),
                {name: pick(values) for name, values in self.metadata.items()},
                self.location,
                self.problems,
            ),
            pixel_limit=self._limit,
        )
        subset._source_rows = chosen if self._source_rows is None else self._source_rows[chosen]
        return subset

    def batches(
        self,
        preprocessing: Preprocessing,
        batch_size: int = 64,
        rows: ArrayLike | None = None,
        workers: int | None = None,
        on_error: Literal["skip", "raise"] = "skip",
    ) -> Iterator[Batch]:
        """Decoded, resized images in the order of `rows` (default: all), a few batches ahead.

        One thread reads, `workers` threads (default: the processors at hand) decode; both end
        with the iterator. Every row is in exactly one batch, as a survivor or skipped; with
        `on_error="raise"` the first bad image raises `ImageError`.
        """
        if batch_size < 1 or (workers is not None and workers < 1):
            raise InputError(
                f"batch_size={batch_size}, workers={workers} was given; wanted at least 1 each."
            )
        if on_error not in ("skip", "raise"):
            raise InputError(f"on_error={on_error!r} was given; wanted 'skip' or 'raise'.")
        chosen = np.arange(len(self)) if rows is None else self._check_rows(rows)
        parts = [chosen[at : at + batch_size] for at in range(0, len(chosen), batch_size)]
        produced = _Pipeline(self, preprocessing, workers or _processors()).run(parts)
        return _raising(produced) if on_error == "raise" else produced

    def _row(self, index: int) -> int:
        row = operator.index(index)
        if not -len(self) <= row < len(self):
            # IndexError, not InputError: iteration over a sequence ends with it.
            raise IndexError(f"index {row} was given; the set has {len(self)} images.")
        return row % len(self)

    def _check_rows(self, rows: ArrayLike) -> NDArray[np.int64]:
        chosen = np.asarray(rows)
        if chosen.size == 0:
            return np.empty(0, np.int64)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            raise InputError(
                f"rows of {chosen.dtype}, shape {chosen.shape} were given; wanted a list of row "
                "numbers: use numpy.flatnonzero on a mask."
            )
        if chosen.min() < 0 or chosen.max() >= len(self):
            raise InputError(
                f"rows {chosen.min()}..{chosen.max()} were given; wanted 0..{len(self) - 1}."
            )
        return chosen.astype(np.int64)

    def _read(self, rows: Sequence[int]) -> list[Raw | ImageError]:
        if self._source_rows is not None:
            rows = self._source_rows[list(rows)].tolist()
        return self._reader.read(rows)

    def _picture(self, index: int) -> Image.Image:
        row = self._row(index)
        raw = self._read([row])[0]
        with _quiet_pillow():
            return self._guard(row, lambda: _decode(_unless_error(raw), self._limit))

    def _guard(self, row: int, action: Callable[[], _T]) -> _T:
        try:
            return action()
        except ImageError as error:
            raise ImageError(f"{self.ids[row]}: {error}") from error.__cause__


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


# --- the decoding pipeline -----------------------------------------------------------------------


class _Pending:
    """A batch under way: `keys` and `errors` are filled by the decoding threads."""

    def __init__(self, rows: NDArray[np.int64], size: int) -> None:
        self.rows = rows
        self.pixels = np.empty((len(rows), 3, size, size), np.uint8)
        self.keys: list[str] = [""] * len(rows)
        self.errors: list[ImageError | None] = [None] * len(rows)
        self.parts: list[Future[None]] = []

    def finish(self, ids: Sequence[str]) -> Batch:
        for part in self.parts:
            part.result()
        alive = [at for at, error in enumerate(self.errors) if error is None]
        complete = len(alive) == len(self.rows)
        return Batch(
            self.rows if complete else self.rows[alive],
            self.pixels if complete else self.pixels[alive],
            tuple(self.keys[at] for at in alive),
            tuple(
                (int(row), Skip(ids[row], str(error)))
                for row, error in zip(self.rows, self.errors, strict=True)
                if error is not None
            ),
        )


class _Pipeline:
    """One reading thread feeds decoding threads; a bounded number of batches is under way."""

    def __init__(self, images: ImageSet, preprocessing: Preprocessing, workers: int) -> None:
        self._images = images
        self._preprocessing = preprocessing
        self._workers = workers

    def run(self, parts: Sequence[NDArray[np.int64]]) -> Iterator[Batch]:
        reader = ThreadPoolExecutor(1, "gmvaluator-read")
        decoders = ThreadPoolExecutor(self._workers, "gmvaluator-decode")
        ahead: deque[Future[_Pending]] = deque()
        waiting = iter(parts)
        try:
            for rows in waiting:
                ahead.append(reader.submit(self._start, rows, decoders))
                if len(ahead) > _BATCHES_AHEAD:
                    yield ahead.popleft().result().finish(self._images.ids)
            while ahead:
                yield ahead.popleft().result().finish(self._images.ids)
        finally:
            # Also on break, errors and Ctrl-C; the reader first, it feeds the decoders.
            reader.shutdown(wait=True, cancel_futures=True)
            decoders.shutdown(wait=True, cancel_futures=True)

    def _start(self, rows: NDArray[np.int64], decoders: ThreadPoolExecutor) -> _Pending:
        pending = _Pending(rows, self._preprocessing.size)
        raws = self._images._read(rows.tolist())
        # Two parts a worker: large images of unequal cost still keep all of them busy.
        step = max(8, math.ceil(len(rows) / (2 * self._workers)))
        for at in range(0, len(rows), step):
            part = decoders.submit(self._decode, pending, raws[at : at + step], at)
            pending.parts.append(part)
        return pending

    def _decode(self, pending: _Pending, raws: Sequence[Raw | ImageError], start: int) -> None:
        limit = self._images._limit
        with _quiet_pillow():
            for at, raw in enumerate(raws, start):
                try:
                    picture = _decode(_unless_error(raw), limit)
                    pending.keys[at] = _content_key(raw, picture)
                    pixels = np.asarray(_fit(picture, self._preprocessing))
                except ImageError as error:
                    pending.errors[at] = error
                    continue
                # Grey (H,W) spreads over the channels; (H,W,3) turns into (3,H,W).
                pending.pixels[at] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _raising(batches: Iterator[Batch]) -> Iterator[Batch]:
    try:
        for batch in batches:
            for _, skip in batch.skipped:
                raise ImageError(f"{skip.id}: {skip.reason}")
            yield batch
    finally:
        cast("Any", batches).close()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- decoding ------------------------------------------------------------------------------------

_PILLOW_SILENCE = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_silence_lock = threading.Lock()
_silence_users = 0


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Drop Pillow's warnings about odd metadata; damage is reported as `ImageError`.

    `warnings.catch_warnings` restores the filters of whichever thread ends last, so it breaks
    the user's filters here. One entry, counted under a lock, leaves them as they were. The list
    is changed directly, since `filterwarnings` makes Python forget which warnings it has shown.
    """
    global _silence_users
    filters = cast("list[Any]", warnings.filters)
    with _silence_lock:
        _silence_users += 1
        if not filters or filters[0] is not _PILLOW_SILENCE:
            filters.insert(0, _PILLOW_SILENCE)
    try:
        yield
    finally:
        with _silence_lock:
            _silence_users -= 1
            current = cast("list[Any]", warnings.filters)
            while not _silence_users and _PILLOW_SILENCE in current:
                current.remove(_PILLOW_SILENCE)


def _unless_error(raw: Raw | ImageError) -> Raw:
    if isinstance(raw, ImageError):
        raise raw
    return raw


def _content_key(raw: Raw | ImageError, picture: Image.Image | None = None) -> str:
    raw = _unless_error(raw)
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(raw, bytes):
        digest.update(raw)
        return digest.hexdigest()
    if not isinstance(raw, np.ndarray):
        # A PIL image's own bytes leave out its palette and transparency.
        raw = np.asarray((picture or _decode(raw, PIXEL_LIMIT)).convert("RGB"))
    digest.update(f"{raw.shape} {raw.dtype} ".encode())
    digest.update(np.ascontiguousarray(raw).data)
    return digest.hexdigest()


def _decode(raw: Raw, pixel_limit: int) -> Image.Image:
    """An upright picture of mode L or RGB; `ImageError` with a short reason if that fails."""
    if isinstance(raw, np.ndarray):
        grey = raw.ndim == 3 and raw.shape[2] == 1
        return _to_colour(Image.fromarray(np.ascontiguousarray(raw[:, :, 0] if grey else raw)))
    name = _format_of(raw) if isinstance(raw, bytes) else "PIL image"
    try:
        if not isinstance(raw, bytes):
            return _upright(cast("Image.Image", raw))
        picture = _open_plugin(name)(io.BytesIO(raw))
        width, height = picture.size
        if width * height > pixel_limit:
            raise ImageError(f"{width}×{height} pixels exceed the limit of {pixel_limit} pixels")
        picture.load()
        return _upright(picture)
    except ImageError:
        raise
    except Exception as error:  # damaged files make the plugins raise nearly anything
        raise ImageError(_damage(name, error)) from error


def _format_of(content: bytes) -> str:
    if not content:
        raise ImageError("empty file")
    name = image_format(content[:16])
    if name is None:
        raise ImageError(f"not an image file ({FORMATS} wanted)")
    return name


def _open_plugin(name: str) -> Callable[[io.BytesIO], Image.Image]:
    """The class that reads one format.

    `Image.open` would also try other formats, and check its own process-wide pixel limit.
    """
    module, _, cls = _PLUGINS[name].partition(".")
    try:
        return cast(
            "Callable[[io.BytesIO], Image.Image]", getattr(import_module(f"PIL.{module}"), cls)
        )
    except ImportError:
        raise ImageError(f"{name} needs a newer Pillow: pip install -U pillow") from None


def _damage(name: str, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return "pixels exceed Pillow's limit"
    text = str(error).split("\n")[0]
    cut = ("truncated", "unexpected end", "not enough image data", "reached eof", "incomplete")
    if isinstance(error, EOFError) or any(word in text.lower() for word in cut):
        return f"truncated {name}"
    return f"damaged {name}: {text[:80] or type(error).__name__}"


def _upright(picture: Image.Image) -> Image.Image:
    turned = _TRANSPOSE.get(_orientation(picture))
    flat = _to_colour(picture)
    return flat.transpose(turned) if turned is not None else flat


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation 1..8. Pillow turns TIFF itself; unreadable EXIF counts as upright."""
    carriers = ("exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp")
    if picture.format == "TIFF" or not any(key in picture.info for key in carriers):
        return 1
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # any error of the EXIF parser; the pixels are fine without it
        return 1


def _to_colour(picture: Image.Image) -> Image.Image:
    """Any mode as L or RGB.

    Alpha goes over white. 16-bit grey is scaled by 255/65535. 32-bit integers that stay within
    0..255 are kept, others count as 16-bit. Floats within [0, 1] are multiplied by 255, others
    clipped to 0..255.
    """
    if picture.mode in ("L", "RGB") and "transparency" not in picture.info:
        return picture
    if picture.mode == "F" or picture.mode.startswith("I"):
        return Image.fromarray(_to_bytes(np.asarray(picture), picture))
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        canvas = Image.new("RGB", picture.size, _WHITE)
        canvas.paste(rgba, mask=rgba.getchannel("A"))
        return canvas
    return picture.convert("L" if picture.mode == "1" else "RGB")


def _to_bytes(values: NDArray[Any], picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode == "F":
        if not np.isfinite(values).all():
            raise ImageError("float image with NaN or infinite values")
        scale = 255.0 if values.min() >= 0 and values.max() <= 1 else 1.0
        return np.rint(np.clip(values * scale, 0, 255)).astype(np.uint8)
    wide = values.astype(np.int64)
    # Older Pillow versions open 16-bit PNG and PPM as 32-bit integers.
    plain = picture.mode == "I" and picture.format not in ("PNG", "PPM")
    if plain and wide.min() >= 0 and wide.max() <= 255:
        return wide.astype(np.uint8)
    return ((np.clip(wide, 0, 65535) * 255 + 32767) // 65535).astype(np.uint8)


def _fit(picture: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    size, (width, height) = preprocessing.size, picture.size
    if (width, height) == (size, size):
        return picture
    box = None
    if preprocessing.fit == "crop":
        # The crop of the scaled image, computed without the rest of it: a 1 × 80,000,000 image
        # would be huge when scaled.
        short = min(width, height)
        scaled = [size if side == short else int(size * side / short) for side in (width, height)]
        offset = [round((side - size) / 2) for side in scaled]
        unit = (width / scaled[0], height / scaled[1])
        box = (
            offset[0] * unit[0],
            offset[1] * unit[1],
            min(width, (offset[0] + size) * unit[0]),
            min(height, (offset[1] + size) * unit[1]),
        )
    return picture.resize((size, size), _FILTERS[preprocessing.interpolation], box=box)


def _to_png(picture: Image.Image) -> bytes:
    target = io.BytesIO()
    # Pixels only: a profile or text of the source file has no place in a thumbnail.
    Image.fromarray(np.asarray(picture)).save(target, "PNG")
    return target.getvalue()
