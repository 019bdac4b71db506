"""Moved and resized arrays are what torch makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from gmvaluator.images.warping import affine_places, inside, resized, sampler

MATRICES = np.array(
    [
        [[1, 0, 0], [0, 1, 0]],
        [[-1, 0, 0.25], [0, 1, -0.5]],
        [[1.2, 0.1, 0.313], [-0.1, 1.2, 0.017]],
        [[3, 0, 2], [0, 3, -2]],
    ],
    dtype=np.float64,
)


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("side", [1, 2, 7, 32])
def test_places_and_values_are_those_of_torch(side: int) -> None:
    image = noise(side, side)
    places = affine_places(MATRICES, side)
    grid = functional.affine_grid(
        torch.from_numpy(MATRICES), [len(MATRICES), 1, side, side], align_corners=False
    )
    np.testing.assert_allclose(places, grid.numpy(), atol=1e-12)
    np.testing.assert_array_equal(inside(places), (grid.abs() <= 1).all(-1).numpy())
    wanted = functional.grid_sample(
        torch.from_numpy(image).double().expand(len(MATRICES), 1, side, side),
        grid,
        padding_mode="border",
        align_corners=False,
    )
    given = sampler(places, side) @ image.astype(np.float32).ravel()
    np.testing.assert_allclose(given, wanted.numpy().ravel(), atol=1e-3)


@pytest.mark.parametrize("shape", [(5, 9), (40, 33), (32, 32), (1, 70)])
def test_resizing_is_that_of_torch(shape: tuple[int, int]) -> None:
    image = noise(*shape, 3)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    wanted = functional.interpolate(planes, (16, 16), mode="bilinear", antialias=True)
    given = resized(image, 16)
    np.testing.assert_allclose(given, wanted[0].permute(1, 2, 0).numpy(), atol=1e-3)
