"""Numbers and small tables for people: from values to text and HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

NAME_WIDTH = 60
"""Letters of a name in a table: longer names would push the numbers out of sight."""


def shortened(name: str) -> str:
    """A name for a table: one line without control characters, `NAME_WIDTH` letters at most."""
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    half = NAME_WIDTH // 2
    return name if len(name) <= NAME_WIDTH else f"{name[:half]}…{name[1 - half :]}"


def format_number(number: float) -> str:
    """A number with four significant digits, and no exponent between 1e-4 and 1e9.

    Whole numbers keep all digits; commas separate thousands.
    """
    if not math.isfinite(number):
        return str(number)
    if number == 0 or (float(number).is_integer() and abs(number) < 1e9):
        return f"{number:,.0f}"
    if not 1e-4 <= abs(number) < 1e9:
        return f"{number:.2e}"
    digits = max(0, 3 - math.floor(math.log10(abs(number))))
    return f"{number:,.{digits}f}"


def html_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    """A small HTML table. Strings are escaped and left-aligned, numbers are formatted."""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{names}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _cell(content: str | float) -> str:
    if isinstance(content, str):
        # bdi: an id in a right-to-left script must not reorder its neighbours
        return f'<td style="text-align:left"><bdi>{escape(content)}</bdi></td>'
    return f"<td>{format_number(content)}</td>"
