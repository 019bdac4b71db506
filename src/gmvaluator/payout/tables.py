"""The CSV files of a payout."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

# a spreadsheet takes these characters for the start of a formula, also in full width
_FORMULA = re.compile("^'*[=+\\-@\t\r\n＝＋－＠]")


def spreadsheet_safe(name: str) -> str:
    """An owner's name or an image's id for a CSV file, never a formula.

    A name that begins with = + - @ (or their full-width forms), a tab or a line break gets an
    apostrophe in front, which spreadsheets do not calculate. So does a name with apostrophes
    before such a character: removing one apostrophe always gives the name back. `payout.json` has
    the names unchanged.
    """
    return f"'{name}" if _FORMULA.match(name) else name


def write_csv(
    file: Path,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    delimiter: str = ",",
    for_excel: bool = False,
) -> None:
    """Write a table as UTF-8; None is an empty cell.

    Args:
        file: to write.
        columns: headings.
        rows: cells.
        delimiter: between cells.
        for_excel: begin with a byte order mark, without which Excel takes the file for Latin 1.
            A lone surrogate (from a file name that is not UTF-8) is then escaped.
    """
    encoding, errors = ("utf-8-sig", "backslashreplace") if for_excel else ("utf-8", "strict")
    with file.open("w", encoding=encoding, errors=errors, newline="") as handle:
        writer = csv.writer(handle, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
