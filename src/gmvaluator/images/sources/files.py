"""Image files: single ones, folders of them, and manifests that name them by path."""

from __future__ import annotations

import csv
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmvaluator.errors import ImageError, InputError
from gmvaluator.images.ids import existing_path
from gmvaluator.images.sources.base import (
    HEAD,
    IMAGE_SUFFIXES,
    UNREAD_SUFFIXES,
    LeftOut,
    Listing,
    Raw,
    Skip,
    attempt,
    image_format,
    label_text,
    printable,
    quoted,
    read_file,
    unique,
    unread_format,
    why,
)
from gmvaluator.images.sources.columns import misspelled, no_data, only_case, refuse_misspelled
from gmvaluator.places import FOLDERS


@dataclass(frozen=True)
class FileReader:
    """Image files by path; None stands for a row that names no file."""

    paths: tuple[str | None, ...]

    def read(self, rows: Sequence[int]) -> list[Raw | ImageError]:
        return [attempt(self._read, row) for row in rows]

    def _read(self, row: int) -> bytes:
        path = self.paths[row]
        if path is None:
            raise ImageError("no path given")
        return read_file(existing_path(path))


def single_image(path: Path) -> Listing:
    """The set of one file."""
    return Listing(FileReader((str(path),)), (printable(path.name),), location=str(path))


@dataclass(frozen=True)
class Walk:
    """What lies below a folder.

    Attributes:
        files: (id, path) of all visible files, sorted by id.
        problems: what could not be listed.
        results: ids of folders that hold results of this package, which are not looked into.
    """

    files: tuple[tuple[str, str], ...]
    problems: tuple[Skip, ...]
    results: tuple[str, ...]


def image_folder(folder: Path, walked: Walk) -> Listing:
    """The images of a folder; the first-level sub-folder is the label.

    A file counts as an image if its suffix or its first bytes say so.
    """
    files = [(id_, path) for id_, path in walked.files if _is_image(path)]
    labels = tuple(label_text(id_.partition("/")[0]) if "/" in id_ else None for id_, _ in files)
    return Listing(
        FileReader(tuple(path for _, path in files)),
        unique((id_ for id_, _ in files), folder),
        labels if any(label is not None for label in labels) else None,
        location=str(folder),
        problems=walked.problems,
        left_out=LeftOut(len(walked.files) - len(files), walked.results),
    )


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether the suffix or the first bytes of a file say that it is an image.

    Raises:
        OSError: the suffix does not say so, and the file cannot be read.
    """
    if Path(path).suffix.lower() in IMAGE_SUFFIXES | UNREAD_SUFFIXES:
        return True
    with open(path, "rb") as file:
        head = file.read(HEAD)
    return image_format(head) is not None or unread_format(head) is not None


def _is_image(path: str) -> bool:
    try:
        return is_image(path)
    except OSError:  # nothing says that it is an image
        return False


def walk(root: Path) -> Walk:
    """All visible files below `root`, without folders of results.

    Linked folders are followed, but no folder is listed twice: that ends loops.
    """
    files: list[tuple[str, str]] = []
    problems: list[Skip] = []
    results: list[str] = []
    seen: set[tuple[int, int]] = set()
    # Real folders come before links, so that a link never steals the name of what it points to.
    real, linked = deque([(str(root), "")]), deque[tuple[str, str]]()
    while real or linked:
        path, prefix = (real or linked).popleft()
        try:
            status = Path(path).stat()
            if (status.st_dev, status.st_ino) in seen:
                problems.append(Skip(printable(prefix), "link to a folder listed already"))
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            reason = f"folder cannot be read: {why(error)}"
            problems.append(Skip(printable(prefix) or ".", reason))
            continue
        names = {entry.name for entry in entries}
        # the folder that was asked for is listed whatever it holds
        if prefix and any(names.issuperset(kind.files) for kind in FOLDERS):
            results.append(printable(prefix.removesuffix("/")))
            continue
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith("."):
                continue
            kind = _kind(entry)
            if kind == "folder":
                (linked if entry.is_symlink() else real).append((entry.path, name + "/"))
            elif kind == "file":
                files.append((printable(name), entry.path))
            else:
                problems.append(Skip(printable(name), "not a regular file"))
    by_id = sorted(problems, key=lambda skip: skip.id)
    return Walk(tuple(sorted(files)), tuple(by_id), tuple(sorted(results)))


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_dir():
            return "folder"
        # A broken link is declared like a file; reading it says what is wrong.
        return "file" if entry.is_file() or not Path(entry.path).exists() else "other"
    except OSError:
        return "file"


def open_csv(path: Path) -> Listing:
    """A manifest as UTF-8 text with a header line."""
    columns, _ = csv_columns(path)
    return open_manifest(path, columns)


def csv_columns(path: Path) -> tuple[dict[str, list[Any]], list[int]]:
    """Text by column of a CSV file in UTF-8 with a header line, and the line each record ends on.

    Fields are parted by commas; by semicolons or tabs where the header has these and no comma.

    Raises:
        InputError: unreadable, a column named twice, or a line of another number of fields.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            separator = _separator(file.readline())
            file.seek(0)
            table = csv.reader(file, strict=True, delimiter=separator)
            header = next(table, [])
            if len(set(header)) != len(header):
                raise InputError(f"{path} names a column twice: {header}; rename one.")
            # column by column as they come: a million kept records take seconds to collect
            columns: list[list[Any]] = [[] for _ in header]
            lines = []
            for record in table:
                if not record:
                    continue
                if len(record) != len(header):
                    raise InputError(
                        f"{path} line {table.line_num} has {len(record)} fields; wanted "
                        f"{len(header)} as in the header: quote fields that hold {separator!r}."
                    )
                lines.append(table.line_num)
                for column, entry in zip(columns, record, strict=True):
                    column.append(entry)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read as CSV: {why(error)}; wanted UTF-8 text with a header line."
        ) from None
    return dict(zip(header, columns, strict=True)), lines


def _separator(header: str) -> str:
    return next((sign for sign in ",;\t" if sign in header), ",")


def open_manifest(path: Path, columns: dict[str, list[Any]]) -> Listing:
    """Rows that name image files; absolute paths are taken as they are."""
    wrong = misspelled(columns, ("path", "id", "label"))
    metadata_of = only_case(wrong)
    refuse_misspelled(path, {n: c for n, c in wrong.items() if n == "path" or n not in metadata_of})
    if "path" not in columns:
        raise InputError(
            f"{path} has the columns {quoted(columns)}; wanted one named 'path' with image files "
            "relative to the manifest."
        )
    paths = [None if value is None else str(value) for value in columns["path"]]
    ids = [
        str(id_) if id_ not in (None, "") else name or f"row {row}"
        for row, (id_, name) in enumerate(
            zip(columns.get("id", paths), paths, strict=True), start=1
        )
    ]
    labels = columns.get("label")
    others = {"path", "id", "label", *no_data(list(columns))}
    return Listing(
        FileReader(tuple(str(path.parent / name) if name else None for name in paths)),
        unique(ids, path),
        None if labels is None else tuple(label_text(value) for value in labels),
        {name: tuple(values) for name, values in columns.items() if name not in others},
        str(path),
        notes=tuple(
            f"column {column!r} is kept as metadata; name it {name!r} if it holds the {name}s"
            for name, column in metadata_of.items()
        ),
    )
