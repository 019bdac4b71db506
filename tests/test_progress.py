"""Progress: who hears of it, and that bars close when the work fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from gmvaluator import GMValuator
from gmvaluator.progress import Advance, Bars, Silent, as_progress


class Counted:
    """Counts what each stage advances."""

    def __init__(self) -> None:
        self.stages: dict[str, list[int]] = {}

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        self.stages[name] = [0, total]

        def advance(n: int) -> None:
            self.stages[name][0] += n

        yield advance


def test_flags_and_objects() -> None:
    assert isinstance(as_progress(True), Bars)
    assert isinstance(as_progress(False), Silent)
    own = Counted()
    assert as_progress(own) is own


def test_every_stage_of_a_valuation_reaches_its_total() -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), np.uint8)
    progress = Counted()
    settings = {"encoder": "pixels@8", "rerank": "pixels@4", "cache": False, "mirror": True}
    GMValuator(**settings, progress=progress, k=4).fit(images[:25]).value(images[25:])  # type: ignore[arg-type]
    assert {"embed train", "embed generated", "recall (exact)"} <= set(progress.stages)
    assert all(done == total for done, total in progress.stages.values()), progress.stages


def test_bars_are_on_standard_error_and_end_with_the_work(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        with Bars().stage("embedding", 10) as advance:
            advance(4)
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    out, err = capsys.readouterr()
    assert out == ""
    assert "embedding" in err
    assert "4/10" in err
