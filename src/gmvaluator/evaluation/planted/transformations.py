"""Copies of images under graded transformations. A transformation's name includes its grade.

A transformation maps (b, S, S) grey or (b, S, S, 3) colour images, uint8, to images of the same
shape. Pixels outside the image take the colour of the nearest edge. Lengths in pixels hold for a
side of 32 px and grow with the side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from gmvaluator.evaluation.planted.noise import add_gaussian_noise
from gmvaluator.images.decoding import PIXEL_LIMIT, decode, encode_jpeg

Images = NDArray[np.uint8]

REFERENCE_SIDE = 32
GREY = 128
SQUARE = 1 / 3  # of the side
LUMINANCE = (0.299, 0.587, 0.114)  # Rec. 601
SEPIA = (1.0, 0.78, 0.5)


@dataclass(frozen=True)
class Transformation:
    """A transformation of images.

    Attributes:
        name: name with the grade.
        apply: (images, random numbers) → images of the same shape.
        colour: whether the transformation needs colour images.
    """

    name: str
    apply: Callable[[Images, np.random.Generator], Images]
    colour: bool = False


def mixed(first: Images, second: Images, share: float | NDArray[np.float64]) -> Images:
    """share · first + (1 − share) · second, per pixel. `share` is a number or broadcasts."""
    return _bytes(share * first.astype(np.float64) + (1 - share) * second)


def spliced(first: Images, second: Images) -> Images:
    """The left half of the first beside the right half of the second."""
    whole = first.copy()
    half = first.shape[2] // 2
    whole[:, :, half:] = second[:, :, half:]
    return whole


def styled(images: Images) -> Images:
    """Images in an artificial style: grey images are inverted, colour images turn to sepia."""
    if images.ndim == 3:
        return np.asarray(255 - images)
    light = images.astype(np.float64) @ np.array(LUMINANCE)
    return _bytes(light[..., None] * np.array(SEPIA))


def _bytes(pixels: NDArray[np.floating[Any]]) -> Images:
    """Rounded to uint8. Pixels must be within 0 … 255."""
    return np.asarray(np.rint(pixels), dtype=np.uint8)


def _same(images: Images, rng: np.random.Generator) -> Images:
    return images.copy()


def _flipped(images: Images, rng: np.random.Generator) -> Images:
    return np.ascontiguousarray(images[:, :, ::-1])


def _compressed(quality: int, images: Images, rng: np.random.Generator) -> Images:
    files = [encode_jpeg(image, quality) for image in images]
    return np.stack([np.asarray(decode(file, PIXEL_LIMIT)) for file in files])


def _cropped(share: float, images: Images, rng: np.random.Generator) -> Images:
    """`share` of the side is cut off at each edge. The rest is enlarged to the old size."""
    return _resampled(images, np.eye(2) * (1 - 2 * share))


def cropped_anywhere(share: float, images: Images, rng: np.random.Generator) -> Images:
    """2 · `share` of the width and of the height are cut off, at random on either side.

    The rest is enlarged to the old size.
    """
    whole, size = images.copy(), images.shape[1]
    cut = max(1, round(2 * share * size))
    for image, (top, left) in zip(
        whole, rng.integers(0, cut + 1, (len(images), 2)).tolist(), strict=True
    ):
        # whole pixels only, so that no pixel is an average before the enlargement
        inner = image[top : top + size - cut, left : left + size - cut]
        image[:] = _resized(inner, size)
    return whole


def _resized(image: Images, size: int) -> Images:
    planes = torch.from_numpy(np.ascontiguousarray(image)).reshape(*image.shape[:2], -1).double()
    large = functional.interpolate(
        planes.permute(2, 0, 1)[None], (size, size), mode="bilinear", align_corners=False
    )
    pixels = large[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
    return np.asarray(pixels.reshape(size, size, *image.shape[2:]))


def _rotated(degrees: float, images: Images, rng: np.random.Generator) -> Images:
    """Rotated anticlockwise."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    return _resampled(images, np.array([[cos, -sin], [sin, cos]]))


def _resampled(images: Images, matrix: NDArray[np.float64]) -> Images:
    """Bilinear. `matrix` (2, 2) maps places (x, y) of the result to the image; centre = 0."""
    planes = torch.from_numpy(images.reshape(*images.shape[:3], -1)).permute(0, 3, 1, 2).double()
    affine = torch.from_numpy(np.hstack([matrix, np.zeros((2, 1))])).expand(len(planes), 2, 3)
    grid = functional.affine_grid(affine, list(planes.shape), align_corners=False)
    taken = functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)
    bytes_ = taken.round().permute(0, 2, 3, 1).to(torch.uint8).numpy()
    return np.ascontiguousarray(bytes_.reshape(images.shape))


def _shifted(pixels: int, images: Images, rng: np.random.Generator) -> Images:
    """Shifted to the right."""
    by = max(1, round(pixels * images.shape[2] / REFERENCE_SIDE))
    return np.concatenate([np.repeat(images[:, :, :1], by, axis=2), images[:, :, :-by]], axis=2)


def _blurred(pixels: float, images: Images, rng: np.random.Generator) -> Images:
    from scipy.ndimage import gaussian_filter

    sigma = pixels * images.shape[2] / REFERENCE_SIDE
    sigmas = (0, sigma, sigma, 0)[: images.ndim]
    soft = gaussian_filter(images.astype(np.float64), sigmas, mode="nearest")
    return _bytes(soft)


def _noised(sigma: float, images: Images, rng: np.random.Generator) -> Images:
    return add_gaussian_noise(images, sigma, int(rng.integers(2**32)))


def _brighter(gain: float, images: Images, rng: np.random.Generator) -> Images:
    return _bytes(np.clip(images * gain, 0, 255))


def _flatter(gain: float, images: Images, rng: np.random.Generator) -> Images:
    """Less contrast: pixels move towards the middle grey."""
    return _bytes((images - 127.5) * gain + 127.5)


def _recoloured(images: Images, rng: np.random.Generator) -> Images:
    """Red becomes green, green blue, blue red."""
    return np.ascontiguousarray(np.roll(images, 1, axis=3))


def _occluded(images: Images, rng: np.random.Generator) -> Images:
    """A grey square at a random place of each image."""
    covered, size = images.copy(), images.shape[1]
    side = max(1, round(SQUARE * size))
    for image, (top, left) in zip(
        covered, rng.integers(0, size - side + 1, (len(images), 2)).tolist(), strict=True
    ):
        image[top : top + side, left : left + side] = GREY
    return covered


TRANSFORMATIONS: tuple[Transformation, ...] = (
    Transformation("identity", _same),
    Transformation("flip", _flipped),
    *(Transformation(f"JPEG {quality}", partial(_compressed, quality)) for quality in (90, 50, 20)),
    *(Transformation(f"crop {cut} %", partial(_cropped, cut / 100)) for cut in (5, 10, 20)),
    *(Transformation(f"shift {pixels} px", partial(_shifted, pixels)) for pixels in (1, 2, 4)),
    *(Transformation(f"rotation {angle}°", partial(_rotated, angle)) for angle in (5, 15)),
    Transformation("blur 1 px", partial(_blurred, 1.0)),
    *(Transformation(f"noise {sigma}", partial(_noised, sigma)) for sigma in (0.05, 0.2)),
    Transformation("brightness × 1.3", partial(_brighter, 1.3)),
    Transformation("contrast × 0.6", partial(_flatter, 0.6)),
    Transformation("channels", _recoloured, colour=True),
    Transformation("grey square", _occluded),
)
# a person would hardly call the result another image
EASY = ("identity", "JPEG 90", "JPEG 50", "JPEG 20", "crop 5 %")
# the transformations of generated images in sets of owners
MILD = ("JPEG 50", "crop 5 %", "shift 1 px", "rotation 5°", "noise 0.05", "brightness × 1.3")


def suited(colour: bool) -> tuple[Transformation, ...]:
    """The transformations that apply to colour or to grey images."""
    return tuple(
        transformation for transformation in TRANSFORMATIONS if colour or not transformation.colour
    )


def mildly(images: Images, rng: np.random.Generator) -> Images:
    """Each image under a random transformation of `MILD`."""
    named = {transformation.name: transformation for transformation in TRANSFORMATIONS}
    drawn = rng.integers(0, len(MILD), len(images))
    copies = images.copy()
    for number, name in enumerate(MILD):
        selected = drawn == number
        if selected.any():
            copies[selected] = named[name].apply(images[selected], rng)
    return copies
