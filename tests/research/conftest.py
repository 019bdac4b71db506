"""Inputs that several studies of retrained models share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator import ImageSet


@pytest.fixture(scope="module")
def train(digits: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> ImageSet:
    """Forty digits."""
    return ImageSet.open(list(digits[0][:40]))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder that all retraining of this module shares."""
    return tmp_path_factory.mktemp("work")
