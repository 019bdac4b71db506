"""Numbers and tables for people."""

from __future__ import annotations

import pytest

from gmvaluator.runs.formatting import format_number, html_table


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (3.0, "3"),
        (-2.5, "-2.500"),
        (0.000123456, "0.0001235"),
        (1.5e-7, "1.50e-07"),
        (12345.678, "12,346"),
        (123456, "123,456"),
        (2e12, "2.00e+12"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_numbers_are_short(number: float, text: str) -> None:
    assert format_number(number) == text


def test_a_table_escapes_texts_and_formats_numbers() -> None:
    table = html_table("a & b", ("<id>", "value"), [("<img src=x>", 1234.5), ("plain", 0.25)])
    assert "<caption>a &amp; b</caption>" in table
    assert "<th>&lt;id&gt;</th><th>value</th>" in table
    assert "<bdi>&lt;img src=x&gt;</bdi></td><td>1,234</td>" in table
    assert "<td>0.2500</td></tr></tbody>" in table
    assert table.count("<tr>") == 3
