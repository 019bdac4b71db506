"""Owners of training images, and the scores of each owner's images."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.images.ids import NOWHERE, SEVERAL, code_points, find_ids, letters
from gmvaluator.images.sources.base import quoted
from gmvaluator.images.sources.columns import misspelled, refuse_misspelled
from gmvaluator.images.sources.files import csv_columns
from gmvaluator.scoring.scores import Contributions
from gmvaluator.shown import short_repr

UNASSIGNED = "(unassigned)"
"""Training images that nobody owns."""
UNATTRIBUTED = "(unattributed)"
"""The part of generated images that no contributor got."""
SHARE_TOLERANCE = 1e-5
"""Tolerance of the sum of an image's shares, enough for thirds with six decimals. Shares are then
scaled to sum to 1 exactly."""
OFFENDERS_SHOWN = 3


@short_repr
@dataclass(frozen=True, eq=False)
class Ownership:
    """Owners of training images: e entries (image, owner, share), ordered by image and owner.

    Attributes:
        owners: G names, sorted.
        rows: (e,) int64, training image.
        groups: (e,) int64, place in `owners`.
        shares: (e,) float64; the shares of an image sum to 1.
        n_train: number of training images, with and without owners.
        origin: source of the ownership, for the record: a file and its SHA-256, or a column.
        n_skipped: number of entries about training images that could not be read.
        gone: (n_train,) bool, withdrawn images; None if no image was withdrawn.
    """

    owners: tuple[str, ...]
    rows: NDArray[np.int64]
    groups: NDArray[np.int64]
    shares: NDArray[np.float64]
    n_train: int
    origin: dict[str, Any]
    n_skipped: int = 0
    gone: NDArray[np.bool_] | None = None

    @property
    def stays(self) -> NDArray[np.bool_]:
        """(n_train,) training images that were not withdrawn."""
        return np.ones(self.n_train, dtype=bool) if self.gone is None else ~self.gone

    @property
    def n_images(self) -> NDArray[np.int64]:
        """(G + 1,) number of training images that each owner has a share of; last, of nobody."""
        owned = np.bincount(self.groups, minlength=len(self.owners))
        unowned = self.stays
        unowned[self.rows] = False
        return np.append(owned, np.count_nonzero(unowned))

    def without(self, gone: NDArray[np.bool_]) -> Ownership:
        """The ownership without some training images. Owners stay, even without an image."""
        stays = ~gone[self.rows]
        rows, groups, shares = self.rows[stays], self.groups[stays], self.shares[stays]
        return replace(self, rows=rows, groups=groups, shares=shares, gone=gone)

    def images_of(self, owners: Iterable[str]) -> NDArray[np.bool_]:
        """(n_train,) bool, training images that one of these owners has a share of.

        Raises:
            InputError: an unknown owner.
        """
        place = {name: group for group, name in enumerate(self.owners)}
        names = [plain(name) for name in owners]
        unknown = [name for name in names if name not in place]
        if unknown:
            raise InputError(
                f"owner {_some(repr(name) for name in unknown)} is not among the "
                f"{len(self.owners)} owners ({_some(self.owners)}); check the spelling"
            )
        groups = [place[name] for name in names]
        owned = np.zeros(self.n_train, dtype=bool)
        owned[self.rows[np.isin(self.groups, groups)]] = True
        return owned


def plain(name: str) -> str:
    """An owner's name for comparing: composed Unicode (NFC), without spaces around it."""
    return letters(name).strip()


def read_owners(
    path: str | Path, train_ids: Sequence[str], *, skipped: Iterable[str] = ()
) -> Ownership:
    """Owners from a CSV file in UTF-8 or a Parquet file.

    The columns are `train_id`, `owner`, and optionally `share`. An image with several owners has
    one row for each owner, with shares that sum to 1. An image with one row needs no share. An
    image without a row belongs to nobody. See `plain` for how names are compared. An id is
    looked up as it is, else by its letters, whatever their code points.

    Args:
        path: the file.
        train_ids: ids of the run's n training images.
        skipped: ids of training images that could not be read. Rows about them do not count.

    Raises:
        InputError: rows are wrong; the message names the first ones.
    """
    file = Path(path)
    columns, lines, row_word = _columns(file)
    refuse_misspelled(file, misspelled(columns, ("train_id", "owner", "share")))
    for name in ("train_id", "owner"):
        if name not in columns:
            raise InputError(
                f"{file} has the columns {quoted(columns)}; wanted train_id and owner, and "
                "optionally share"
            )
    if not lines:
        raise InputError(f"{file} has no rows; wanted one an owned training image")
    table = _Rows(file, row_word, lines)
    written = ["" if _missing(owner) else owner for owner in columns["owner"]]
    table.refuse(
        [not isinstance(owner, str | int) or isinstance(owner, bool) for owner in written],
        "has an owner that is neither text nor a whole number; write names as text",
        written,
    )
    plain_of = {owner: plain(str(owner)) for owner in set(written)}
    names = [plain_of[owner] for owner in written]
    table.refuse([name == "" for name in names], "names no owner; write one or leave the row out")
    table.refuse(
        [name in (UNASSIGNED, UNATTRIBUTED) for name in names],
        f"has an owner called {UNASSIGNED} or {UNATTRIBUTED}, names that stand for nobody; leave "
        "the row out",
    )
    rows = _rows_of(table, columns["train_id"], train_ids, tuple(skipped))
    owners = tuple(sorted(set(names)))
    place = {name: group for group, name in enumerate(owners)}
    groups = np.array([place[name] for name in names], dtype=np.int64)
    shares = _shares(table, columns.get("share"), rows)
    _refuse_repeats(table, rows, groups)
    _refuse_sums(table, rows, shares)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    origin = {"file": str(path), "sha256": digest}
    return _ownership(owners, rows, groups, shares, len(train_ids), origin)


def owners_by(column: str, entries: Sequence[Any], n_train: int) -> Ownership:
    """Owners from a metadata column: each of its values owns the images that have the value.

    Args:
        column: name of the column.
        entries: one per training image; None, NaN and empty text mean nobody.
        n_train: number of training images.

    Raises:
        InputError: the column has another length, no entry, or a name that stands for nobody.
    """
    if len(entries) != n_train:
        raise InputError(f"column {column!r} has {len(entries)} entries for {n_train} images")
    names = ["" if _missing(entry) else plain(str(entry)) for entry in entries]
    owners = tuple(sorted(set(names) - {""}))
    if not owners:
        raise InputError(f"column {column!r} is empty for all {n_train} images; take another one")
    if {UNASSIGNED, UNATTRIBUTED} & set(owners):
        raise InputError(
            f"column {column!r} holds {UNASSIGNED} or {UNATTRIBUTED}, names that stand for "
            "nobody; leave such cells empty"
        )
    place = {name: group for group, name in enumerate(owners)}
    groups = np.array([place.get(name, -1) for name in names], dtype=np.int64)
    rows = np.flatnonzero(groups >= 0)
    origin = {"column": column}
    return _ownership(owners, rows, groups[rows], np.ones(len(rows)), n_train, origin)


@short_repr
@dataclass(frozen=True, eq=False)
class Terms:
    """Scores by owner: one term per generated image, contributor and owner.

    Attributes:
        generated: (t,) int64, generated image.
        train: (t,) int64, training image; of copies that count once, the owner's first one.
        groups: (t,) int64, place in `owners`; G if nobody owns the training image.
        scores: (t,) float64 > 0, the owner's part of the score.
        n_generated: m, including generated images without a term.
    """

    generated: NDArray[np.int64]
    train: NDArray[np.int64]
    groups: NDArray[np.int64]
    scores: NDArray[np.float64]
    n_generated: int


def deal(
    ownership: Ownership,
    contributions: Contributions,
    *,
    representatives: NDArray[np.int64] | None = None,
) -> Terms:
    """Divide every score among the owners of its training image, by their shares.

    Args:
        ownership: of the n training images.
        contributions: (m, k) scores.
        representatives: (n,) representative of each training image, if copies count once. The
            copies that were not withdrawn share its score equally. None: every copy counts.

    Raises:
        InputError: a score is negative or not finite. Some baselines give such scores.
    """
    scores = contributions.scores.ravel()
    if not bool(np.all((scores >= 0) & (scores < np.inf))):
        raise InputError(
            "the run has scores that are negative or not finite; pay by a run with scores of 0 or "
            "more, such as those of gmvaluator value"
        )
    k = contributions.rows.shape[1]
    cells = np.flatnonzero(scores)
    rows, scores = contributions.rows.ravel()[cells], scores[cells]
    held = _held(ownership, representatives)
    entries = np.bincount(held.rows, minlength=ownership.n_train)
    first = np.cumsum(entries) - entries
    owned = entries[rows] > 0
    terms = np.maximum(entries[rows], 1)
    source = np.repeat(np.arange(len(rows)), terms)
    turn = np.arange(len(source)) - np.repeat(np.cumsum(terms) - terms, terms)
    # an image that nobody owns has one term and no entry
    has_entry = owned[source]
    entry = (first[rows][source] + turn)[has_entry]
    groups = np.full(len(source), len(ownership.owners))
    parts, images = scores[source], rows[source]
    groups[has_entry] = held.groups[entry]
    parts[has_entry] *= held.shares[entry]
    images[has_entry] = held.images[entry]
    return Terms(cells[source] // k, images, groups, parts, len(contributions.rows))


@dataclass(frozen=True, eq=False)
class _Held:
    """Owners of the images that score: (e,) each, ordered by `rows`.

    `images` has the owner's first image of the cluster that `rows` stands for.
    """

    rows: NDArray[np.int64]
    groups: NDArray[np.int64]
    shares: NDArray[np.float64]
    images: NDArray[np.int64]


def _held(ownership: Ownership, representatives: NDArray[np.int64] | None) -> _Held:
    """Owners of each image that scores: of copies that count once, the owners of all copies."""
    if representatives is None:
        return _Held(ownership.rows, ownership.groups, ownership.shares, ownership.rows)
    n, stays = ownership.n_train, ownership.stays
    sizes = np.bincount(representatives[stays], minlength=n)
    owned = ~stays
    owned[ownership.rows] = True
    # a copy that nobody owns has its part as well
    free = np.flatnonzero(~owned & (np.bincount(representatives, minlength=n)[representatives] > 1))
    images = np.concatenate([ownership.rows, free])
    groups = np.concatenate([ownership.groups, np.full(len(free), len(ownership.owners))])
    shares = np.concatenate([ownership.shares, np.ones(len(free))])
    rows = representatives[images]
    order = np.lexsort((images, groups, rows))
    images, groups, rows = images[order], groups[order], rows[order]
    starts = np.flatnonzero(np.append(True, (np.diff(rows) != 0) | (np.diff(groups) != 0)))
    starts = starts[: len(rows)]
    parts = shares[order] / sizes[rows]
    total = np.add.reduceat(parts, starts) if len(rows) else parts
    return _Held(rows[starts], groups[starts], total, images[starts])


def exact_sums(groups: NDArray[np.int64], scores: NDArray[np.float64], n: int) -> list[float]:
    """(n,) sum of each group's scores, rounded once, so that no order decides a cent."""
    order = np.argsort(groups, kind="stable")
    ends = np.cumsum(np.bincount(groups, minlength=n))[:-1]
    return [math.fsum(part.tolist()) for part in np.split(scores[order], ends)]


class _Rows:
    """Numbers of a file's rows, for messages about wrong rows."""

    def __init__(self, file: Path, word: str, lines: Sequence[int]) -> None:
        self.file = file
        self._word = word
        self._lines = lines

    def name(self, place: int) -> str:
        return f"{self._word} {self._lines[place]}"

    def refuse(
        self,
        wrong: Sequence[bool] | NDArray[np.bool_],
        fault: str,
        cells: Sequence[Any] | None = None,
        show: Callable[[Any], str] = repr,
    ) -> None:
        """Refuse a file with wrong rows.

        Args:
            wrong: whether each row is wrong.
            fault: what is wrong with the rows, and what to do.
            cells: cell of each row to show.
            show: how a cell is shown.

        Raises:
            InputError: a row is wrong.
        """
        places = np.flatnonzero(wrong).tolist()
        if places:
            rows = _some(
                self.name(place) + (f" ({show(cells[place])})" if cells is not None else "")
                for place in places
            )
            raise InputError(f"{self.file}: {rows} {fault}")


def _some(names: Iterable[str]) -> str:
    """The first names of a list, and the number of further ones."""
    all_names = list(names)
    more = len(all_names) - OFFENDERS_SHOWN
    return ", ".join(all_names[:OFFENDERS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _columns(file: Path) -> tuple[dict[str, list[Any]], list[int], str]:
    if not file.is_file():
        raise InputError(f"{file} is no file; pass a CSV or Parquet file of owners")
    if file.suffix.lower() != ".parquet":
        columns, lines = csv_columns(file)
        return columns, lines, "line"
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file} cannot be read as Parquet: {error}; write it again") from None
    columns = {name: table[name].to_pylist() for name in table.column_names}
    return columns, list(range(1, len(table) + 1)), "row"


def _rows_of(
    table: _Rows, ids: Sequence[Any], train_ids: Sequence[str], skipped: Sequence[str]
) -> NDArray[np.int64]:
    """(e,) training image of each row; −1 for an image that could not be read."""
    names = [str(name) for name in ids]
    rows = find_ids(names, [*skipped, *train_ids])
    table.refuse(
        rows == SEVERAL,
        "may mean several images of the run, whose names look alike and differ in code points; "
        "write the id as values.parquet has it",
        names,
        code_points,
    )
    table.refuse(
        rows == NOWHERE,
        "names an image that is not in the run's training set; write ids as values.parquet has "
        "them, or leave the row out",
        ids,
    )
    return np.maximum(rows - len(skipped), -1)


def _shares(
    table: _Rows, column: Sequence[Any] | None, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(e,) shares; 1 for an image with one row and no share."""
    several = np.bincount(rows + 1, minlength=1)[rows + 1] > 1
    several[rows < 0] = False
    if column is None:
        table.refuse(
            several, "shares its image with another row and has no share; add a column share"
        )
        return np.ones(len(rows))
    blank = np.array([_missing(value) for value in column])
    table.refuse(
        blank & several, "shares its image with another row and has no share; write one in each"
    )
    shares = np.array([1.0 if _missing(value) else _number(value) for value in column])
    table.refuse(
        ~((shares > 0) & (shares <= 1 + SHARE_TOLERANCE)),
        "has no share above 0 and up to 1; write it as a decimal such as 0.25, or leave the row "
        "out",
        column,
    )
    return shares


def _refuse_repeats(table: _Rows, rows: NDArray[np.int64], groups: NDArray[np.int64]) -> None:
    order = np.lexsort((groups, rows))
    same = (np.diff(rows[order]) == 0) & (np.diff(groups[order]) == 0) & (rows[order][1:] >= 0)
    pairs = [
        f"{table.name(int(order[at + 1]))} repeats {table.name(int(order[at]))}"
        for at in np.flatnonzero(same)
    ]
    if pairs:
        raise InputError(f"{table.file}: {_some(pairs)}: one image and owner twice; keep one row")


def _refuse_sums(table: _Rows, rows: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    in_set = rows >= 0
    sums = np.bincount(rows[in_set], weights=shares[in_set], minlength=1)
    wrong = in_set & (np.abs(sums[rows] - 1) > SHARE_TOLERANCE * (1 + 1e-9))
    if wrong.any():
        first = {int(rows[place]): int(place) for place in np.flatnonzero(wrong)[::-1]}
        images = [
            f"the image of {table.name(place)} ({sums[row]:.6g})" for row, place in first.items()
        ]
        raise InputError(
            f"{table.file}: shares of an image must sum to 1 within {SHARE_TOLERANCE:g}, and do "
            f"not for {_some(images[::-1])}; correct them"
        )


def _ownership(
    owners: tuple[str, ...],
    rows: NDArray[np.int64],
    groups: NDArray[np.int64],
    shares: NDArray[np.float64],
    n_train: int,
    origin: dict[str, Any],
) -> Ownership:
    n_rows, in_set = len(rows), np.flatnonzero(rows >= 0)
    # one order whatever the file's: sums of shares are then the same to the last digit
    order = in_set[np.lexsort((groups[in_set], rows[in_set]))]
    rows, groups, shares = rows[order], groups[order], shares[order]
    sums = np.bincount(rows, weights=shares, minlength=n_train)
    return Ownership(
        owners=owners,
        rows=rows,
        groups=groups,
        shares=shares / sums[rows],
        n_train=n_train,
        origin=origin,
        n_skipped=n_rows - len(in_set),
    )


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _number(value: Any) -> float:
    """The value as a number; NaN if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
