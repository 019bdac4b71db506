"""Settings of generator families: typed, validated, from a command line or a file's metadata."""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, NoReturn, TypeVar

from gmvaluator.errors import InputError

Config = TypeVar("Config", bound="GeneratorConfig")

# What the training images decide; the others can be set.
FROM_DATA = ("channels", "classes")


def limited(default: float, low: float, high: float = math.inf, *, open_low: bool = False) -> Any:
    """A field whose number must lie in [low, high], or in (low, high] if `open_low`."""
    return field(default=default, metadata={"limits": (low, high, open_low)})


def positive(default: float) -> Any:
    """A field whose number must be > 0 and finite."""
    return limited(default, 0.0, 1e30, open_low=True)


@dataclass(frozen=True)
class GeneratorConfig:
    """Base class of the families' settings, which are saved with the weights.

    `size` is the side of the square images in pixels, `channels` 1 (grey) or 3 (RGB), `classes`
    the number of classes (0 = unconditional). The type of a field and `limited` define the valid
    values. Other values raise `InputError`.
    """

    size: int = limited(28, 1)
    channels: int = 1
    classes: int = limited(0, 0)
    batch_size: int = limited(64, 1)

    name: ClassVar[str]
    default_steps: ClassVar[int]
    sizes: ClassVar[tuple[int, ...]] = ()  # sizes that can be trained; () = any
    always_conditional: ClassVar[bool] = False

    def __post_init__(self) -> None:
        kinds = typing.get_type_hints(type(self))
        for setting in fields(self):
            value, kind = getattr(self, setting.name), kinds[setting.name]
            low, high, open_low = setting.metadata.get("limits", (1, math.inf, False))
            if typing.get_origin(kind) is Literal:
                self.one_of(setting.name, *typing.get_args(kind))
            elif kind is int:
                self.at_least(low, setting.name)
            elif typing.get_origin(kind) is tuple:
                if not value or any(not isinstance(width, int) or width < 1 for width in value):
                    self.refuse(setting.name, "at least one width ≥ 1")
            # written so that NaN fails the test
            elif not (
                isinstance(value, int | float)
                and low <= value <= high
                and not (open_low and value == low)
            ):
                most = "" if high == math.inf else f" and ≤ {high:g}"
                self.refuse(setting.name, f"a number {'>' if open_low else '≥'} {low:g}{most}")
        self.one_of("channels", 1, 3)
        if self.sizes:
            self.one_of("size", *self.sizes)
        if self.always_conditional and not self.classes:
            raise InputError(f"{self.name} has classes=0; it needs labels: at least one class.")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.channels, self.size, self.size

    @property
    def pixels(self) -> int:
        """Numbers in one flattened image."""
        return self.channels * self.size * self.size

    def at_least(self, lowest: float, name: str) -> None:
        """Refuse a setting that is no whole number, or lower."""
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            self.refuse(name, f"a whole number ≥ {lowest}")

    def one_of(self, name: str, *allowed: object) -> None:
        """Refuse a setting that is not in `allowed`."""
        if getattr(self, name) not in allowed:
            self.refuse(name, f"one of: {', '.join(map(str, allowed))}")

    def refuse(self, name: str, wanted: str) -> NoReturn:
        """Raise the `InputError` of a setting."""
        raise InputError(f"{name}={getattr(self, name)!r}; {self.name} wants {wanted}.")


def parse_settings(config: type[GeneratorConfig], settings: Mapping[str, object]) -> dict[str, Any]:
    """Settings by name, texts read as the type wanted: "1e-3", "true", "512,256".

    Raises `InputError` for names the family does not have and values of another type; the limits
    of a value are checked when the config is made.
    """
    kinds = typing.get_type_hints(config)
    allowed = [field.name for field in fields(config) if field.name not in FROM_DATA]
    for name in settings:
        if name not in allowed:
            raise InputError(
                f"{config.name} has no setting {name!r}; it has: {', '.join(sorted(allowed))}."
            )
    return {name: _typed(name, value, kinds[name]) for name, value in settings.items()}


def config_from_json(config: type[Config], stored: Mapping[str, Any]) -> Config:
    """The config whose `dataclasses.asdict` went through JSON; raises as `parse_settings`."""
    kinds = typing.get_type_hints(config)
    names = {field.name for field in fields(config)}
    unknown = sorted(set(stored) - names)
    if unknown:
        raise InputError(f"{config.name} has no setting {', '.join(unknown)}.")
    return config(**{name: _typed(name, value, kinds[name]) for name, value in stored.items()})


def _typed(name: str, value: object, kind: Any) -> Any:
    try:
        if typing.get_origin(kind) is tuple:
            parts = value.split(",") if isinstance(value, str) else value
            return tuple(_number(part, int) for part in typing.cast("typing.Iterable[Any]", parts))
        return str(value) if typing.get_origin(kind) is Literal else _number(value, kind)
    except (TypeError, ValueError):
        pass
    wanted = getattr(kind, "__name__", str(kind)).replace("int", "whole number")
    wanted = "whole numbers such as 512,256" if typing.get_origin(kind) is tuple else wanted
    raise InputError(f"{name}={value!r} cannot be read; wanted: {wanted}.")


def _number(value: Any, kind: type[int] | type[float]) -> int | float:
    if isinstance(value, bool) or (kind is int and isinstance(value, float)):
        raise ValueError
    return kind(value)
