"""What a sampler is, and what all kinds of models share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Label = int | str
PixelRange = Literal["unit", "symmetric"]
# What a model may return for n images; see `to_images`.
DrawBatch = Callable[[int, int, Sequence[Label] | None], object]


@dataclass(frozen=True)
class Sampler:
    """A model that images can be drawn from.

    Attributes:
        name: how the model was named; part of the request that a folder holds.
        draw: (n, seed, labels) → n images in a form that `to_images` takes.
        takes_labels: whether the model can be asked for a class or prompt for each image.
        label_names: what the classes are called, in the order of their numbers. With no labels
            given, images go to these in turn.
        pixel_range: what the floats of its images span: [0, 1] (unit) or [−1, 1] (symmetric).
        fingerprint: changes with the model's file where it has one, else empty.
    """

    name: str
    draw: DrawBatch
    takes_labels: bool = False
    label_names: tuple[str, ...] = ()
    pixel_range: PixelRange = "unit"
    fingerprint: str = ""


def reason(error: Exception) -> str:
    """The last line of a library's message: the others are its traceback or advice."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
