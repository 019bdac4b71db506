"""Sums of money in whole minor units (cents), and dividing one so that nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from gmvaluator.errors import InputError

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
# of amounts: beyond them the exact fraction of a few typed letters fills the memory
LARGEST_EXPONENT = SMALLEST_EXPONENT = 60


@dataclass(frozen=True)
class Currency:
    """A currency and the decimals of its minor unit: EUR has 2, JPY 0, KWD 3."""

    code: str
    digits: int

    @staticmethod
    def named(code: str, digits: int | None = None) -> Currency:
        """By ISO 4217, or of one's own with `digits`.

        Raises:
            InputError: unknown without `digits`, or known with other ones.
        """
        name = code.strip().upper()
        known = CURRENCY_DIGITS.get(name)
        if not name:
            raise InputError("no currency was given; pass an ISO 4217 code such as EUR")
        chosen = known if digits is None else digits
        if chosen is None:
            raise InputError(
                f"currency {code!r} is unknown; pass an ISO 4217 code (EUR, USD, JPY, KWD …), or "
                "say how many decimals it has (--digits, digits=…)"
            )
        if known not in (None, chosen):
            raise InputError(f"{name} has {known} decimals, not {digits}; leave digits out")
        if not 0 <= chosen <= MOST_DIGITS:
            raise InputError(f"digits={digits} was given; pass 0 to {MOST_DIGITS}")
        return Currency(name, chosen)

    def units(self, given: str | int | Decimal, what: str, *, zero: bool = False) -> int:
        """An amount in whole minor units.

        Args:
            given: the amount, in the currency; text, or a number that is exact.
            what: it is, for the message.
            zero: whether 0 may be given.

        Raises:
            InputError: no number, negative, zero, or finer than the minor unit.
        """
        wanted = "an amount of 0 or more" if zero else "an amount above 0"
        try:
            amount = Decimal(given)
        except (InvalidOperation, TypeError, ValueError):
            raise InputError(
                f"{what} {given!r} is no number; pass {wanted}, such as 10000 or 99.50"
            ) from None
        if not amount.is_finite() or amount < 0 or (amount == 0 and not zero):
            raise InputError(f"{what} {given} was given; pass {wanted}")
        if amount.adjusted() > LARGEST_EXPONENT:
            raise InputError(f"{what} {given} is beyond any budget; pass a smaller amount")
        if int(amount.as_tuple().exponent) < -SMALLEST_EXPONENT:
            raise InputError(
                f"{what} {given} has more decimals than any currency; round it to {self.digits}"
            )
        numerator, denominator = amount.as_integer_ratio()
        scale: int = 10**self.digits
        units, rest = divmod(numerator * scale, denominator)
        if rest:
            raise InputError(
                f"{what} {given} has more decimals than {self.code}, which has {self.digits}; "
                "round it"
            )
        return units

    def amount(self, units: int) -> Decimal:
        """Minor units as an amount with all its decimals."""
        sign, figures = (1 if units < 0 else 0), tuple(int(digit) for digit in str(abs(units)))
        return Decimal((sign, figures, -self.digits))

    def text(self, units: int, *, code: bool = True) -> str:
        """As people read it: `1,234.50 EUR`, or without the code."""
        return f"{self.amount(units):,f}" + (f" {self.code}" if code else "")


def largest_remainder(weights: Sequence[float], units: int) -> list[int]:
    """Divide whole units in proportion to weights: every share rounded, the sum exact.

    Each has its quota rounded down; what is left goes, a unit each, to the largest remainders
    (Hamilton's method), equal ones in the order given. Computed in whole numbers, so that no
    rounding of floats decides; a greater weight never has fewer units.

    Args:
        weights: ≥ 0, not all 0.
        units: to divide.

    Raises:
        InputError: a weight that is negative, NaN or infinite, or all are 0.
    """
    if not all(0 <= weight < float("inf") for weight in weights):
        raise InputError("a weight is negative or not finite; pass finite weights of 0 or more")
    ratios = [float(weight).as_integer_ratio() for weight in weights]
    scale = max((denominator for _, denominator in ratios), default=1)
    # denominators of floats are powers of two: each divides the largest
    whole = [numerator * (scale // denominator) for numerator, denominator in ratios]
    total = sum(whole)
    if total == 0:
        raise InputError("all weights are 0; there is nothing to divide by")
    divided = [divmod(units * weight, total) for weight in whole]
    found = [quotient for quotient, _ in divided]
    by_remainder = sorted(range(len(found)), key=lambda place: -divided[place][1])
    for place in by_remainder[: units - sum(found)]:
        found[place] += 1
    return found
