"""A valuer with its name in a study's tables, and what its settings may be."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gmvaluator.errors import InputError
from gmvaluator.runs.valuation import Valuation

SAME_CLASS = "same-class"
TRIVIAL = ("random", SAME_CLASS)
SCORES = "scores"  # of a file
TRACIN = "vae-tracin"


class Valuer(Protocol):
    """Any object that values training images by generated images, with `GMValuator`'s interface."""

    def fit(self, train: Any, /) -> Any: ...

    def value(self, generated: Any, /) -> Valuation: ...


@dataclass(frozen=True)
class NamedValuer:
    """A valuer with its name in a study's tables.

    Attributes:
        name: name in tables.
        make: (k, seed) → an unfitted valuer with k contributors.
        settings: all settings of the values, as JSON. Part of the key of stored results.
        families: only for a valuer that reads the generator's weights: families that the valuer can
            read.
        by_snapshots: the valuer reads snapshots of the training, which only studies of retrained
            models keep.
        bind: only for a valuer that reads the generator's weights: generator file → the valuer of
            this generator's images, or None if the valuer cannot read the generator.
    """

    name: str
    make: Callable[[int, int], Valuer]
    settings: Mapping[str, Any] = field(default_factory=dict)
    bind: Callable[[Path], NamedValuer | None] | None = None
    families: Sequence[str] = ()
    by_snapshots: bool = False

    def __post_init__(self) -> None:
        json.dumps(dict(self.settings))

    @property
    def baseline(self) -> bool:
        """Whether the valuer is no GMValuator. A baseline has no index and no cache."""
        return "valuer" in self.settings

    @property
    def weighted(self) -> bool:
        """Whether the scores are weights of distances times quality."""
        return not self.baseline or self.settings["valuer"] in TRIVIAL

    def suited(self, generator: Path | None) -> NamedValuer | None:
        """This valuer for the images of a generator. None if it cannot value these images."""
        if self.bind is None:
            return self
        return None if generator is None else self.bind(generator)


def check_settings(name: str, settings: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """Raises `InputError` for settings outside `allowed`."""
    if unknown := set(settings) - set(allowed):
        raise InputError(
            f"valuer {name} has unknown settings {', '.join(sorted(unknown))}; choose from "
            f"{', '.join(allowed)}"
        )
