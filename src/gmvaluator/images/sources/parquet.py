"""Parquet files: images in the Hugging Face layout, or a manifest."""

from __future__ import annotations

import bisect
import itertools
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gmvaluator.errors import ImageError, InputError
from gmvaluator.images.ids import existing_path
from gmvaluator.images.sources.address import Choice, join_address
from gmvaluator.images.sources.base import (
    Listing,
    Raw,
    attempt,
    label_text,
    quoted,
    read_file,
    why,
)
from gmvaluator.images.sources.columns import USUAL_COLUMNS, about_columns, choose_column, no_data
from gmvaluator.images.sources.files import open_manifest
from gmvaluator.threads import Lock

# Row groups of a Parquet set that stay in memory; the last one read always does.
CACHE_BYTES = 256 * 2**20


def open_parquet(paths: Sequence[Path], location: str, image: str | None = None) -> Listing:
    """Parquet files in the Hugging Face image layout, or one manifest with a `path` column.

    `image` is the column of the images; None where none was chosen (see `choose_column`).
    """
    import pyarrow.parquet as pq

    column: str | None = None
    others: tuple[str, ...] = ()
    groups: list[tuple[str, int, int]] = []
    parts: list[dict[str, list[Any]]] = []
    sizes: list[int] = []
    for path in paths:
        with _parquet_errors(path), pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            if column is None:
                candidates = _image_columns(schema, image)
                if not candidates and image is None and len(paths) == 1 and "path" in schema.names:
                    return open_manifest(path, file.read().to_pydict())
                column, others = choose_column(candidates, image, location, _choosing)
            if column is None or column not in _image_columns(schema, column):
                raise InputError(
                    f"{path} has the columns {quoted(schema.names)}; wanted "
                    f"{image or column or 'image'!r} of struct<bytes, path> (Hugging Face layout) "
                    "or, in a manifest, 'path'."
                )
            counts = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
            groups += [(str(path), g, count) for g, count in enumerate(counts)]
            parts.append(_scalar_columns(file, column))
            sizes.append(rows)
    merged = _merge(parts, sizes)
    names = merged.pop("\0path", None)
    if names is None or None in names or len(set(names)) < len(names):
        names = [str(row) for row in range(sum(sizes))]
    labels = merged.pop("\0label", None)
    return Listing(
        ParquetReader(tuple(groups), str(column)),
        tuple(names),
        None if labels is None else tuple(labels),
        {name: tuple(values) for name, values in merged.items()},
        location,
        notes=about_columns(str(column), others, image),
        choice=Choice(image=column if others else None),
    )


def holds_images(path: Path) -> bool:
    """Whether a Parquet file has a column of encoded images."""
    import pyarrow.parquet as pq

    try:
        with _parquet_errors(path):
            return bool(_image_columns(pq.read_schema(path), None))
    except InputError:
        return False


def _choosing(column: str, location: str) -> str:
    return repr(join_address(location, Choice(image=column)))


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{path} cannot be read as Parquet: {why(error)}; wanted a complete Parquet file: "
            "download it again."
        ) from None


def _image_columns(schema: Any, wanted: str | None) -> list[str]:
    """Columns that may hold encoded images.

    These are structs with `bytes`, and binary columns called `image` or `img`. Where there is none
    of them, the only binary column. `wanted` may be any struct with `bytes` or binary column.
    """
    import pyarrow.types as types

    def is_binary(name: str) -> bool:
        kind = schema.field(name).type
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def is_struct(name: str) -> bool:
        kind = schema.field(name).type
        return bool(types.is_struct(kind) and kind.get_field_index("bytes") >= 0)

    distinct = [name for name in schema.names if schema.names.count(name) == 1]
    binary = [name for name in distinct if is_binary(name)]
    columns = [n for n in distinct if is_struct(n) or (n in binary and n in USUAL_COLUMNS)]
    if wanted in binary:
        return [*columns, wanted]
    return columns or (binary if len(binary) == 1 and "path" not in distinct else [])


def _scalar_columns(file: Any, image: str) -> dict[str, list[Any]]:
    """Everything but the image bytes: image paths as `\\0path`, labels as `\\0label`, metadata."""
    import pyarrow.types as types

    schema = file.schema_arrow
    kind = schema.field(image).type
    index = no_data(schema.names)
    scalars = [
        name
        for name in schema.names
        if name not in index
        and not types.is_nested(schema.field(name).type)
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


class ParquetReader:
    """Encoded images in Parquet, read one row group at a time into a small cache."""

    def __init__(self, groups: tuple[tuple[str, int, int], ...], column: str) -> None:
        self._lock = Lock()
        self._groups = groups  # (file, row group in it, rows)
        self._column = column
        self._starts = [0, *itertools.accumulate(size for _, _, size in groups)]
        self._cache: OrderedDict[int, tuple[Any, Any]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cache": OrderedDict()}

    def read(self, rows: Sequence[int]) -> list[Raw | ImageError]:
        raws: dict[int, Raw | ImageError] = {}
        # Ascending rows load every row group once, whatever order is asked for.
        for row in sorted(set(rows)):
            raws[row] = attempt(self._read, row)
        return [raws[row] for row in rows]

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
        return read_file(existing_path(str(folder / path)))

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
            raise ImageError(f"Parquet row group cannot be read: {why(error)}") from None
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
