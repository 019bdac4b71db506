"""VAE-TracIn: influence of training images on any image, from checkpoints of a VAE's training.

Source: Kong & Chaudhuri, "Understanding instance-based interpretability of variational
auto-encoders" (NeurIPS 2021), after Pruthi et al. 2020 (arXiv 2002.08484):
I(x, z) = Σ_c w_c ⟨ĝ_c(x), ĝ_c(z)⟩ over checkpoints c, where ĝ is the gradient of the loss in all
parameters, averaged over draws of the code, and w_c = η · batch · (steps since the checkpoint
before) / (training images).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from gmvaluator.baselines.assembling import assemble
from gmvaluator.baselines.checks import check_at_least, check_enough, fitted
from gmvaluator.baselines.partial_sums import PartialSums
from gmvaluator.baselines.proponents import strongest
from gmvaluator.baselines.reading import NetworkSet, read_for_network, skipped_of
from gmvaluator.baselines.vae_gradients import LOSSES, Loss, Objective
from gmvaluator.baselines.vae_influence import (
    Influence,
    Influences,
    Request,
    loaded_network,
)
from gmvaluator.baselines.vae_models import VAECheckpoint, checkpoints_of
from gmvaluator.encoders.backends import Runtime
from gmvaluator.errors import InputError
from gmvaluator.images import ImageSet
from gmvaluator.images.decoding import Interpolation
from gmvaluator.memory import parse_memory
from gmvaluator.progress import Progress, Silent
from gmvaluator.runs.valuation import Valuation


class VAETracIn:
    """Values training images by their influence on generated ones.

    Scores are signed and unbounded: a positive one says that training on the image lowered the
    loss of the generated one. The laws of GMValuator's scores (≥ 0, sums of q) do not hold.

    Args:
        checkpoints: of one training, by step; or a generator file with snapshots beside it.
        k: contributors (proponents) of a generated image that are kept; None keeps all, so that
            values are sums over all of them, the negative ones too.
        draws: codes drawn for each image and checkpoint (S; 16 in the paper).
        antithetic: draw codes in opposite pairs ε, −ε, which cancels the part of the gradient that
            is odd in ε: four such draws find as many of the strongest proponents as sixteen
            independent ones (docs/baselines.md). False draws as the authors did.
        loss: what gradients are taken of; this package's VAEs are trained by `bce`, the authors'
            colour networks by `squared-error`. See `vae_gradients.Objective`.
        beta: factor of the KL term (default: the network's own `beta` or `config.beta`).
        image_shape: (C, H, W) of the network's input (default: the network's own `image_shape` or
            `config.image_shape`).
        n_trained: images that the network was trained on (default: those given to `fit`).
        seed: of the codes. An image's codes depend on its pixels, not on its place.
        memory: budget such as `2GB` for gradients, products and sums.
        device: `auto` takes a GPU where there is one.
        work: folder where the sums are kept after each checkpoint: an interrupted valuation goes
            on from there. Emptied of them at the end.
        progress: hears how far it is.

    Raises:
        InputError: no checkpoint, numbers out of range, or a network that does not tell its β
            or shape.
        RunError: the first checkpoint cannot be read.
    """

    def __init__(
        self,
        checkpoints: Sequence[VAECheckpoint] | str | Path,
        *,
        k: int | None = 50,
        draws: int = 16,
        antithetic: bool = True,
        loss: Loss = "bce",
        beta: float | None = None,
        image_shape: tuple[int, int, int] | None = None,
        n_trained: int | None = None,
        seed: int = 0,
        memory: int | str | None = None,
        device: str = "auto",
        work: str | Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        if isinstance(checkpoints, str | Path):
            checkpoints = checkpoints_of(checkpoints)
        if not checkpoints:
            raise InputError("no checkpoint was given; pass at least one")
        if loss not in LOSSES:
            raise InputError(f"loss={loss!r}; choose from {', '.join(LOSSES)}")
        for name, number in (("k", k), ("draws", draws), ("n_trained", n_trained)):
            check_at_least(1, name, 1 if number is None else number)
        check_at_least(0, "seed", seed)
        self.k = k
        self.seed = seed
        first = loaded_network(checkpoints[0])
        self._checkpoints = tuple(sorted(checkpoints, key=lambda each: each.step))
        self._objective = Objective(loss, float(_told(first, "beta", beta)))
        self._shape: tuple[int, int, int] = tuple(_told(first, "image_shape", image_shape))
        self._classes: tuple[str, ...] = tuple(getattr(first, "label_names", ()))
        # the authors' networks were trained on images that were resized bilinearly
        self._interpolation: Interpolation = getattr(first, "interpolation", "bicubic")
        self._draws = draws
        self._antithetic = antithetic
        self._n_trained = n_trained
        self._memory = parse_memory(memory)
        self._device, _ = Runtime(device, "torch").resolved()
        self._sums = PartialSums(work)
        self._progress = progress or Silent()
        self._train: NetworkSet | None = None

    def fit(self, train: object) -> Self:
        """Read the training images into memory, at the network's size.

        Raises:
            InputError: no image can be read, or the network is conditional and a label is missing
                or none of its classes.
        """
        self._train = self._read(ImageSet.open(train))
        return self

    def value(self, generated: object) -> Valuation:
        """The k strongest proponents of each generated image.

        Raises:
            InputError: not fitted, or k exceeds the training images.
            RunError: a checkpoint is damaged, of another network, or not finite.
        """
        train = fitted(self._train)
        n = len(train.pixels)
        k = n if self.k is None else self.k
        check_enough(k, n, "training images")
        images = self._read(ImageSet.open(generated))
        start = time.perf_counter()
        influences = self._influences(train).blocks(train.pixels, images.pixels)
        contributions = strongest(influences, k)
        self._sums.forget()
        return assemble(
            train.images,
            images.images,
            contributions,
            settings=self._settings(),
            seed=self.seed,
            seconds={"values": time.perf_counter() - start},
            skipped=skipped_of(train, images),
        )

    def influence(self, images: object) -> Influence:
        """(n_train, n_test) influence of the training images on each of `images`.

        The orientation is that of the dattri library's metrics. Raises as `value` does.
        """
        train, read = fitted(self._train), self._read(ImageSet.open(images))
        found = list(self._influences(train).blocks(train.pixels, read.pixels))
        self._sums.forget()
        return np.concatenate(found, axis=1)

    def self_influence(self) -> NDArray[np.float64]:
        """(n_train,) Σ_c w_c ‖ĝ_c(x)‖², where both factors share their draws.

        Larger than without shared draws by the variance of ĝ. Raises as `value` does.
        """
        train = fitted(self._train)
        found = self._influences(train).self_influence(train.pixels)
        self._sums.forget()
        return found

    def _influences(self, train: NetworkSet) -> Influences:
        request = Request(
            self._checkpoints,
            self._objective,
            self._draws,
            self._antithetic,
            self.seed,
            self._n_trained or len(train.pixels),
        )
        return Influences(request, self._memory, self._device, self._sums, self._progress)

    def _settings(self) -> dict[str, Any]:
        return {
            "valuer": "vae-tracin",
            "signed": True,
            "k": self.k,
            "draws": self._draws,
            "antithetic": self._antithetic,
            "loss": self._objective.loss,
            "beta": self._objective.beta,
            "checkpoints": [each.step for each in self._checkpoints],
        }

    def _read(self, images: ImageSet) -> NetworkSet:
        return read_for_network(
            images, self._shape, self._classes, self._progress, self._interpolation
        )


def _told(network: nn.Module, name: str, given: Any) -> Any:
    """A setting: given, or told by the network or its config."""
    if given is not None:
        return given
    config = getattr(network, "config", None)
    found = getattr(network, name, getattr(config, name, None))
    if found is None:
        raise InputError(f"{type(network).__name__} does not tell its {name}; pass {name}=…")
    return found
