"""Where images come from: every source becomes ids, labels and a reader of raw rows.

A reader gives encoded bytes or arrays, never decoded files: decoding belongs to `images.py`.
Readers hold no open files, so that they can be pickled, forked and used from threads.
"""

from __future__ import annotations

import bisect
import csv
import itertools
import json
import os
import re
import stat
import tarfile
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import ImageError, InputError

IMAGE_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("png", "jpg", "jpeg", "jpe", "gif", "bmp", "webp", "tif", "tiff", "avif", "qoi"),
        *("ppm", "pgm", "pbm", "pnm", "pfm"),
    )
)
FORMATS = "PNG, JPEG, GIF, BMP, WebP, TIFF, PPM, AVIF or QOI"
SOURCES = (
    "a folder, an image file, .parquet, .npz, .npy, .csv, .tar, a list of PIL images or arrays, "
    "a uint8 array, a torch Dataset or a Hugging Face Dataset"
)
# A checkpoint renamed to .png must not fill the memory; 1 GiB holds any image within pixel limits.
MAX_FILE_BYTES = 2**30
# Row groups of a Parquet set that stay in memory; the last one read always does.
CACHE_BYTES = 256 * 2**20
_MAX_SIDECAR_BYTES = 2**20
_MAX_SHARDS = 100_000


@dataclass(frozen=True)
class Skip:
    """An item left out of a computation, and a short human reason."""

    id: str
    reason: str


@runtime_checkable
class Picture(Protocol):
    """A PIL image, as far as this module needs to know it."""

    def getbands(self) -> tuple[str, ...]: ...
    def load(self) -> Any: ...


# Encoded file content, a (H, W[, C]) array with C in (1, 3, 4), or a PIL image.
Raw = bytes | NDArray[np.uint8] | Picture


class Reader(Protocol):
    """Random access to the raw rows of a source."""

    def read(self, rows: Sequence[int]) -> list[Raw | ImageError]:
        """The raw content of `rows`, in their order; an unreadable row is its error."""
        ...


@dataclass(frozen=True)
class Listing:
    """A source that was listed but not read: the columns of an `ImageSet` and its reader.

    `labels` may be a function, for sources that must be read whole to know them.
    """

    reader: Reader
    ids: tuple[str, ...]
    labels: tuple[str | None, ...] | Callable[[], tuple[str | None, ...] | None] | None = None
    metadata: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    location: str | None = None
    problems: tuple[Skip, ...] = ()


def open_source(source: Any) -> Listing:
    """List a source of any kind that `ImageSet.open` takes.

    Raises `InputError` if the source is missing, empty, damaged or of an unknown kind.
    """
    if isinstance(source, str | os.PathLike):
        listing = _open_path(os.fspath(source))
    else:
        listing = _open_object(source)
    if not listing.ids:
        found = "".join(f" ({p.id}: {p.reason})" for p in listing.problems[:1])
        name = listing.location or f"the {type(source).__name__} given"
        raise InputError(f"{name} holds no images{found}; wanted at least one: check the source.")
    return listing


# --- bytes and files -----------------------------------------------------------------------------


def image_format(head: bytes) -> str | None:
    """Pillow's name of the raster format that starts with `head` (16 bytes), or None."""
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return "AVIF"
    if head[:1] == b"P" and head[1:2] in b"123456f" and head[2:3].isspace():
        return "PPM"
    return None


_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"qoif": "QOI",
}


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The content of an image file; `ImageError` if it is missing, empty, huge or no image."""
    try:
        status = Path(path).stat()
        # Opening a named pipe would wait for its writer for ever.
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not a regular file")
        if status.st_size == 0:
            raise ImageError("empty file")
        if status.st_size > MAX_FILE_BYTES:
            raise ImageError(f"file of {status.st_size} bytes, above the limit of 1 GiB")
        with open(path, "rb") as file:
            head = file.read(16)
            if image_format(head) is None:
                raise ImageError(f"not an image file ({FORMATS} wanted)")
            return head + file.read()
    except FileNotFoundError:
        raise ImageError("file not found") from None
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"file cannot be read: {_why(error)}") from None


def _why(error: BaseException) -> str:
    """One short line out of an exception."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text or type(error).__name__).strip().split("\n")[0][:120]


def _attempt(action: Callable[[int], Raw], row: int) -> Raw | ImageError:
    try:
        return action(row)
    except ImageError as error:
        return error


# --- folders and single files --------------------------------------------------------------------


def _open_path(given: str) -> Listing:
    path = Path(given).expanduser()
    try:
        exists = path.exists()
    except (OSError, ValueError) as error:
        raise InputError(f"{given!r} is not a usable path: {_why(error)}.") from None
    if not exists:
        if "{" in given and given.endswith(".tar"):
            shards = [Path(name) for name in _expand(str(path))]
            return _open_tar(shards, os.path.abspath(path))  # noqa: PTH100
        raise InputError(f"{given!r} does not exist; wanted {SOURCES}: check the path.")
    # Not resolve(): the Hugging Face cache links names with a suffix to blobs without one.
    location = os.path.abspath(path)  # noqa: PTH100
    if path.is_dir():
        return _open_folder(Path(location))
    if not path.is_file():
        raise InputError(f"{given!r} is neither a file nor a folder; wanted {SOURCES}.")
    return _open_file(Path(location))


def _open_file(path: Path) -> Listing:
    kinds: dict[str, Callable[[Path], Listing]] = {
        ".parquet": lambda p: _open_parquet([p], str(p)),
        ".npz": _open_npz,
        ".npy": _open_npy,
        ".csv": _open_csv,
        ".tar": lambda p: _open_tar([p], str(p)),
    }
    suffix = path.suffix.lower()
    if suffix in kinds:
        return kinds[suffix](path)
    if suffix not in IMAGE_SUFFIXES:
        try:
            with open(path, "rb") as file:
                known = image_format(file.read(16)) is not None
        except OSError as error:
            raise InputError(f"{path} cannot be read: {_why(error)}.") from None
        if not known:
            raise InputError(
                f"{path} is of an unknown type; wanted {SOURCES}: convert it or unpack it first."
            )
    return Listing(FileReader((str(path),)), (_printable(path.name),), location=str(path))


@dataclass(frozen=True)
class FileReader:
    """Image files by path; None stands for a row that names no file."""

    paths: tuple[str | None, ...]

    def read(self, rows: Sequence[int]) -> list[Raw | ImageError]:
        return [_attempt(self._read, row) for row in rows]

    def _read(self, row: int) -> bytes:
        path = self.paths[row]
        if path is None:
            raise ImageError("no path given")
        return read_file(path)


def _open_folder(folder: Path) -> Listing:
    """A folder of Parquet files, of tar shards, or (anything else) of images."""
    files, problems = _walk(folder)
    suffixes = Counter(Path(path).suffix.lower() for _, path in files)
    if not any(suffixes[suffix] for suffix in IMAGE_SUFFIXES):
        packed = [suffix for suffix in (".parquet", ".tar") if suffixes[suffix]]
        if len(packed) == 2:
            raise InputError(f"{folder} mixes .parquet and .tar files; pass one of the files.")
        if packed:
            paths = [Path(path) for _, path in files if path.lower().endswith(packed[0])]
            opener = _open_parquet if packed == [".parquet"] else _open_tar
            listing = opener(paths, str(folder))
            return _with_problems(listing, problems)
    labels = tuple(id_.partition("/")[0] if "/" in id_ else None for id_, _ in files)
    return Listing(
        FileReader(tuple(path for _, path in files)),
        _unique((id_ for id_, _ in files), folder),
        labels if any(label is not None for label in labels) else None,
        location=str(folder),
        problems=tuple(problems),
    )


def _with_problems(listing: Listing, problems: Sequence[Skip]) -> Listing:
    return Listing(
        listing.reader,
        listing.ids,
        listing.labels,
        listing.metadata,
        listing.location,
        (*problems, *listing.problems),
    )


def _walk(root: Path) -> tuple[list[tuple[str, str]], list[Skip]]:
    """All visible files below `root` as (id, path), sorted by id, and what could not be listed.

    Linked folders are followed, but no folder is listed twice: that ends loops.
    """
    files: list[tuple[str, str]] = []
    problems: list[Skip] = []
    seen: set[tuple[int, int]] = set()
    # Real folders come before links, so that a link never steals the name of what it points to.
    real, linked = deque([(str(root), "")]), deque[tuple[str, str]]()
    while real or linked:
        path, prefix = (real or linked).popleft()
        try:
            status = Path(path).stat()
            if (status.st_dev, status.st_ino) in seen:
                problems.append(Skip(_printable(prefix), "link to a folder listed already"))
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            reason = f"folder cannot be read: {_why(error)}"
            problems.append(Skip(_printable(prefix) or ".", reason))
            continue
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith("."):
                continue
            kind = _kind(entry)
            if kind == "folder":
                (linked if entry.is_symlink() else real).append((entry.path, name + "/"))
            elif kind == "file":
                files.append((_printable(name), entry.path))
            else:
                problems.append(Skip(_printable(name), "not a regular file"))
    return sorted(files), sorted(problems, key=lambda skip: skip.id)


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_dir():
            return "folder"
        # A broken link is declared like a file; reading it says what is wrong.
        return "file" if entry.is_file() or not Path(entry.path).exists() else "other"
    except OSError:
        return "file"


def _printable(name: str) -> str:
    """File names that are not UTF-8 hold surrogates, which no result file could store."""
    return os.fsencode(name).decode("utf-8", "backslashreplace") if not name.isascii() else name


def _unique(ids: Iterable[str], where: object) -> tuple[str, ...]:
    ids = tuple(ids)
    if len(set(ids)) != len(ids):
        name, times = Counter(ids).most_common(1)[0]
        raise InputError(
            f"{where} has the id {name!r} {times} times; wanted unique ids: rename or drop them."
        )
    return ids


def label_text(value: Any, names: Sequence[str] | None = None) -> str | None:
    """A label as text: None if missing, the class name if `names` are known, else str(value)."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if value is None or value == "" or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if names and isinstance(value, int):
        # Hugging Face writes -1 where the label is withheld.
        return names[value] if 0 <= value < len(names) else None if value == -1 else str(value)
    return str(value)


# --- manifests -----------------------------------------------------------------------------------


def _open_csv(path: Path) -> Listing:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            table = csv.reader(file, strict=True)
            header = next(table, [])
            records = [(table.line_num, record) for record in table if record]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read as CSV: {_why(error)}; wanted UTF-8 text with a header line."
        ) from None
    if len(set(header)) != len(header):
        raise InputError(f"{path} names a column twice: {header}; rename one.")
    for line, record in records:
        if len(record) != len(header):
            raise InputError(
                f"{path} line {line} has {len(record)} fields; wanted {len(header)} as in the "
                "header: quote fields that hold commas."
            )
    columns = {
        name: [record[number] for _, record in records] for number, name in enumerate(header)
    }
    return _open_manifest(path, columns)


def _open_manifest(path: Path, columns: dict[str, list[Any]]) -> Listing:
    """Rows that name image files; absolute paths are taken as they are."""
    if "path" not in columns:
        raise InputError(
            f"{path} has the columns {', '.join(columns) or '(none)'}; wanted one named 'path' "
            "with image files relative to the manifest."
        )
    paths = [None if value is None else str(value) for value in columns["path"]]
    ids = [
        str(given) if given not in (None, "") else name or f"row {row}"
        for row, (given, name) in enumerate(
            zip(columns.get("id", paths), paths, strict=True), start=1
        )
    ]
    labels = columns.get("label")
    return Listing(
        FileReader(tuple(str(path.parent / name) if name else None for name in paths)),
        _unique(ids, path),
        None if labels is None else tuple(label_text(value) for value in labels),
        {k: tuple(v) for k, v in columns.items() if k not in ("path", "id", "label")},
        str(path),
    )


# --- Parquet -------------------------------------------------------------------------------------


def _open_parquet(paths: Sequence[Path], location: str) -> Listing:
    """Parquet files in the Hugging Face image layout, or one manifest with a `path` column."""
    import pyarrow.parquet as pq

    image: str | None = None
    groups: list[tuple[str, int, int]] = []
    parts: list[dict[str, list[Any]]] = []
    sizes: list[int] = []
    for path in paths:
        with _parquet_errors(path), pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            column = _image_column(schema)
            if column is None and len(paths) == 1 and "path" in schema.names:
                return _open_manifest(path, file.read().to_pydict())
            if column is None or column != (image or column):
                raise InputError(
                    f"{path} has the columns {', '.join(schema.names) or '(none)'}; wanted "
                    f"{image or 'image'!r} of struct<bytes, path> (Hugging Face layout) or, in a "
                    "manifest, 'path'."
                )
            image = column
            counts = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
            groups += [(str(path), g, count) for g, count in enumerate(counts)]
            parts.append(_scalar_columns(file, image))
            sizes.append(rows)
    merged = _merge(parts, sizes)
    names = merged.pop("\0path", None)
    if names is None or None in names or len(set(names)) < len(names):
        names = [str(row) for row in range(sum(sizes))]
    labels = merged.pop("\0label", None)
    return Listing(
        ParquetReader(tuple(groups), str(image)),
        tuple(names),
        None if labels is None else tuple(labels),
        {name: tuple(values) for name, values in merged.items()},
        location,
    )


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{path} cannot be read as Parquet: {_why(error)}; wanted a complete Parquet file: "
            "download it again."
        ) from None


def _image_column(schema: Any) -> str | None:
    """The column of encoded images: `image`, `img`, else the first struct with `bytes`."""
    import pyarrow.types as types

    def holds_images(name: str) -> bool:
        kind = schema.field(name).type
        if types.is_struct(kind):
            return bool(kind.get_field_index("bytes") >= 0)
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    structs = [name for name in schema.names if types.is_struct(schema.field(name).type)]
    order = [name for name in ("image", "img") if name in schema.names] + structs
    return next((name for name in order if holds_images(name)), None)


def _scalar_columns(file: Any, image: str) -> dict[str, list[Any]]:
    """Everything but the image bytes: image paths as `\\0path`, labels as `\\0label`, metadata."""
    import pyarrow.types as types

    schema = file.schema_arrow
    kind = schema.field(image).type
    scalars = [
        name
        for name in schema.names
        if not types.is_nested(schema.field(name).type)
        and not types.is_binary(schema.field(name).type)
        and not types.is_large_binary(schema.field(name).type)
    ]
    has_path = types.is_struct(kind) and kind.get_field_index("path") >= 0
    wanted = scalars + ([f"{image}.path"] if has_path else [])
    table = file.read(columns=wanted, use_threads=False)
    columns = {name: table.column(name).to_pylist() for name in scalars}
    if has_path:
        # A struct column read without its bytes: null structs count as null paths.
        cells = table.column(image).to_pylist()
        columns["\0path"] = [cell["path"] if cell else None for cell in cells]
    if "label" in columns:
        names = _class_names(schema)
        columns["\0label"] = [label_text(value, names) for value in columns.pop("label")]
    return columns


def _class_names(schema: Any) -> list[str] | None:
    """Names of the ClassLabel feature `label` in the Hugging Face schema metadata."""
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        feature = described["info"]["features"]["label"]
        names = feature["names"] if feature.get("_type") == "ClassLabel" else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _merge(parts: Sequence[dict[str, list[Any]]], sizes: Sequence[int]) -> dict[str, list[Any]]:
    """Columns of several files one after the other; a file without a column gives None."""
    names = dict.fromkeys(itertools.chain.from_iterable(parts))
    return {
        name: [
            value
            for part, size in zip(parts, sizes, strict=True)
            for value in part.get(name, [None] * size)
        ]
        for name in names
    }


class _Locked:
    """State behind a lock that pickling leaves behind."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


class ParquetReader(_Locked):
    """Encoded images in Parquet, read one row group at a time into a small cache."""

    def __init__(self, groups: tuple[tuple[str, int, int], ...], column: str) -> None:
        super().__init__()
        self._groups = groups  # (file, row group in it, rows)
        self._column = column
        self._starts = [0, *itertools.accumulate(size for _, _, size in groups)]
        self._cache: OrderedDict[int, tuple[Any, Any]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_cache": OrderedDict()}

    def read(self, rows: Sequence[int]) -> list[Raw | ImageError]:
        found: dict[int, Raw | ImageError] = {}
        # Ascending rows load every row group once, whatever order is asked for.
        for row in sorted(set(rows)):
            found[row] = _attempt(self._read, row)
        return [found[row] for row in rows]

    def _read(self, row: int) -> bytes:
        number = bisect.bisect_right(self._starts, row) - 1
        with self._lock:
            data, paths = self._group(number)
        at = row - self._starts[number]
        content = data[at].as_py()
        if content:
            return bytes(content)
        path = paths[at].as_py() if paths is not None else None
        if content is not None or path is None:
            raise ImageError("empty file" if content is not None else "no image in this row")
        folder = Path(self._groups[number][0]).parent
        # A data set from elsewhere must not name files outside itself.
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise ImageError("path leads out of the data set's folder")
        return read_file(folder / path)

    def _group(self, number: int) -> tuple[Any, Any]:
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        import pyarrow.compute as pc
        import pyarrow.parquet as pq
        import pyarrow.types as types

        path, group, _ = self._groups[number]
        try:
            with pq.ParquetFile(path) as file:
                table = file.read_row_group(group, columns=[self._column], use_threads=False)
        except (OSError, ValueError, NotImplementedError) as error:
            raise ImageError(f"Parquet row group cannot be read: {_why(error)}") from None
        column = table.column(self._column)
        loaded: tuple[Any, Any] = (column, None)
        if types.is_struct(column.type):
            has_path = column.type.get_field_index("path") >= 0
            paths = pc.struct_field(column, "path") if has_path else None
            loaded = (pc.struct_field(column, "bytes"), paths)
        self._cache[number] = loaded
        while len(self._cache) > 1 and sum(d.nbytes for d, _ in self._cache.values()) > CACHE_BYTES:
            self._cache.popitem(last=False)
        return loaded


# --- NumPy ---------------------------------------------------------------------------------------

_WANTED_ARRAY = "uint8 of shape (N,H,W), (N,H,W,1), (N,H,W,3) or (N,H,W,4)"


def _check_array(array: NDArray[Any], where: str) -> NDArray[np.uint8]:
    given = f"{where} is {array.dtype} of shape {array.shape}; wanted {_WANTED_ARRAY}"
    if array.dtype != np.uint8:
        raise InputError(f"{given}: scale to 0..255 and convert with .astype('uint8').")
    if array.ndim == 3 and array.shape[-1] in (1, 3, 4):
        raise InputError(f"{given}: if it is one image, pass array[None].")
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] not in (1, 3, 4)):
        raise InputError(f"{given}: reshape or transpose it.")
    if len(array) and 0 in array.shape:
        raise InputError(f"{given}: the images have no pixels.")
    return array


@contextmanager
def _numpy_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # zipfile, zlib, the header parser and mmap raise their own kinds
        raise InputError(
            f"{path} cannot be read as {path.suffix}: {_why(error)}; wanted {_WANTED_ARRAY}, "
            "saved without pickled objects."
        ) from None


def _open_npy(path: Path) -> Listing:
    array = _map_npy(path)
    return _array_listing(ArrayReader(array, str(path)), len(array), location=str(path))


def _map_npy(path: Path) -> NDArray[np.uint8]:
    with _numpy_errors(path):
        array = np.lib.format.open_memmap(path, mode="r")
    return _check_array(array, str(path))


def _open_npz(path: Path) -> Listing:
    # The file is opened here: np.load leaves it open when the archive is damaged.
    with (
        _numpy_errors(path),
        open(path, "rb") as file,
        np.load(file, allow_pickle=False) as archive,
    ):
        arrays = {name: archive[name] for name in archive.files}
    named = next((name for name in ("images", "x", "arr_0") if name in arrays), None)
    if named is None:
        likely = [k for k, v in arrays.items() if v.ndim in (3, 4) and v.dtype == np.uint8]
        if len(likely) != 1:
            shapes = ", ".join(f"{k} {v.dtype}{v.shape}" for k, v in arrays.items()) or "nothing"
            raise InputError(
                f"{path} holds {shapes}; wanted {_WANTED_ARRAY} named 'images': rename the array."
            )
        named = likely[0]
    images = _check_array(arrays[named], f"{path} array {named!r}")
    key = next((name for name in ("labels", "y", "label") if name in arrays), None)
    labels = None
    if key is not None:
        values = arrays[key]
        if values.shape != (len(images),):
            raise InputError(
                f"{path} array {key!r} has the shape {values.shape}; wanted ({len(images)},), "
                "one label an image."
            )
        labels = tuple(label_text(value) for value in values.tolist())
    return _array_listing(ArrayReader(images), len(images), labels, str(path))


def _array_listing(
    reader: Reader,
    n: int,
    labels: tuple[str | None, ...] | Callable[[], tuple[str | None, ...] | None] | None = None,
    location: str | None = None,
) -> Listing:
    return Listing(reader, tuple(map(str, range(n))), labels, location=location)


class ArrayReader:
    """Rows of one uint8 array; with the path of a `.npy` file, it is pickled as that path."""

    def __init__(self, array: NDArray[np.uint8] | None, path: str | None = None) -> None:
        self._array = _map_npy(Path(path)) if array is None and path is not None else array
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (ArrayReader, (None if self._path else self._array, self._path))

    def read(self, rows: Sequence[int]) -> list[Raw | ImageError]:
        array = cast("NDArray[np.uint8]", self._array)
        return [np.array(array[row]) for row in rows]


# --- WebDataset ----------------------------------------------------------------------------------


class Member(NamedTuple):
    """Where a file lies inside an uncompressed tar archive."""

    shard: str
    offset: int
    size: int


def _expand(pattern: str) -> list[str]:
    """Brace patterns as the WebDataset readers know them: `{000..010}` and `{a,b}`."""
    parts: list[list[str]] = []
    for text in re.split(r"(\{[^{}]*\})", pattern):
        span = re.fullmatch(r"\{(\d+)\.\.(\d+)\}", text)
        if span:
            first, last = int(span[1]), int(span[2])
            if last < first or last - first >= _MAX_SHARDS:
                raise InputError(
                    f"{pattern!r} spans {text}; wanted an ascending range of at most "
                    f"{_MAX_SHARDS} shards."
                )
            parts.append([str(i).zfill(len(span[1])) for i in range(first, last + 1)])
        elif text.startswith("{") and text.endswith("}"):
            parts.append(text[1:-1].split(","))
        else:
            parts.append([text])
    return ["".join(choice) for choice in itertools.product(*parts)]


def _open_tar(shards: Sequence[Path], location: str) -> Listing:
    missing = [shard for shard in shards if not shard.is_file()]
    if missing:
        raise InputError(
            f"{location} names {len(shards)} shards but {missing[0]} does not exist; "
            "check the range or download the shard."
        )
    common = Path(os.path.commonpath([shard.absolute().parent for shard in shards]))
    several = len(shards) > 1
    ids: list[str] = []
    members: list[Member] = []
    labels: list[str | None] = []
    problems: list[Skip] = []
    for shard in shards:
        name = shard.absolute().relative_to(common).as_posix()
        prefix = f"{name}/" if several else ""
        files, found = _list_tar(shard)
        problems += [Skip(prefix + id_ if id_ else name, reason) for id_, reason in found]
        sidecars, unreadable = _sidecar_labels(files)
        problems += [Skip(prefix + id_, reason) for id_, reason in unreadable]
        for file, member in files.items():
            if Path(file).suffix.lower() in IMAGE_SUFFIXES:
                ids.append(prefix + _printable(file))
                members.append(member)
                labels.append(sidecars.get(_key(file)))
    return Listing(
        TarReader(tuple(members)),
        _unique(ids, location),
        tuple(labels) if any(label is not None for label in labels) else None,
        location=location,
        problems=tuple(problems),
    )


def _key(name: str) -> str:
    """What the files of one WebDataset sample share: the path up to the base name's first dot."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _list_tar(path: Path) -> tuple[dict[str, Member], list[tuple[str, str]]]:
    """The regular files of an archive by name, and what is wrong with it as (name, reason).

    The name "" stands for the archive itself.
    """
    files: dict[str, Member] = {}
    problems: list[tuple[str, str]] = []
    try:
        with tarfile.open(path, "r:") as archive:
            while (info := archive.next()) is not None:
                cast("Any", archive).members.clear()  # else it keeps every header of a large shard
                name = info.name.removeprefix("./")
                if info.isdir() or name.rpartition("/")[2].startswith("."):
                    continue
                if not info.isreg() or info.issparse():
                    problems.append((_printable(name), "link or special file in a tar archive"))
                elif name in files:
                    problems.append((_printable(name), "second file of this name in the archive"))
                else:
                    files[name] = Member(str(path), info.offset_data, info.size)
            end = archive.offset
        with open(path, "rb") as file:
            file.seek(end)
            if file.read(512) != bytes(512):
                # tarfile takes an unreadable header, or none at all, for the end of the archive.
                problems.append(("", f"tar archive is damaged or cut off at byte {end}"))
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        problems.append(("", f"tar archive is damaged or cut off: {_why(error)}"))
    return files, problems


def _sidecar_labels(
    files: Mapping[str, Member],
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Labels by sample key, from `.cls` or else `.json` with `label` or `cls`."""
    labels: dict[str, str] = {}
    problems: list[tuple[str, str]] = []
    # Descending by suffix: .json first, so that .cls has the last word.
    for name in sorted(files, key=lambda file: file.rpartition(".")[2], reverse=True):
        suffix = name.rpartition(".")[2]
        if suffix not in ("cls", "json"):
            continue
        try:
            if files[name].size > _MAX_SIDECAR_BYTES:
                raise ImageError("larger than 1 MiB")
            text = read_member(files[name]).decode("utf-8").strip()
            value: Any = text
            if suffix == "json":
                record = json.loads(text)
                value = record.get("label", record.get("cls")) if isinstance(record, dict) else None
            label = label_text(value)
        except ValueError as error:
            problems.append((_printable(name), f"label cannot be read: {_why(error)}"))
            continue
        if label is not None:
            labels[_key(name)] = label
    return labels, problems


def read_member(member: Member) -> bytes:
    """The content of a tar member; `ImageError` if the archive is missing or too short."""
    if member.size > MAX_FILE_BYTES:
        raise ImageError(f"file of {member.size} bytes, above the limit of 1 GiB")
    try:
        with open(member.shard, "rb") as file:
            file.seek(member.offset)
            content = file.read(member.size)
    except OSError as error:
        raise ImageError(f"archive cannot be read: {_why(error)}") from None
    if len(content) < member.size:
        raise ImageError("truncated tar archive")
    return content


@dataclass(frozen=True)
class TarReader:
    """Members of tar shards by offset."""

    members: tuple[Member, ...]

    def read(self, rows: Sequence[int]) -> list[Raw | ImageError]:
        return [_attempt(lambda row: read_member(self.members[row]), row) for row in rows]


# --- Python objects ------------------------------------------------------------------------------


def _open_object(source: Any) -> Listing:
    if isinstance(source, np.ndarray):
        array = _check_array(source, "the array given")
        return _array_listing(ArrayReader(array), len(array))
    if isinstance(source, list | tuple):
        if source and isinstance(source[0], str | os.PathLike):
            raise InputError(
                f"a {type(source).__name__} of paths was given; wanted {SOURCES}: write the paths "
                "to a CSV manifest with a 'path' column."
            )
        if source and not _looks_like_image(source[0]):
            raise InputError(
                f"a {type(source).__name__} of {type(source[0]).__name__} was given; wanted PIL "
                "images or arrays."
            )
        return _array_listing(ObjectReader(tuple(source)), len(source))
    if isinstance(source, Mapping):
        keys = ", ".join(repr(key) for key in itertools.islice(source, 3))
        raise InputError(
            f"a {type(source).__name__} with the keys {keys} was given; wanted one data set: pass "
            "one of its values, such as dataset['train']."
        )
    if not (hasattr(source, "__getitem__") and hasattr(source, "__len__")):
        raise InputError(
            f"a {type(source).__name__} was given; wanted {SOURCES} (map style: with a length)."
        )
    if isinstance(getattr(source, "features", None), Mapping) and hasattr(source, "column_names"):
        return _open_hugging_face(source)
    reader = ObjectReader(source)
    return _array_listing(reader, len(source), reader.labels)


def _looks_like_image(item: Any) -> bool:
    return isinstance(item, Picture | np.ndarray | bytes) or hasattr(item, "detach")


def _open_hugging_face(dataset: Any) -> Listing:
    """A `datasets.Dataset`, known by its shape: `features`, `column_names`, rows as dicts."""
    features = dataset.features
    images = [name for name in features if type(features[name]).__name__ == "Image"]
    named = [name for name in ("image", "img") if name in features]
    if not images and not named:
        raise InputError(
            f"the Hugging Face data set has the columns {', '.join(features)}; wanted one of type "
            "Image: use dataset.cast_column(name, datasets.Image())."
        )
    column = next((name for name in named if not images or name in images), (images or named)[0])
    feature = features[column]
    rows = dataset
    if column in images and hasattr(dataset, "cast_column"):
        # Encoded bytes: decoding here would do it before anybody asks, and outside our limits.
        rows = dataset.cast_column(column, type(feature)(decode=False))
    if hasattr(rows, "select_columns"):
        rows = rows.select_columns([column])
    if hasattr(rows, "with_format"):
        rows = rows.with_format(None)
    labels = None
    if "label" in features:
        names = getattr(features["label"], "names", None)
        labels = tuple(label_text(value, names) for value in dataset["label"])
    scalar = re.compile(r"(u?int|float)\d+|bool|(large_)?string")
    metadata = {
        name: tuple(v.item() if hasattr(v, "item") else v for v in dataset[name])
        for name in features
        if name not in (column, "label")
        and scalar.fullmatch(str(getattr(features[name], "dtype", "")))
    }
    ids = tuple(map(str, range(len(dataset))))
    return Listing(ObjectReader(rows, column), ids, labels, metadata)


class ObjectReader(_Locked):
    """Items of a sequence or map-style data set: images, (image, label) pairs or dicts."""

    def __init__(self, items: Any, column: str = "image") -> None:
        super().__init__()
        self._items = items
        self._column = column

    def read(self, rows: Sequence[int]) -> list[Raw | ImageError]:
        return [_attempt(self._read, row) for row in rows]

    def _read(self, row: int) -> Raw:
        image = self._split(row)[0]
        if isinstance(image, dict) and {"bytes", "path"} & image.keys():
            content, path = image.get("bytes"), image.get("path")
            if content is not None:
                return bytes(content)
            if path is None:
                raise ImageError("no image in this row")
            return read_file(path)
        if isinstance(image, bytes):
            return image
        return image if isinstance(image, Picture) else to_array(image)

    def _split(self, row: int) -> tuple[Any, Any]:
        """(image, label or None) of an item; any failure of foreign code is the item's error."""
        try:
            # Foreign data sets and lazily loaded PIL files are rarely safe to share.
            with self._lock:
                item = self._items[row]
                label = None
                if isinstance(item, Mapping):
                    item, label = item[self._column], item.get("label")
                elif isinstance(item, tuple | list):
                    item, label = item[0], item[1] if len(item) > 1 else None
                if isinstance(item, Picture):
                    item.load()
        except Exception as error:
            raise ImageError(
                f"the data set failed: {type(error).__name__}: {_why(error)}"
            ) from error
        return item, label

    def labels(self) -> tuple[str | None, ...] | None:
        """Labels of a torch data set: its `targets`, else one pass over all items."""
        names = getattr(self._items, "classes", None)
        targets = getattr(self._items, "targets", None)
        n = len(self._items)
        if targets is not None and hasattr(targets, "__len__") and len(targets) == n:
            return tuple(label_text(value, names) for value in targets)
        found: list[str | None] = []
        for row in range(n):
            try:
                found.append(label_text(self._split(row)[1], names))
            except ImageError:
                found.append(None)
        return tuple(found) if any(label is not None for label in found) else None


def to_array(item: Any) -> NDArray[np.uint8]:
    """A tensor (C,H,W) or array (H,W[,C]), uint8 or float in [0, 1], as uint8 (H,W[,C])."""
    is_tensor = hasattr(item, "detach")
    array: NDArray[Any] = np.asarray(item.detach().cpu().numpy() if is_tensor else item)
    given = f"{array.dtype} of shape {array.shape}"
    if array.ndim == 3:
        first, last = array.shape[0] in (1, 3, 4), array.shape[2] in (1, 3, 4)
        if first and (is_tensor or not last):
            array = array.transpose(1, 2, 0)
        elif not last:
            raise ImageError(f"{given}; wanted 1, 3 or 4 channels")
    if array.ndim not in (2, 3) or array.size == 0:
        raise ImageError(f"{given}; wanted an image (H,W), (H,W,C) or a tensor (C,H,W)")
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise ImageError(
                f"float values from {low:.3g} to {high:.3g}; wanted 0 to 1: remove Normalize"
            )
        return np.rint(array * np.float64(255)).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ImageError(f"{given}; wanted uint8 0..255 or float 0..1")
    return np.ascontiguousarray(array, np.uint8)
