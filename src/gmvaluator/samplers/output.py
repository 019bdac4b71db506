"""Conversion of the models' outputs to uint8 arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError, either
from gmvaluator.images.decoding import PIXEL_LIMIT, decode
from gmvaluator.images.sources.base import Picture
from gmvaluator.images.tensors import as_numbers, channels_last
from gmvaluator.samplers.base import PixelRange

CHANNELS = (1, 3)


def to_images(output: object, n: int, pixel_range: PixelRange = "unit") -> list[NDArray[np.uint8]]:
    """A model's output for n images → n arrays, (H, W) uint8 grey or (H, W, 3) uint8 RGB.

    Accepted are an array or tensor (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3, uint8
    or float in `pixel_range`, and a list of PIL images or of single arrays. If both orders are
    possible, a tensor is read as channels first, an array as channels last. A PIL image of any mode
    is read as image sets read it. Floats up to 0.01 out of range are clipped. Raises `InputError`
    for any other output.
    """
    channels_first = hasattr(output, "detach")
    if isinstance(output, list | tuple):
        single = [_single(item, pixel_range) for item in output]
    else:
        single = _split(_as_array(output), pixel_range, channels_first=channels_first)
    if len(single) != n:
        raise InputError(f"The model returned {len(single)} images where {n} were asked for.")
    return single


def _single(item: Any, pixel_range: PixelRange) -> NDArray[np.uint8]:
    if isinstance(item, Picture):
        return np.asarray(decode(item, PIXEL_LIMIT))
    stack = _as_array(item)[None]
    return _split(stack, pixel_range, channels_first=hasattr(item, "detach"))[0]


def _as_array(output: Any) -> NDArray[Any]:
    try:
        array = as_numbers(output)
    except ValueError as error:
        raise InputError(f"The model returned what is no image: {error}.") from error
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"The model returned {type(output).__name__} of {array.dtype}; wanted uint8 or float "
            "images (N, H, W[, C]), or a list of PIL images."
        )
    return array


def _split(
    array: NDArray[Any], pixel_range: PixelRange, *, channels_first: bool
) -> list[NDArray[np.uint8]]:
    if array.ndim == 4:
        array = channels_last(array, CHANNELS, first_wins=channels_first)
    wrong_channels = array.ndim == 4 and array.shape[3] not in CHANNELS
    if array.ndim not in (3, 4) or wrong_channels or 0 in array.shape[1:]:
        raise InputError(
            f"The model returned shape {array.shape}; wanted (N, H, W), (N, H, W, C) or "
            "(N, C, H, W) with C = 1 or 3."
        )
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    return list(np.ascontiguousarray(_as_uint8(array, pixel_range)))


def _as_uint8(array: NDArray[Any], pixel_range: PixelRange) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.size == 0:
        return array.astype(np.uint8)
    low, high = float(array.min()), float(array.max())
    lowest = -1.0 if pixel_range == "symmetric" else 0.0
    # Written so that NaN fails the test.
    if not (low >= lowest - 0.01 and high <= 1.01):
        raise InputError(
            f"The model returned floats from {low:.3g} to {high:.3g}; wanted {lowest:g} to 1. "
            "Return uint8, scale them, or pass "
            + either("pixel_range='symmetric'", "--pixel-range symmetric")
            + " for −1 to 1."
        )
    unit = np.clip((array - lowest) / (1.0 - lowest), 0.0, 1.0)
    return np.rint(unit * 255.0).astype(np.uint8)
