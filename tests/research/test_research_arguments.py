"""Numbers that are none are refused by the research wing too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gmvaluator import InputError
from gmvaluator.baselines.gan_steps import GANRecipe
from gmvaluator.baselines.nda import NDA
from gmvaluator.evaluation.metrics import mean_interval
from wrong_numbers import NO_NUMBER, NO_WHOLE_NUMBER

WHOLE: dict[str, Callable[[Any], object]] = {
    "NDA k": lambda x: NDA(k=x),
    "NDA t": lambda x: NDA(t=x),
    "GANRecipe epochs": lambda x: GANRecipe(epochs=x),
}
REAL: dict[str, Callable[[Any], object]] = {
    "NDA alpha": lambda x: NDA(alpha=x),
    "GANRecipe learning_rate": lambda x: GANRecipe(learning_rate=x),
    "mean_interval level": lambda x: mean_interval([1.0, 2.0], level=x),
}


@pytest.mark.parametrize("kind", NO_WHOLE_NUMBER)
@pytest.mark.parametrize("name", WHOLE)
def test_what_is_no_whole_number_is_refused(name: str, kind: str) -> None:
    with pytest.raises(InputError):
        WHOLE[name](NO_WHOLE_NUMBER[kind])


@pytest.mark.parametrize("kind", NO_NUMBER)
@pytest.mark.parametrize("name", REAL)
def test_what_is_no_number_is_refused(name: str, kind: str) -> None:
    with pytest.raises(InputError):
        REAL[name](NO_NUMBER[kind])
