"""Settings of generator families: typed, validated, from a command line or a file's metadata."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from gmvaluator.errors import InputError

Config = TypeVar("Config", bound="GeneratorConfig")

# What the training images decide; the others can be set.
FROM_DATA = ("channels", "classes")


@dataclass(frozen=True)
class GeneratorConfig:
    """What all families share; saved with the weights.

    `size` is the side of the square images in pixels, `channels` 1 (grey) or 3 (RGB), `classes`
    the number of classes that can be asked for (0 = unconditional).
    """

    size: int = 28
    channels: int = 1
    classes: int = 0
    batch_size: int = 64

    name: ClassVar[str]
    default_steps: ClassVar[int]
    sizes: ClassVar[tuple[int, ...]] = ()  # sizes that can be trained; () = any
    always_conditional: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.at_least(1, "size", "batch_size")
        self.at_least(0, "classes")
        self.one_of("channels", 1, 3)
        if self.sizes:
            self.one_of("size", *self.sizes)
        if self.always_conditional and not self.classes:
            raise InputError(f"{self.name} has classes=0; it needs labels: at least one class.")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.channels, self.size, self.size

    def at_least(self, lowest: int, *names: str) -> None:
        """Refuse settings that are no whole numbers, or lower."""
        for name in names:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
                raise InputError(f"{name}={value!r}; {self.name} wants a whole number ≥ {lowest}.")

    def between(self, low: float, high: float, *names: str, open_low: bool = False) -> None:
        """Refuse settings out of [low, high], or (low, high] if `open_low`."""
        for name in names:
            value = getattr(self, name)
            # Written so that NaN fails the test.
            fine = isinstance(value, int | float) and low <= value <= high
            if not fine or (open_low and value == low):
                more = f"> {low:g}" if open_low else f"≥ {low:g}"
                most = "" if high == float("inf") else f" and ≤ {high:g}"
                raise InputError(f"{name}={value!r}; {self.name} wants a number {more}{most}.")

    def positive(self, *names: str) -> None:
        """Refuse settings that are not > 0 and finite."""
        self.between(0.0, 1e30, *names, open_low=True)

    def some_widths(self, *names: str) -> None:
        """Refuse settings that are no list of at least one width ≥ 1."""
        for name in names:
            value = getattr(self, name)
            if not value or any(not isinstance(width, int) or width < 1 for width in value):
                raise InputError(f"{name}={value}; {self.name} wants at least one width ≥ 1.")

    def one_of(self, name: str, *allowed: object) -> None:
        """Refuse a setting that is none of these."""
        value = getattr(self, name)
        if value not in allowed:
            wanted = ", ".join(map(str, allowed))
            raise InputError(f"{name}={value!r}; {self.name} wants one of: {wanted}.")


def parse_settings(config: type[GeneratorConfig], given: Mapping[str, object]) -> dict[str, Any]:
    """Settings by name, texts read as the type wanted: "1e-3", "true", "512,256".

    Raises `InputError` for names the family does not have and values of another type; the limits
    of a value are checked when the config is made.
    """
    kinds = typing.get_type_hints(config)
    allowed = [field.name for field in fields(config) if field.name not in FROM_DATA]
    for name in given:
        if name not in allowed:
            raise InputError(
                f"{config.name} has no setting {name!r}; it has: {', '.join(sorted(allowed))}."
            )
    return {name: _typed(name, value, kinds[name]) for name, value in given.items()}


def config_from_json(config: type[Config], stored: Mapping[str, Any]) -> Config:
    """The config whose `dataclasses.asdict` went through JSON; raises as `parse_settings`."""
    kinds = typing.get_type_hints(config)
    known = {field.name for field in fields(config)}
    unknown = sorted(set(stored) - known)
    if unknown:
        raise InputError(f"{config.name} has no setting {', '.join(unknown)}.")
    return config(**{name: _typed(name, value, kinds[name]) for name, value in stored.items()})


def _typed(name: str, value: object, kind: Any) -> Any:
    try:
        if typing.get_origin(kind) is tuple:
            parts = value.split(",") if isinstance(value, str) else value
            return tuple(_number(part, int) for part in typing.cast("typing.Iterable[Any]", parts))
        if kind in (int, float):
            return _number(value, kind)
        if typing.get_origin(kind) in (typing.Literal, types.UnionType) or kind is str:
            return str(value)
    except (TypeError, ValueError):
        pass
    wanted = getattr(kind, "__name__", str(kind)).replace("int", "whole number")
    wanted = "whole numbers such as 512,256" if typing.get_origin(kind) is tuple else wanted
    raise InputError(f"{name}={value!r} cannot be read; wanted: {wanted}.")


def _number(value: Any, kind: type[int] | type[float]) -> int | float:
    if isinstance(value, bool) or (kind is int and isinstance(value, float)):
        raise ValueError
    return kind(value)
