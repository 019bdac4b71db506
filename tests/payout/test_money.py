"""Sums in minor units: nothing is lost, nothing is rounded twice."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmvaluator import InputError
from gmvaluator.payout.money import Currency, largest_remainder

EUR = Currency.named("EUR")
weight_lists = st.lists(st.floats(0, 1e300), min_size=1, max_size=30).filter(
    lambda weights: sum(weights) > 0
)


def test_currencies_have_the_decimals_of_the_standard() -> None:
    assert [Currency.named(code).digits for code in ("eur", "JPY", "KWD", "CLF")] == [2, 0, 3, 4]
    assert Currency.named("BTC", 8) == Currency("BTC", 8)
    assert Currency.named("JPY", 0).units("1200", "budget") == 1200
    assert Currency.named("KWD").amount(1234567) == Decimal("1234.567")
    assert EUR.amount(-5) == Decimal("-0.05")
    assert EUR.text(123456789) == "1,234,567.89 EUR"


@pytest.mark.parametrize(
    ("code", "digits", "message"),
    [
        ("EURO", None, "currency 'EURO' is unknown; pass an ISO 4217 code"),
        ("JPY", 2, "JPY has 0 decimals, not 2"),
        ("BTC", 99, "digits=99 is too large; pass digits ≤ 18"),
        (" ", 2, "no currency was given"),
    ],
)
def test_unusable_currencies(code: str, digits: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Currency.named(code, digits)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("-1", "budget -1 was given; pass an amount above 0"),
        ("0", "budget 0 was given"),
        ("NaN", "budget NaN was given"),
        ("Infinity", "budget Infinity was given"),
        ("10,000", "budget '10,000' is no number"),
        ("99.505", "budget 99.505 has more decimals than EUR, which has 2"),
        ("1e99", "beyond any budget"),
        ("1E-99999999", "more decimals than any currency"),
    ],
)
def test_unusable_budgets(budget: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        EUR.units(budget, "budget")


def test_a_hand_made_division() -> None:
    assert largest_remainder([1, 1, 1], 100) == [34, 33, 33]  # equal remainders: the first
    assert largest_remainder([0.2, 0.3, 0.5], 10) == [2, 3, 5]
    assert largest_remainder([5e-324, 1e300], 7) == [0, 7]
    assert largest_remainder([0.0, 3.0], 1) == [0, 1]


@pytest.mark.parametrize("weights", [[0.0, 0.0], [], [1.0, -1.0], [np.nan], [np.inf]])
def test_nothing_to_divide_by(weights: list[float]) -> None:
    with pytest.raises(InputError):
        largest_remainder(weights, 100)


@settings(max_examples=60, deadline=None)
@given(weight_lists, st.integers(0, 10**12))
def test_division_is_exact_monotone_and_within_a_unit(weights: list[float], units: int) -> None:
    found = largest_remainder(weights, units)
    assert sum(found) == units
    total = sum(map(Fraction, weights))
    for weight, share in zip(weights, found, strict=True):
        assert abs(share - units * Fraction(weight) / total) < 1
    by_weight = sorted(zip(weights, found, strict=True))
    assert all(a[1] <= b[1] for a, b in pairwise(by_weight) if a[0] < b[0])
