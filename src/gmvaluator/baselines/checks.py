"""Checks that all baselines make."""

from __future__ import annotations

from typing import TypeVar

from gmvaluator.errors import InputError

Read = TypeVar("Read")


def check_at_least(lowest: int, name: str, given: object) -> None:
    """Raises `InputError` unless `given` is a whole number ≥ `lowest`."""
    if isinstance(given, bool) or not isinstance(given, int) or given < lowest:
        raise InputError(f"{name}={given!r} was given; pass a whole number {name} ≥ {lowest}")


def check_enough(k: int, n: int, what: str) -> None:
    """Raises `InputError` if k exceeds the n there are."""
    if k > n:
        raise InputError(f"k={k} exceeds the {n} {what}; pass k ≤ {n}")


def fitted(train: Read | None) -> Read:
    """What `fit` kept; raises `InputError` if it was not called."""
    if train is None:
        raise InputError("the valuer is not fitted; call fit(train) first")
    return train
