"""Checks of arguments: numbers and truth values of any library become plain ones, or an error."""

from __future__ import annotations

import sys
from numbers import Integral, Real

from gmvaluator.errors import InputError


def whole_number(name: str, number: object, least: int, most: int = sys.maxsize) -> int:
    """A whole number from `least` to `most`.

    Raises:
        InputError: naming the argument, what was given and what to pass.
    """
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise InputError(f"{name}={number!r} is no whole number; pass an int")
    plain = int(number)
    if plain < least:
        raise InputError(f"{name}={plain} is too small; pass {name} ≥ {least}")
    if plain > most:
        raise InputError(f"{name}={plain} is too large; pass {name} ≤ {most}")
    return plain


def real_number(name: str, number: object, wanted: str) -> float:
    """A number, NaN and infinity included: a check of its range comes next.

    Args:
        name: of the argument.
        number: what was given.
        wanted: what to pass, for the message.

    Raises:
        InputError: no number.
    """
    if isinstance(number, bool) or not isinstance(number, Real):
        raise InputError(f"{name}={number!r} is no number; pass {wanted}")
    return number if isinstance(number, int | float) else float(number)


def proper_share(name: str, number: object, usual: float) -> float:
    """A number above 0 and below 1, such as `usual`.

    Raises:
        InputError: naming the argument, what was given and what to pass.
    """
    wanted = f"a number between 0 and 1, such as {usual}"
    part = real_number(name, number, wanted)
    if not 0 < part < 1:
        raise InputError(f"{name}={number} was given; pass {wanted}")
    return part


def truth_value(name: str, value: object) -> bool:
    """True or False, of NumPy too.

    Raises:
        InputError: anything else, which Python would take for True.
    """
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool":
        return bool(value)
    raise InputError(f"{name}={value!r} is no truth value; pass True or False")
