"""The study of images with no source in the training set: shares withheld by each null sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator import ImageSet, InputError
from gmvaluator.evaluation.metrics import Interval
from gmvaluator.evaluation.studies.strangers import strangers
from gmvaluator.evaluation.study import Context
from gmvaluator.evaluation.valuers import variant
from gmvaluator.files.pieces import Workspace
from gmvaluator.progress import Silent

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]

QUICK: dict[str, Any] = {"encoder": "pixels@14", "rerank": "pixels@28", "cache": False}


@pytest.mark.parametrize("measure", ["neighbours", "domain"])
def test_the_study_measures_each_set_under_both_nulls(
    digits: Digits, tmp_path: Path, measure: str
) -> None:
    images = digits[0]
    context = Context(
        train=ImageSet.open(images[:250]),
        subjects=(),
        valuers=[variant("quick", QUICK | {"null_measure": measure})],
        seeds=1,
        m=30,
        work=Workspace(tmp_path),
        train_name="digits",
        progress=Silent(),
    )
    held_out = ImageSet.open(images[1000:1300])
    result = strangers(
        context, held_out, {"inverted": ImageSet.open(255 - images[2000:2040])}, 28, level=0.05
    )
    shares = {}
    for row in result.tables[0].rows:
        assert isinstance(row[-1], Interval)
        shares[row[1], row[2]] = row[-1].mean
    assert len(shares) == 8
    for null in ("leave-one-out", "holdout"):
        assert shares["training images", null] == 0
        assert shares["held-out images", null] <= 0.2
        assert shares["inverted", null] == shares["noise", null] == 1
    with pytest.raises(InputError, match="pass at least 160"):
        strangers(context, held_out.select(range(100)), {}, 28, level=0.05)
