"""How results look in a Python prompt: one line, however many images they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type[Any])
TEXT = 40
"""Letters of a text that are shown."""
ITEMS = 3
"""Entries of a collection that are shown; of a longer one, their number."""


def short_repr(cls: Class) -> Class:
    """Give a dataclass a `repr` of one line: sizes in the place of arrays and long collections."""

    def shown(self: Any) -> str:
        parts = [
            f"{field.name}={_shown(getattr(self, field.name))}"
            for field in fields(self)
            if field.repr
        ]
        return f"{type(self).__name__}({', '.join(parts)})"

    cls.__repr__ = shown  # type: ignore[assignment]
    return cls


def _shown(value: Any, depth: int = 0) -> str:
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str):
        return repr(value) if len(value) <= TEXT else f"{value[:TEXT]!r}…"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        size = "×".join(map(str, value.shape)) or "1"
        return f"<{size} {value.dtype}>"
    if isinstance(value, Mapping | tuple | list | set | frozenset):
        few = len(value) <= ITEMS and not depth and not isinstance(value, Mapping)
        if few and not any(is_dataclass(item) for item in value):
            return f"({', '.join(_shown(item, depth + 1) for item in value)})"
        return f"<{len(value)} {'entries' if len(value) != 1 else 'entry'}>"
    if is_dataclass(value) or len(text := repr(value)) > TEXT or "\n" in text:
        return f"<{type(value).__name__}>"
    return text
