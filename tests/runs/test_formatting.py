"""Numbers as people read them."""

from __future__ import annotations

import pytest

from gmvaluator.runs.formatting import format_number


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
    ],
)
def test_numbers_are_short(number: float, text: str) -> None:
    assert format_number(number) == text
