"""The sampler, the interface to all kinds of models."""

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
    """A model from which images can be drawn.

    Attributes:
        name: name of the model, part of the request in a folder.
        draw: (n, seed, labels) → n images in a form that `to_images` accepts.
        takes_labels: whether the model takes a class or prompt per image.
        label_names: names of the classes, in the order of their numbers. Without labels, images
            take the classes in turn.
        pixel_range: range of float images: [0, 1] (unit) or [−1, 1] (symmetric).
        fingerprint: hash of the model's file. Empty without a file.
    """

    name: str
    draw: DrawBatch
    takes_labels: bool = False
    label_names: tuple[str, ...] = ()
    pixel_range: PixelRange = "unit"
    fingerprint: str = ""


def reason(error: Exception) -> str:
    """The last line of a library's message, without its traceback or advice."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
