"""Projected gradients of a generator at images: what TRAK regresses on."""

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
    """Features φ(x) of images, a batch at a time; all draws of an image pass at once.

    Args:
        network: what is differentiated, on the device where it works.
        projections: K; None leaves gradients as long as they are.
        seed: of the projection and the noise, which is the same for all images: gradients of two
            images then differ by the images alone.
        memory: bytes for features; those that need more are kept in a scratch file.
        name: of the generator, in messages.
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
        length = sum(each.numel() for each in network.parameters() if each.requires_grad)
        self._projection = (
            None if projections is None else SparseProjection(length, projections, seed)
        )
        self.size = length if projections is None else projections
        fitting = min(_MOST_BYTES, memory) // (4 * length)
        self._batch = max(1, min(fitting, _MOST_ROWS // network.draws))

    def __call__(self, images: Pixels, advance: Advance) -> Features:
        """(N, K) features.

        Args:
            images: N of them.
            advance: told of each batch.

        Raises:
            RunError: a gradient is not finite.
        """
        found = allocate((len(images), self.size), self._memory)
        for start in range(0, len(images), self._batch):
            rows = slice(start, min(start + self._batch, len(images)))
            gradients = sample_gradients(self._network, self._batch_of(images.part(rows)))
            flat = gradients.cpu().numpy()
            found[rows] = flat if self._projection is None else self._projection(flat)
            if not np.isfinite(found[rows]).all():
                raise RunError(
                    f"gradients of {self._name} are not finite; its training has diverged: train "
                    "it again"
                )
            advance(rows.stop - rows.start)
        return found

    def _batch_of(self, images: Pixels) -> Batch:
        kind = next(self._network.parameters())
        labels = None if images.labels is None else torch.from_numpy(images.labels).to(kind.device)
        pixels = torch.from_numpy(np.array(images.bytes)).to(kind.device, kind.dtype) / 255
        return Batch(pixels, labels, self._noise.to(kind.device, kind.dtype))
