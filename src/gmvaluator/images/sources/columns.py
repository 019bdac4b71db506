"""Columns of tables: which one holds the images, and which ones are misspelled or no data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from gmvaluator.errors import InputError
from gmvaluator.images.sources.base import quoted

USUAL_COLUMNS = ("image", "img")


def choose_column(
    candidates: Sequence[str],
    wanted: str | None,
    where: str,
    choosing: Callable[[str, str], str],
) -> tuple[str | None, tuple[str, ...]]:
    """The column of the images, and the others that hold images; None without candidates.

    That is the wanted column, else `image` or `img`, else the only one.

    Args:
        candidates: columns that hold images.
        wanted: the column that was chosen; None: nobody chose.
        where: the table, for messages.
        choosing: from a column and `where` to the words that choose it.

    Raises:
        InputError: several columns hold images, or the wanted one holds none.
    """
    if wanted is not None and wanted not in candidates:
        raise InputError(
            f"{where} has no column {wanted!r} of images; it has {quoted(candidates)}."
        )
    column = wanted or next((name for name in USUAL_COLUMNS if name in candidates), None)
    if column is None and len(candidates) > 1:
        raise InputError(
            f"{where} has several columns of images, {quoted(candidates)}; choose one, as in "
            f"{choosing(candidates[-1], where)}."
        )
    column = column or next(iter(candidates), None)
    return column, tuple(name for name in candidates if name != column)


def about_columns(column: str, others: Sequence[str], wanted: str | None) -> tuple[str, ...]:
    """Says which of several columns was taken, where nobody chose it."""
    if wanted is not None or not others:
        return ()
    return (f"the images are those of column {column!r}, not of {quoted(others)}",)


def misspelled(columns: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Columns that differ from a known one in spaces, case or an invisible mark, by its name.

    Known names that are there as they should be are left out.
    """
    names = list(columns)
    near = {_plain(name): name for name in reversed(names)}
    return {name: near[name] for name in known if name not in names and name in near}


def refuse_misspelled(where: object, wrong: Mapping[str, str]) -> None:
    """`InputError` that names the columns of `misspelled`, if there are any."""
    if wrong:
        pairs = ", ".join(f"{column!r} to {name!r}" for name, column in wrong.items())
        raise InputError(f"{where} has a misspelled column; rename {pairs}.")


def only_case(wrong: Mapping[str, str]) -> dict[str, str]:
    """Those of `misspelled` that differ in case alone, and so may be meant."""
    return {name: column for name, column in wrong.items() if column.lower() == name}


def no_data(columns: Sequence[str]) -> set[str]:
    """Columns that pandas writes for the numbers of its rows."""
    unnamed = {name for name in columns[:1] if name in ("", "Unnamed: 0")}
    return unnamed | {name for name in columns if re.fullmatch(r"__index_level_\d+__", name)}


def _plain(name: str) -> str:
    return name.replace("\ufeff", "").strip().lower()
