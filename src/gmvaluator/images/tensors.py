"""Tensors and arrays of any library as NumPy arrays."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_numbers(item: Any) -> NDArray[Any]:
    """A tensor on any device, of any layout and precision, or anything that NumPy reads.

    Precisions that NumPy lacks (bfloat16, float8) become float32.

    Raises:
        ValueError: not numbers, such as lists of unequal lengths.
    """
    try:
        if not hasattr(item, "detach"):
            return np.asarray(item)
        tensor = item.detach().cpu()
        if not str(tensor.layout).endswith("strided"):
            tensor = tensor.to_dense()
        known = not tensor.is_floating_point() or hasattr(np, str(tensor.dtype).rpartition(".")[2])
        return np.asarray((tensor if known else tensor.float()).numpy())
    except Exception as error:  # foreign code raises nearly anything
        text = str(error).strip().split("\n")[0][:120]
        raise ValueError(
            f"{type(item).__name__} cannot be read as numbers ({text or type(error).__name__})"
        ) from error


def channels_last(
    array: NDArray[Any], channels: Collection[int], *, first_wins: bool
) -> NDArray[Any]:
    """(…, C, H, W) or (…, H, W, C) as (…, H, W, C); other arrays as they are.

    Args:
        array: of at least three dimensions.
        channels: possible numbers C of channels.
        first_wins: whether C comes first where both are possible.
    """
    first, last = array.shape[-3] in channels, array.shape[-1] in channels
    return np.moveaxis(array, -3, -1) if first and (first_wins or not last) else array
