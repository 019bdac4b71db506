"""WebDataset shards: images and their labels in uncompressed tar archives."""

from __future__ import annotations

import itertools
import json
import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from gmvaluator.errors import ImageError, InputError
from gmvaluator.images.sources.base import (
    IMAGE_SUFFIXES,
    MAX_FILE_BYTES,
    UNREAD_SUFFIXES,
    Listing,
    Raw,
    Skip,
    attempt,
    label_text,
    printable,
    unique,
    why,
)

_MAX_SIDECAR_BYTES = 2**20
_MAX_SHARDS = 100_000


class Member(NamedTuple):
    """Where a file lies inside an uncompressed tar archive."""

    shard: str
    offset: int
    size: int


def expand_braces(pattern: str) -> list[str]:
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


def open_tar(shards: Sequence[Path], location: str, image: str | None = None) -> Listing:
    """The images of one or several archives; ids start with the shard if there are several.

    `image` is the kind of the images in each sample, such as `jpg` or `seg.png`; None: all kinds.
    """
    missing = [shard for shard in shards if not shard.is_file()]
    if missing:
        raise InputError(
            f"{location} names {len(shards)} shards but {missing[0]} does not exist; "
            "check the range or download the shard."
        )
    common = Path(os.path.commonpath([shard.parent for shard in shards]))
    several = len(shards) > 1
    ids: list[str] = []
    members: list[Member] = []
    labels: list[str | None] = []
    problems: list[Skip] = []
    kinds: dict[str, None] = {}
    repeated: dict[str, None] = {}
    for shard in shards:
        name = shard.relative_to(common).as_posix()
        prefix = f"{name}/" if several else ""
        files, damaged = _list_tar(shard)
        problems += [Skip(prefix + id_ if id_ else name, reason) for id_, reason in damaged]
        sidecars, unreadable = _sidecar_labels(files)
        problems += [Skip(prefix + id_, reason) for id_, reason in unreadable]
        kind_of_sample: dict[str, str] = {}
        for file, member in files.items():
            if Path(file).suffix.lower() not in IMAGE_SUFFIXES | UNREAD_SUFFIXES:
                continue
            key = _key(file)
            kind = file[len(key) + 1 :]
            kinds[kind] = None
            if image not in (None, kind):
                continue
            if key in kind_of_sample:
                repeated |= {kind_of_sample[key]: None, kind: None}
            kind_of_sample[key] = kind
            ids.append(prefix + printable(file))
            members.append(member)
            labels.append(sidecars.get(key))
    if image is not None and not ids:
        raise InputError(
            f"the samples of {location} have no image {image!r}; they have "
            f"{', '.join(list(kinds)[:5]) or 'none'}."
        )
    return Listing(
        TarReader(tuple(members)),
        unique(ids, location),
        tuple(labels) if any(label is not None for label in labels) else None,
        location=location,
        problems=tuple(problems),
        notes=_about_samples(tuple(repeated), location),
    )


def _about_samples(kinds: Sequence[str], location: str) -> tuple[str, ...]:
    if not kinds:
        return ()
    shown = ", ".join(kinds[:3]) + (", …" if len(kinds) > 3 else "")
    return (
        f"some samples hold several images ({shown}), and all of them are taken; take one of each "
        f"by '{location}#image={kinds[0]}'",
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
                    problems.append((printable(name), "link or special file in a tar archive"))
                elif name in files:
                    problems.append((printable(name), "second file of this name in the archive"))
                else:
                    files[name] = Member(str(path), info.offset_data, info.size)
            end = archive.offset
        with open(path, "rb") as file:
            file.seek(end)
            if file.read(512) != bytes(512):
                # tarfile takes an unreadable header, or none at all, for the end of the archive.
                problems.append(("", f"tar archive is damaged or cut off at byte {end}"))
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        problems.append(("", f"tar archive is damaged or cut off: {why(error)}"))
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
            problems.append((printable(name), f"label cannot be read: {why(error)}"))
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
        raise ImageError(f"archive cannot be read: {why(error)}") from None
    if len(content) < member.size:
        raise ImageError("truncated tar archive")
    return content


@dataclass(frozen=True)
class TarReader:
    """Members of tar shards by offset."""

    members: tuple[Member, ...]

    def read(self, rows: Sequence[int]) -> list[Raw | ImageError]:
        return [attempt(lambda row: read_member(self.members[row]), row) for row in rows]
