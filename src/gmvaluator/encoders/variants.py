"""Checks of the variant and the size that an encoder's name asks for."""

from __future__ import annotations

from collections.abc import Sequence

from gmvaluator.errors import InputError


def input_size(encoder: str, size: int | None, default: int, minimum: int) -> int:
    """The asked or default side in pixels; InputError below what the network can take."""
    if size is None:
        return default
    if size < minimum:
        raise InputError(
            f"encoder {encoder!r} cannot take images of {size} px; pass a size of at least "
            f"{minimum}, or leave @{size} out for its default {default}"
        )
    return size


def only_size(encoder: str, size: int | None, native: int) -> int:
    """`native`, for networks with a fixed input; InputError if another side is asked for."""
    if size not in (None, native):
        raise InputError(
            f"encoder {encoder!r} takes images of {native} px only, not {size}; leave @{size} out"
        )
    return native


def variant_of(encoder: str, variant: str | None, choices: Sequence[str]) -> str:
    """`variant`, or the first of `choices` for None; InputError if it is none of them."""
    if variant is None:
        return choices[0]
    if variant not in choices:
        raise InputError(
            f"encoder {encoder!r} has no variant {variant!r}; choose one of {', '.join(choices)}"
        )
    return variant


def no_variant(encoder: str, variant: str | None) -> None:
    """InputError if a variant is given to an encoder that has none."""
    if variant is not None:
        raise InputError(f"encoder {encoder!r} has no variants; write {encoder!r}, not :{variant}")
