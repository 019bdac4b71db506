"""VAE-TracIn: influence of training images on any image, from checkpoints of a VAE's training.

Source: Kong & Chaudhuri, "Understanding instance-based interpretability of variational
auto-encoders" (NeurIPS 2021), after Pruthi et al. 2020 (arXiv 2002.08484):
I(x, z) = Σ_c w_c ⟨ĝ_c(x), ĝ_c(z)⟩ over checkpoints c, where ĝ is the gradient of the loss in all
parameters, averaged over draws of the code, and w_c = η · batch · (steps since the checkpoint
before) / (training images).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from gmvaluator.arguments import real_number
from gmvaluator.baselines.checks import fitted
from gmvaluator.baselines.influence_valuer import InfluenceValuer
from gmvaluator.baselines.partial_sums import PartialSums
from gmvaluator.baselines.reading import Pixels
from gmvaluator.baselines.vae_gradients import LOSSES, Loss, Objective
from gmvaluator.baselines.vae_influence import (
    Influence,
    Influences,
    Request,
    loaded_network,
)
from gmvaluator.baselines.vae_models import VAECheckpoint, checkpoints_of
from gmvaluator.errors import InputError
from gmvaluator.progress import Progress


class VAETracIn(InfluenceValuer):
    """Values training images by their influence on generated images; see `InfluenceValuer`.

    Args:
        checkpoints: checkpoints of one training, or a generator file with snapshots beside it.
        draws: S, number of codes per image and checkpoint. The paper takes 16.
        antithetic: draw codes in opposite pairs ε, −ε. Pairs cancel the part of the gradient that
            is odd in ε: four paired draws find as many of the strongest proponents as sixteen
            independent draws (docs/baselines.md). False: independent draws, as in the paper.
        loss: the loss that is differentiated. This package's VAEs are trained by `bce`, the
            authors' colour networks by `squared-error`. See `vae_gradients.Objective`.
        beta: factor of the KL term. Default: the network's `beta` or `config.beta`.
        image_shape: (C, H, W) of the network's input. Default: the network's `image_shape` or
            `config.image_shape`.
        n_trained: number of images that the network was trained on. Default: the number of images
            given to `fit`.
        seed: seed of the codes. An image's codes depend on its pixels, not on its row.
        memory: budget such as `2GB` for gradients, products and sums.
        work: folder that stores the sums after each checkpoint, so that an interrupted valuation
            goes on. The sums are deleted at the end.
        k, device, progress: see `InfluenceValuer`.

    Raises:
        InputError: there is no checkpoint, a number is out of range, or the network has no β or
            shape.
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
        counts = {"draws": draws, "n_trained": n_trained}
        super().__init__(k, counts, seed=seed, memory=memory, device=device, progress=progress)
        first = loaded_network(checkpoints[0])
        self._checkpoints = tuple(sorted(checkpoints, key=lambda checkpoint: checkpoint.step))
        self._objective = Objective(
            loss, real_number("beta", _setting(first, "beta", beta), "a number")
        )
        self._shape = tuple(_setting(first, "image_shape", image_shape))
        self._classes = tuple(getattr(first, "label_names", ()))
        # the authors' networks were trained on images that were resized bilinearly
        self._interpolation = getattr(first, "interpolation", "bicubic")
        self._draws = draws
        self._antithetic = antithetic
        self._n_trained = n_trained
        self._sums = PartialSums(work)

    def self_influence(self) -> NDArray[np.float64]:
        """(n_train,) Σ_c w_c ‖ĝ_c(x)‖², where both factors share their draws.

        Larger than without shared draws by the variance of ĝ. Raises as `value` does.
        """
        train = fitted(self._train).pixels
        influence = self._influences(train).self_influence(train)
        self._sums.forget()
        return influence

    def _blocks(self, train: Pixels, images: Pixels) -> Iterator[Influence]:
        yield from self._influences(train).blocks(train, images)
        self._sums.forget()

    def _influences(self, train: Pixels) -> Influences:
        request = Request(
            self._checkpoints,
            self._objective,
            self._draws,
            self._antithetic,
            self.seed,
            self._n_trained or len(train),
        )
        return Influences(request, self._memory, self._device, self._sums, self._progress)

    def _named_settings(self) -> tuple[str, dict[str, Any]]:
        return "vae-tracin", {
            "draws": self._draws,
            "antithetic": self._antithetic,
            "loss": self._objective.loss,
            "beta": self._objective.beta,
            "checkpoints": [checkpoint.step for checkpoint in self._checkpoints],
        }


def _setting(network: nn.Module, name: str, value: Any) -> Any:
    """`value`, or the setting of the network or its config if `value` is None."""
    if value is not None:
        return value
    config = getattr(network, "config", None)
    setting = getattr(network, name, getattr(config, name, None))
    if setting is None:
        raise InputError(f"{type(network).__name__} does not tell its {name}; pass {name}=…")
    return setting
