"""Sums of money in whole minor units (cents), and their division without a remainder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from numbers import Integral

from gmvaluator.arguments import whole_number
from gmvaluator.errors import InputError, either

# ISO 4217: decimals of the minor unit of each currency in use
_DIGITS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP "
    "BYN BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP "
    "GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK "
    "LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK "
    "NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP "
    "STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER "
    "ZAR ZMW ZWG",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
CURRENCY_DIGITS = {code: digits for digits, codes in _DIGITS.items() for code in codes.split()}
MOST_DIGITS = 18
# powers of ten of an amount: beyond them, the exact fraction of a short text fills the memory
LARGEST_EXPONENT = SMALLEST_EXPONENT = 60


@dataclass(frozen=True)
class Currency:
    """A currency and the number of decimals of its minor unit: EUR has 2, JPY 0, KWD 3."""

    code: str
    digits: int

    @staticmethod
    def named(code: str, digits: int | None = None) -> Currency:
        """A currency of ISO 4217, or any other one with `digits`.

        Raises:
            InputError: the code is unknown and `digits` is None, or ISO 4217 says other digits.
        """
        name = code.strip().upper()
        listed = CURRENCY_DIGITS.get(name)
        if not name:
            raise InputError("no currency was given; pass an ISO 4217 code such as EUR")
        decimals = listed if digits is None else whole_number("digits", digits, 0, MOST_DIGITS)
        if decimals is None:
            raise InputError(
                f"currency {code!r} is unknown; pass an ISO 4217 code (EUR, USD, JPY, KWD …), or "
                f"say how many decimals it has ({either('digits=…', '--digits')})"
            )
        if listed not in (None, decimals):
            raise InputError(f"{name} has {listed} decimals, not {digits}; leave digits out")
        return Currency(name, decimals)

    def units(self, amount: str | int | Decimal, name: str, *, zero: bool = False) -> int:
        """An amount in whole minor units.

        Args:
            amount: in the currency, as text or as an exact number.
            name: name of the amount, for error messages.
            zero: whether the amount may be 0.

        Raises:
            InputError: the amount is no number, negative, 0, or finer than the minor unit.
        """
        wanted = "an amount of 0 or more" if zero else "an amount above 0"
        try:
            whole_amount = isinstance(amount, Integral) and not isinstance(amount, bool)
            exact = Decimal(int(amount) if whole_amount else amount)
        except (InvalidOperation, TypeError, ValueError):
            raise InputError(
                f"{name} {amount!r} is no number; pass {wanted}, such as 10000 or 99.50"
            ) from None
        if not exact.is_finite() or exact < 0 or (exact == 0 and not zero):
            raise InputError(f"{name} {amount} was given; pass {wanted}")
        if exact.adjusted() > LARGEST_EXPONENT:
            raise InputError(f"{name} {amount} is beyond any budget; pass a smaller amount")
        if int(exact.as_tuple().exponent) < -SMALLEST_EXPONENT:
            raise InputError(
                f"{name} {amount} has more decimals than any currency; round it to {self.digits}"
            )
        numerator, denominator = exact.as_integer_ratio()
        scale: int = 10**self.digits
        units, rest = divmod(numerator * scale, denominator)
        if rest:
            raise InputError(
                f"{name} {amount} has more decimals than {self.code}, which has {self.digits}; "
                "round it"
            )
        return units

    def amount(self, units: int) -> Decimal:
        """Minor units as an amount with all decimals of the currency."""
        sign, figures = (1 if units < 0 else 0), tuple(int(digit) for digit in str(abs(units)))
        return Decimal((sign, figures, -self.digits))

    def text(self, units: int, *, code: bool = True) -> str:
        """Minor units as people read them: `1,234.50 EUR`, or without the code."""
        return f"{self.amount(units):,f}" + (f" {self.code}" if code else "")


def largest_remainder(weights: Sequence[float], units: int) -> list[int]:
    """Divide whole units in proportion to weights: shares are rounded, their sum is exact.

    Each weight gets its quota rounded down. The units that are left go one each to the largest
    remainders (Hamilton's method); equal remainders get them in the order of the weights. Whole
    numbers are computed with, so that no rounding of floats decides, and a greater weight never
    gets fewer units.

    Args:
        weights: ≥ 0, not all 0.
        units: number of units to divide.

    Raises:
        InputError: a weight is negative, NaN or infinite, or all weights are 0.
    """
    if not all(0 <= weight < float("inf") for weight in weights):
        raise InputError("a weight is negative or not finite; pass finite weights of 0 or more")
    ratios = [float(weight).as_integer_ratio() for weight in weights]
    scale = max((denominator for _, denominator in ratios), default=1)
    # denominators of floats are powers of two, so that each one divides the largest
    whole = [numerator * (scale // denominator) for numerator, denominator in ratios]
    total = sum(whole)
    if total == 0:
        raise InputError("all weights are 0; there is nothing to divide by")
    divided = [divmod(units * weight, total) for weight in whole]
    shares = [quotient for quotient, _ in divided]
    by_remainder = sorted(range(len(shares)), key=lambda place: -divided[place][1])
    for place in by_remainder[: units - sum(shares)]:
        shares[place] += 1
    return shares
