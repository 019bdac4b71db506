"""Projected gradients of a generator at images: the features of TRAK's regression."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from gmvaluator.baselines.functionals import Differentiated
from gmvaluator.baselines.projection import SparseProjection
from gmvaluator.baselines.reading import Pixels
from gmvaluator.baselines.sample_gradients import Batch, sample_gradients
from gmvaluator.errors import RunError
from gmvaluator.generators.randomness import STATISTICS, generator
from gmvaluator.memory import allocate
from gmvaluator.progress import Advance

Features = NDArray[np.float32]

# of a batch's gradients: larger ones leave the processor's caches and take twice as long
_MOST_BYTES = 24 << 20
_MOST_ROWS = 256  # images times draws that pass through the network at once


class ProjectedGradients:
    """Features φ(x) of images, computed in batches. All draws of an image pass at once.

    Args:
        network: the function to differentiate, on its device.
        projections: K. None: no projection.
        seed: seed of the projection and the noise. The noise is the same for all images, so that
            gradients of two images differ by the images alone.
        memory: bytes for features. Larger features go to a scratch file.
        name: name of the generator in messages.
    """

    def __init__(
        self,
        network: Differentiated,
        *,
        projections: int | None,
        seed: tuple[int, ...],
        memory: int,
        name: str,
    ) -> None:
        self._network = network
        self._memory = memory
        self._noise = torch.randn((1, *network.noise_shape), generator=generator(*seed, STATISTICS))
        self._name = name
        length = sum(
            parameter.numel() for parameter in network.parameters() if parameter.requires_grad
        )
        self._projection = (
            None if projections is None else SparseProjection(length, projections, seed)
        )
        self.size = length if projections is None else projections
        fitting = min(_MOST_BYTES, memory) // (4 * length)
        self._batch = max(1, min(fitting, _MOST_ROWS // network.draws))

    def __call__(self, images: Pixels, advance: Advance) -> Features:
        """(N, K) features.

        Args:
            images: N images.
            advance: called after each batch.

        Raises:
            RunError: a gradient is not finite.
        """
        features = allocate((len(images), self.size), self._memory)
        for start in range(0, len(images), self._batch):
            rows = slice(start, min(start + self._batch, len(images)))
            gradients = sample_gradients(self._network, self._batch_of(images.part(rows)))
            flat = gradients.cpu().numpy()
            features[rows] = flat if self._projection is None else self._projection(flat)
            if not np.isfinite(features[rows]).all():
                raise RunError(
                    f"gradients of {self._name} are not finite; its training has diverged: train "
                    "it again"
                )
            advance(rows.stop - rows.start)
        return features

    def _batch_of(self, images: Pixels) -> Batch:
        kind = next(self._network.parameters())
        labels = None if images.labels is None else torch.from_numpy(images.labels).to(kind.device)
        pixels = torch.from_numpy(np.array(images.bytes)).to(kind.device, kind.dtype) / 255
        return Batch(pixels, labels, self._noise.to(kind.device, kind.dtype))
