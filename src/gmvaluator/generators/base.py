"""Base classes of every family: a model that draws and is saved, and a learner."""

from __future__ import annotations

import copy
import json
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gmvaluator.errors import InputError, RunError, either
from gmvaluator.generators.config import GeneratorConfig, config_from_json
from gmvaluator.generators.files import read_metadata, read_tensors, write_tensors
from gmvaluator.generators.randomness import image_noise

CHUNK = 128  # images drawn at once


class GeneratorModel(nn.Module):
    """A network that maps noise, and a class if it has classes, to images.

    A subclass sets `config_class`, `noise_shape` and `sampling` (the settings that may change
    when drawing), and implements `draw` and `learner`.
    """

    config_class: ClassVar[type[GeneratorConfig]]
    sampling: ClassVar[tuple[str, ...]] = ()
    config: GeneratorConfig

    def __init__(
        self, config: GeneratorConfig, label_names: Sequence[str] = (), seed: int = 0
    ) -> None:
        del seed  # for the initial weights, which subclasses draw
        super().__init__()
        names = tuple(label_names) or tuple(map(str, range(config.classes)))
        if len(names) != config.classes or len(set(names)) != len(names):
            raise InputError(
                f"{len(names)} label names ({len(set(names))} distinct) for {config.classes} "
                "classes; pass a distinct name for each class."
            )
        self.config = config
        self.label_names = names

    @property
    def classes(self) -> int:
        """Number of classes. 0: unconditional."""
        return self.config.classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers."""
        return self.label_names if self.classes else ()

    @property
    def n_parameters(self) -> int:
        """Numbers that training adjusts."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    @abstractmethod
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the standard normal noise behind one image."""

    @abstractmethod
    def draw(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """(B, *noise_shape), (B,) int64 or None → images (B, C, H, W) in [0, 1]."""

    @abstractmethod
    def learner(self, steps: int, seed: int = 0) -> Learner:
        """The learner of this model for `steps` steps. `seed` is the seed of a critic's weights."""

    @torch.no_grad()
    def sample(
        self, n: int, labels: Sequence[int] | None = None, seed: int = 0
    ) -> NDArray[np.uint8]:
        """Draw `n` images: (n, H, W) uint8 grey or (n, H, W, 3) uint8 RGB.

        The noise of an image follows from the seed and its number, not from n. At most 128 images
        are computed at once. Without labels, a conditional model takes its classes in turn: 0, 1,
        …, 0, 1, …
        Raises `InputError` for unknown labels.
        """
        if n < 0 or seed < 0:
            raise InputError(f"n={n} images with seed={seed} asked for; pass n ≥ 0 and seed ≥ 0.")
        if labels is None and self.classes:
            labels = [i % self.classes for i in range(n)]
        targets = check_labels(labels, n, self.classes)
        device = next(self.parameters()).device
        images = np.empty((n, *self.config.image_shape), np.uint8)
        training = self.training
        self.eval()
        for start in range(0, n, CHUNK):
            rows = slice(start, min(start + CHUNK, n))
            noise = image_noise(range(rows.start, rows.stop), self.noise_shape, seed).to(device)
            classes = None if targets is None else targets[rows].to(device)
            shades = self.draw(noise, classes).mul(255).round().clamp(0, 255)
            images[rows] = shades.to("cpu", torch.uint8).numpy()
        self.train(training)
        return images[:, 0] if self.config.channels == 1 else images.transpose(0, 2, 3, 1)

    def with_sampling(self, **changes: object) -> Self:
        """The same weights, drawing by other settings: `guidance=3.0` for a ddpm, say.

        Raises `InputError` if the family has no such setting or refuses the value.
        """
        unknown = sorted(set(changes) - set(self.sampling))
        if unknown:
            raise InputError(
                f"{self.config.name} has no sampling setting {', '.join(unknown)}; it has: "
                f"{', '.join(self.sampling)}."
            )
        other = copy.copy(self)
        other.config = replace(self.config, **changes)  # type: ignore[arg-type]
        return other

    def save(
        self,
        path: str | Path,
        dtype: Literal["float32", "float16"] = "float32",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write weights, config and label names to one safetensors file, in one step.

        Raises `RunError` if the file cannot be written or its folder does not exist.
        """
        header = {
            "format": f"gmvaluator/{self.config.name}",
            "config": json.dumps(asdict(self.config)),
            "label_names": json.dumps(self.label_names),
        }
        write_tensors(Path(path), self.state_dict(), dtype, {**(metadata or {}), **header})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file of `save`. Raises `RunError` for any other file."""
        metadata = read_metadata(Path(path))
        wanted = f"gmvaluator/{cls.config_class.name}"
        if metadata.get("format") != wanted:
            raise RunError(
                f"{path} was not saved by {cls.__name__}.save (its format is not {wanted}); pass a "
                "file that was."
            )
        try:
            config = config_from_json(cls.config_class, json.loads(metadata["config"]))
            loaded = cls(config, json.loads(metadata.get("label_names", "[]")))
            loaded.load_state_dict(read_tensors(Path(path)))
        except (InputError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            first_line = str(error).splitlines()[0]
            raise RunError(f"Config and weights in {path} do not fit: {first_line}") from error
        return loaded.eval()


@dataclass(frozen=True)
class TrainingBatch:
    """`images` (B, C, H, W) uint8, `labels` (B,) int64 or None, the step's own randomness."""

    images: Tensor
    labels: Tensor | None
    generator: torch.Generator


class Learner:
    """Networks and optimizers of one training; `update` is one step.

    A checkpoint holds `networks` and `optimizers`, nothing else. The learning rate follows from the
    step number alone.
    """

    def __init__(
        self, networks: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]
    ) -> None:
        self.networks = networks
        self.optimizers = optimizers
        self._rates = {name: o.param_groups[0]["lr"] for name, o in optimizers.items()}
        for network in networks.values():
            network.train()

    def update(self, batch: TrainingBatch, step: int) -> dict[str, float]:
        """Take step number `step` (from 0) → its losses by name."""
        raise NotImplementedError

    def finished(self) -> GeneratorModel:
        """The model with its present weights, ready to be saved."""
        raise NotImplementedError

    def rate(self, step: int) -> float:
        """Factor on the learning rates at step `step`."""
        del step
        return 1.0

    def set_rates(self, step: int) -> float:
        """Set the learning rates of step `step`. Returns the rate of the first optimizer."""
        factor = self.rate(step)
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self._rates[name] * factor
        return float(next(iter(self._rates.values()))) * factor

    def descend(self, optimizer: str, loss: Tensor) -> None:
        """One step of an optimizer down the gradient of `loss`."""
        self.optimizers[optimizer].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[optimizer].step()

    def state(self) -> dict[str, Any]:
        """Everything `restore` needs, as tensors and plain values."""
        parts: dict[str, Any] = {**self.networks, **self.optimizers}
        return {name: part.state_dict() for name, part in parts.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a `state`."""
        parts: dict[str, Any] = {**self.networks, **self.optimizers}
        for name, part in parts.items():
            part.load_state_dict(state[name])


def half_cosine(step: int, steps: int) -> float:
    """From 1 at step 0 down to 0 at step `steps`."""
    return 0.5 * (1.0 + math.cos(math.pi * min(step, steps) / steps))


def check_labels(
    labels: Sequence[int] | NDArray[np.int64] | None, n: int, classes: int
) -> Tensor | None:
    """(n,) int64 class numbers, or None for a model without classes; else `InputError`."""
    if classes == 0:
        if labels is not None:
            raise InputError(
                "Labels were given to a model without classes; "
                f"{either('pass labels=None', 'leave --label out')}."
            )
        return None
    if labels is None or len(labels) != n:
        count = "no labels" if labels is None else f"{len(labels)} labels"
        raise InputError(f"Got {count} for {n} images; pass one class number for each image.")
    numbers = np.asarray(labels)
    if n and not (np.issubdtype(numbers.dtype, np.integer) and numbers.ndim == 1):
        raise InputError(f"Labels must be whole numbers from 0 to {classes - 1}.")
    wrong = numbers[(numbers < 0) | (numbers >= classes)]
    if wrong.size:
        raise InputError(f"Label {wrong[0]} is not one of the classes 0 to {classes - 1}.")
    return torch.from_numpy(numbers.astype(np.int64))
