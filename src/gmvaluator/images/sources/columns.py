"""Which column of a table holds the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
