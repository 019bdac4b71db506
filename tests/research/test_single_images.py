"""Studies value single images: copies of a training image are not merged into one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator import GMValuator, ImageSet
from gmvaluator.evaluation.representations import Space, space_valuers
from gmvaluator.evaluation.studies import strangers
from gmvaluator.evaluation.valuers import judged_by, named_valuer, variant

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]


def test_a_named_valuer_asks_for_single_images() -> None:
    """A study removes images, or asks for their owners, one by one."""
    made = named_valuer("nearest-pixel").make(3, 0)
    assert isinstance(made, GMValuator)
    assert made.settings.dedup == "none"


def test_studies_ask_for_single_images(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the studies of spaces and of strangers, and the judge of quality by trusted images."""
    images = ImageSet.open(digits[0][:6])
    for space in space_valuers(Space.parse("pixels@14"), images, None).values():
        made = space.make(3, 0)
        assert isinstance(made, GMValuator)
        assert made.settings.dedup == "none"
    quick = variant("quick", {"encoder": "pixels@14", "rerank": "none", "cache": False})
    assert strangers._fitted(quick, images, 0.02).settings.dedup == "none"
    asked: list[dict[str, Any]] = []

    class Asked(GMValuator):
        def __init__(self, **settings: Any) -> None:
            asked.append(settings)
            super().__init__(**{**settings, "encoder": "pixels@14", "cache": False})

    monkeypatch.setattr("gmvaluator.valuator.GMValuator", Asked)
    judged_by(quick, images).make(2, 0).fit(images).value(images)
    assert [each["dedup"] for each in asked] == ["none", "none"]
