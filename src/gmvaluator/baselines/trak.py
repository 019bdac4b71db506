"""TRAK and D-TRAK: kernel regression on projected gradients of a trained generator.

Sources: Park et al. 2023 (arXiv 2303.14186), section 3; Zheng et al. 2024 (arXiv 2311.00500),
section 4. φ(x) is the gradient of a functional of the generator at image x in all parameters,
projected to K numbers. The score of training image x_i for z is φ(z)ᵀ (ΦᵀΦ + λI)⁻¹ φ(x_i). TRAK's
factor for how wrong the model is on x_i (Q) is 1, since the functional is the loss itself. Scores
of several models are averaged.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from gmvaluator.arguments import real_number
from gmvaluator.baselines.functionals import (
    FUNCTIONALS,
    Functional,
    differentiated,
)
from gmvaluator.baselines.influence_valuer import InfluenceValuer
from gmvaluator.baselines.projection import PARTS
from gmvaluator.baselines.proponents import Influence
from gmvaluator.baselines.reading import Pixels
from gmvaluator.baselines.trak_features import Features, ProjectedGradients
from gmvaluator.errors import InputError
from gmvaluator.generators import load_generator
from gmvaluator.progress import Progress

NAMES: dict[Functional, str] = {"loss": "trak", "square": "d-trak"}
_BLOCK = 1024  # features that are multiplied at once in double precision


class DampedKernel:
    """Scores φ(z)ᵀ (ΦᵀΦ + λI)⁻¹ Φᵀ by the smaller of two systems.

    (ΦᵀΦ + λI)⁻¹ Φᵀ = Φᵀ (ΦΦᵀ + λI)⁻¹, so that K × K or n × n numbers are factorised.

    Args:
        features: Φ, (n, K).
        damping: λ as a part of the mean of the min(n, K) eigenvalues that ΦᵀΦ can have.

    Raises:
        InputError: without damping, features that depend on each other, or none but zeros.
    """

    def __init__(self, features: Features, damping: float) -> None:
        self._features = features
        n, size = features.shape
        self._wide = size > n
        gram = np.zeros((min(n, size),) * 2)
        for start in range(0, max(n, size), _BLOCK):
            part = slice(start, start + _BLOCK)
            block = features[:, part] if self._wide else features[part].T
            block = block.astype(np.float64)
            gram += block @ block.T
        self.regularizer = damping * float(np.trace(gram)) / len(gram)
        gram[np.diag_indices_from(gram)] += self.regularizer
        try:
            self._factor = cho_factor(gram, lower=True, overwrite_a=True)
        except LinAlgError:
            raise InputError(
                f"{n} gradients of {size} numbers depend on each other, and damping={damping} does "
                "not help; pass a larger damping"
            ) from None

    def scores(self, generated: Features) -> NDArray[np.float64]:
        """(b, K) features → (n, b)."""
        columns = generated.astype(np.float64).T
        if self._wide:
            return np.asarray(cho_solve(self._factor, self._times(columns)))
        return self._times(cho_solve(self._factor, columns))

    def _times(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Φ times (K, b), in double precision a block of rows at a time."""
        products = np.empty((len(self._features), columns.shape[1]))
        for start in range(0, len(products), _BLOCK):
            part = slice(start, start + _BLOCK)
            products[part] = self._features[part].astype(np.float64) @ columns
        return products


class TRAK(InfluenceValuer):
    """Values training images by kernel regression on gradients of one or several generators.

    `InfluenceValuer` describes the scores.

    Args:
        models: one generator file, or several of one family and config, trained on the same images
            with different seeds.
        functional: `loss`: TRAK on the generator's training loss. `square`: D-TRAK. See
            `functionals`.
        draws: S, number of noises over which an image's gradient is averaged: codes of a VAE, or
            (time, noise) pairs of a ddpm at evenly spaced times.
        projections: K, a multiple of 4. None: no projection.
        damping: λ as a share of the mean eigenvalue of ΦᵀΦ, over the min(n, K) eigenvalues that can
            differ from zero. TRAK is published without damping, D-TRAK with the λ of a grid whose
            LDS is best.
        seed: seed of projections and noise. All images get the same noise.
        memory: budget such as `2GB` for gradients, features and scores of one model. The system of
            min(n, K)² numbers comes on top.
        k, device, progress: see `InfluenceValuer`.

    Raises:
        InputError: there is no model, the models differ, the family has no loss of single images,
            or a number is out of range.
        RunError: a file cannot be read.
    """

    def __init__(
        self,
        models: str | Path | Sequence[str | Path],
        *,
        functional: Functional = "loss",
        k: int | None = 50,
        draws: int = 32,
        projections: int | None = 2048,
        damping: float = 1.0,
        seed: int = 0,
        memory: int | str | None = None,
        device: str = "auto",
        progress: Progress | None = None,
    ) -> None:
        if functional not in FUNCTIONALS:
            raise InputError(f"functional={functional!r}; choose from {', '.join(FUNCTIONALS)}")
        counts = {"draws": draws, "projections": projections}
        super().__init__(k, counts, seed=seed, memory=memory, device=device, progress=progress)
        if projections is not None and projections % PARTS:
            raise InputError(f"projections={projections}; pass a multiple of {PARTS}")
        self._functional: Functional = functional
        self._draws = draws
        self._projections = projections
        self._damping = real_number("damping", damping, "a number ≥ 0")
        if not 0 <= self._damping < float("inf"):
            raise InputError(f"damping={damping} was given; pass a number ≥ 0")
        self._files = _listed(models)
        first = load_generator(self._files[0])
        differentiated(first, functional, draws)  # refuses other families before anything is read
        for file in self._files[1:]:
            if (other := load_generator(file)).config != first.config:
                raise InputError(
                    f"{file} is another {other.config.name} than {self._files[0]}; pass models "
                    "that differ in their seed only"
                )
        self._shape = first.config.image_shape
        self._classes = first.class_names
        self._kernels: list[DampedKernel] = []

    def _learn(self, train: Pixels) -> None:
        """Take and factorise the features; `InputError` where gradients need damping."""
        start = time.perf_counter()
        self._kernels = [
            DampedKernel(features, self._damping)
            for features in self._features(train, "gradients of train")
        ]
        self._fit_seconds = {"gradients": time.perf_counter() - start}

    def _blocks(self, train: Pixels, images: Pixels) -> Iterator[Influence]:
        n = len(train)
        width = max(1, self._memory // 4 // (3 * 8 * n))
        features = list(self._features(images, "gradients of generated"))
        for start in range(0, len(images), width):
            part = slice(start, start + width)
            scores = [
                kernel.scores(model_features[part])
                for kernel, model_features in zip(self._kernels, features, strict=True)
            ]
            yield np.mean(scores, axis=0)

    def _features(self, images: Pixels, stage: str) -> Iterator[Features]:
        """(N, K) features of each model, one model at a time in memory."""
        with self._progress.stage(stage, len(self._files) * len(images)) as advance:
            for number, file in enumerate(self._files):
                network = differentiated(load_generator(file), self._functional, self._draws)
                gradients = ProjectedGradients(
                    network.eval().to(self._device),
                    projections=self._projections,
                    seed=(self.seed, number),
                    memory=self._memory // 4,
                    name=str(file),
                )
                yield gradients(images, advance)

    def _named_settings(self) -> tuple[str, dict[str, Any]]:
        return NAMES[self._functional], {
            "models": len(self._files),
            "draws": self._draws,
            "projections": self._projections,
            "damping": self._damping,
        }


def _listed(models: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    files = (models,) if isinstance(models, str | Path) else models
    if not files:
        raise InputError("no model was given; pass a generator file")
    return tuple(Path(file).absolute() for file in files)
