"""Base class of valuers by gradients: reads images, then `fit`, `value` and `influence`."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from gmvaluator.baselines.assembling import assemble
from gmvaluator.baselines.checks import check_at_least, check_enough, fitted
from gmvaluator.baselines.proponents import Influence, strongest
from gmvaluator.baselines.reading import Pixels, ReadSet, read_for_network, skipped_of
from gmvaluator.encoders.backends import Runtime
from gmvaluator.images import ImageSet, ImageSource
from gmvaluator.images.decoding import Interpolation
from gmvaluator.memory import parse_memory
from gmvaluator.progress import Progress, Silent
from gmvaluator.runs.valuation import Valuation


class InfluenceValuer(ABC):
    """Values training images by their influence on generated ones.

    Scores are signed and unbounded. A positive score means that training on the image lowered the
    loss of the generated image. The laws of GMValuator's scores (≥ 0, sums of q) do not hold. A
    subclass implements `_blocks` and `_named_settings`, and sets `_shape` and `_classes`.

    Args:
        k: number of contributors (proponents) per generated image. None: all training images, so
            that values are sums over all scores, negative scores too.
        counts: further numbers by name, each None or ≥ 1.
        seed: seed of the draws, ≥ 0.
        memory: budget such as `2GB`.
        device: torch device. `auto` takes a GPU if there is one.
        progress: receives the progress.
    """

    _shape: tuple[int, int, int]
    _classes: Sequence[str]
    _interpolation: Interpolation = "bicubic"

    def __init__(
        self,
        k: int | None,
        counts: Mapping[str, int | None],
        *,
        seed: int,
        memory: int | str | None,
        device: str,
        progress: Progress | None,
    ) -> None:
        for name, number in {"k": k, **counts}.items():
            check_at_least(1, name, 1 if number is None else number)
        check_at_least(0, "seed", seed)
        self.k = k
        self.seed = seed
        self._memory = parse_memory(memory)
        self._device, _ = Runtime(device, "torch").resolved()
        self._progress = progress or Silent()
        self._train: ReadSet | None = None
        self._fit_seconds: dict[str, float] = {}

    def fit(self, train: ImageSource) -> Self:
        """Read the training images into memory at the network's size, and prepare the valuer.

        Raises:
            InputError: no image can be read, or the network is conditional and a label is missing
                or unknown to the network.
            RunError: a gradient is not finite.
        """
        read = self._read(train)
        self._learn(read.pixels)
        self._train = read
        return self

    def value(self, generated: ImageSource) -> Valuation:
        """The k training images of greatest influence on each generated image.

        Raises:
            InputError: not fitted, or k exceeds the training images.
            RunError: a network is damaged, of another kind, or not finite.
        """
        train = fitted(self._train)
        k = len(train.pixels) if self.k is None else self.k
        check_enough(k, len(train.pixels), "training images")
        images = self._read(generated)
        start = time.perf_counter()
        contributions = strongest(self._blocks(train.pixels, images.pixels), k)
        return assemble(
            train.images,
            images.images,
            contributions,
            settings=self._settings(),
            seed=self.seed,
            seconds={**self._fit_seconds, "values": time.perf_counter() - start},
            skipped=skipped_of(train, images),
        )

    def influence(self, images: ImageSource) -> Influence:
        """(n_train, n_test) influence of the training images on each of `images`.

        The orientation is that of the dattri library's metrics. Raises as `value` does.
        """
        train, read = fitted(self._train), self._read(images)
        return np.concatenate(list(self._blocks(train.pixels, read.pixels)), axis=1)

    def _learn(self, train: Pixels) -> None:
        """Compute whatever depends on the training images alone. Default: nothing."""
        del train

    @abstractmethod
    def _blocks(self, train: Pixels, images: Pixels) -> Iterator[Influence]:
        """(n, b) influences on as many images at a time as fit into memory."""

    @abstractmethod
    def _named_settings(self) -> tuple[str, dict[str, Any]]:
        """The valuer's name and settings in a run's record."""

    def _settings(self) -> dict[str, Any]:
        name, settings = self._named_settings()
        return {"valuer": name, "signed": True, "k": self.k, **settings}

    def _read(self, images: ImageSource) -> ReadSet:
        return read_for_network(
            ImageSet.open(images), self._shape, self._classes, self._progress, self._interpolation
        )
