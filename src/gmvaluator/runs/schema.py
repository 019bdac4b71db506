"""Checks of the types in `run.json`: a value goes in, an error that names its key comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from gmvaluator.errors import RunError
from gmvaluator.settings import NULL_CHOICES

Check = Callable[[Any, str], None]
"""Raises RunError unless a value is right; the second argument is its key, as `inputs.train`."""

ADVICE = "restore the run or make it again"
_NONE: Mapping[str, Check] = MappingProxyType({})
# a damaged value may be long
_SHOWN = 80


def of_type(kind: type | tuple[type, ...], wanted: str) -> Check:
    """A check for values of a Python type. True and False are no numbers."""

    def check(value: Any, key: str) -> None:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise damaged(key, value, wanted)

    return check


def damaged(key: str, value: Any, wanted: str) -> RunError:
    """The error for a value of the wrong type."""
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    return RunError(f"{key} in run.json is {shown}, and wanted is {wanted}; {ADVICE}")


TEXT = of_type(str, "a text")
FLAG = of_type(bool, "true or false")
WHOLE = of_type(int, "a whole number")
NUMBER = of_type((int, float), "a number")
OBJECT = of_type(dict, "an object")
LIST = of_type(list, "a list")


def _temperature(value: Any, key: str) -> None:
    # not `value <= 0`: NaN is no temperature
    named = isinstance(value, str) and (value == "auto" or value.partition("/")[0] == "spacing")
    if not named and not (_is_number(value) and value > 0):
        raise damaged(key, value, "a number above 0, 'auto', 'spacing' or 'spacing/N'")


def _level(value: Any, key: str) -> None:
    if not (_is_number(value) and 0 < value < 1):
        raise damaged(key, value, "a number between 0 and 1")


def _null(value: Any, key: str) -> None:
    # earlier versions recorded true, false and null
    if value is not None and not isinstance(value, bool) and value not in NULL_CHOICES:
        raise damaged(key, value, f"one of {', '.join(NULL_CHOICES)}")


def _null_kind(value: Any, key: str) -> None:
    if value not in ("leave-one-out", "holdout"):
        raise damaged(key, value, "'leave-one-out' or 'holdout'")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def optional(check: Check) -> Check:
    """The same check, but null is right as well."""
    return lambda value, key: None if value is None else check(value, key)


def list_of(item: Check) -> Check:
    """A list whose items all pass a check."""

    def check(value: Any, key: str) -> None:
        LIST(value, key)
        for place, entry in enumerate(value):
            item(entry, f"{key}[{place}]")

    return check


def object_of(entry: Check) -> Check:
    """An object of any keys whose values all pass a check."""

    def check(value: Any, key: str) -> None:
        OBJECT(value, key)
        for name, content in value.items():
            entry(content, f"{key}.{name}")

    return check


def record_of(required: Mapping[str, Check], optional_keys: Mapping[str, Check] = _NONE) -> Check:
    """An object with certain keys.

    Args:
        required: checks by key; the object has all of these keys.
        optional_keys: checks by key; the object may have these keys, and others without a check.
    """

    def check(value: Any, key: str) -> None:
        OBJECT(value, key)
        within = f"{key}." if key else ""
        for name in required:
            if name not in value:
                raise RunError(f"run.json has no {within}{name}; {ADVICE}")
        for name, content in value.items():
            entry = required.get(name) or optional_keys.get(name)
            if entry is not None:
                entry(content, within + name)

    return check


def _check_source(value: Any, key: str) -> None:
    if not isinstance(value, str):
        of_type(list, "a text, or a list of [prefix, location]")(value, key)
        list_of(list_of(TEXT))(value, key)
        for place, pair in enumerate(value):
            if len(pair) != 2:
                raise damaged(f"{key}[{place}]", pair, "[prefix, location]")


INPUT = record_of({}, {"source": optional(_check_source), "fingerprint": optional(TEXT)})
INPUTS = {"train": INPUT, "generated": INPUT, "holdout": INPUT}
UNATTRIBUTED = record_of(
    {
        "share": NUMBER,
        "images": WHOLE,
        "level": _level,
        "null": _null_kind,
        "n_null": WHOLE,
        "error_rate": NUMBER,
        "threshold": optional(NUMBER),
        "applied": FLAG,
    },
    {"holdout_in_training": WHOLE, "reason": TEXT},
)
SETTINGS = record_of(
    {},
    {
        "valuer": TEXT,
        "encoder": TEXT,
        "second_encoder": optional(TEXT),
        "index": TEXT,
        "index_used": TEXT,
        "rerank": object_of(NUMBER),
        "quality": TEXT,
        "k": optional(WHOLE),
        "candidates": optional(WHOLE),
        "weighting": TEXT,
        "temperature": _temperature,
        "temperature_used": _temperature,
        "dimension_used": NUMBER,
        "seed": WHOLE,
        "mirror": FLAG,
        "dedup": TEXT,
        "null": _null,
        "null_level": NUMBER,
        "mixing": TEXT,
        "null_measure": TEXT,
        "signed": FLAG,
        "whole_set": FLAG,
    },
)
RECORD = record_of(
    {"settings": SETTINGS, "n_train": WHOLE, "n_generated": WHOLE},
    {
        "versions": object_of(TEXT),
        "weights": object_of(TEXT),
        "encoders": object_of(TEXT),
        "seed": WHOLE,
        "device": TEXT,
        "images": object_of(object_of(object_of(WHOLE))),
        "seconds": object_of(NUMBER),
        "inputs": record_of({}, INPUTS),
        "unattributed": UNATTRIBUTED,
        "extensions": list_of(OBJECT),
        "earlier_seals": list_of(TEXT),
        "reweighed": list_of(record_of({"settings": OBJECT}, {"seal": TEXT})),
        "files": object_of(TEXT),
        "seal": TEXT,
    },
)
