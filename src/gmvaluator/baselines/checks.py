"""Checks that all baselines make."""

from __future__ import annotations

from typing import TypeVar

from gmvaluator.errors import InputError

Read = TypeVar("Read")


def check_at_least(lowest: int, name: str, number: object) -> None:
    """Raises `InputError` unless `number` is a whole number ≥ `lowest`."""
    if isinstance(number, bool) or not isinstance(number, int) or number < lowest:
        raise InputError(f"{name}={number!r} was given; pass a whole number {name} ≥ {lowest}")


def check_enough(k: int, n: int, what: str) -> None:
    """Raises `InputError` if k exceeds the n there are."""
    if k > n:
        raise InputError(f"k={k} exceeds the {n} {what}; pass k ≤ {n}")


def fitted(train: Read | None) -> Read:
    """The fitted training set. InputError if `fit` was not called."""
    if train is None:
        raise InputError("the valuer is not fitted; call fit(train) first")
    return train
