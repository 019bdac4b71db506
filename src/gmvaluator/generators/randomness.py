"""Random generators by step and by image, independent of earlier draws.

Every training step and every image has its own random generator. So an interrupted training draws
the same numbers when it goes on, and an image does not depend on the number of drawn images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Streams of one seed. They keep weights, orders, steps and samples apart.
WEIGHTS, CRITIC, ORDER, STEP, IMAGE, STATISTICS, REPLACEMENT = range(7)


def derived_seed(*numbers: int) -> int:
    """A seed below 2⁶³ (torch's generators take signed 64-bit seeds) from whole numbers ≥ 0."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def generator(*numbers: int) -> torch.Generator:
    """A CPU generator seeded with `derived_seed(*numbers)`."""
    import torch

    return torch.Generator().manual_seed(derived_seed(*numbers))


def image_noise(n: Sequence[int] | range, shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal noise (len(n), *shape) of the images of numbers `n`, one seed per image."""
    import torch

    rows = [torch.randn(shape, generator=generator(seed, IMAGE, i)) for i in n]
    return torch.stack(rows) if rows else torch.empty((0, *shape))


def batch_rows(seed: int, step: int, n: int, size: int) -> NDArray[np.int64]:
    """The `size` rows of n images that training step `step` (from 0) sees.

    Epochs are permutations, one after the other. A batch goes on into the next epoch, so that every
    batch is full and every image is seen equally often.
    """
    places = np.arange(step * size, (step + 1) * size)
    epochs = places // n
    rows = np.empty(size, np.int64)
    for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        rows[here] = _order(seed, epoch, n)[places[here] % n]
    return rows


def replaced_rows(
    rows: NDArray[np.int64], removed: NDArray[np.bool_], seed: int, step: int
) -> NDArray[np.int64]:
    """The rows of a batch, with other images in the places of removed images.

    Each place has a random order of images that follows from seed, step and place alone. The first
    image of this order that is not removed takes the place. So removing further images changes only
    the places of these images.

    Args:
        rows: (B,) rows of `batch_rows`.
        removed: (n,) bool, with at least one False.
        seed, step: seed and step of the training.
    """
    chance = np.random.default_rng([seed, REPLACEMENT, step])
    while (gone := removed[rows]).any():
        # drawn for every place, so that no place's draws depend on another's
        rows = np.where(gone, chance.integers(len(removed), size=len(rows)), rows)
    return rows


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, ORDER, epoch]).permutation(n)
