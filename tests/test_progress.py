"""Progress: who hears of it, and that bars close when the work fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from gmvaluator import GMValuator
from gmvaluator.progress import Advance, Bars, Lines, Silent, as_progress


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


def test_flags_and_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(as_progress(True), Lines)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes any stream for a terminal
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


def test_lines_come_at_the_start_and_every_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with Lines(clock=lambda: now[0]).stage("embed train", 60_000) as advance:
        for seconds, images in ((29, 1_000), (31, 3_096), (45, 4_000), (200, 40_000), (7600, 1)):
            now[0] = float(seconds)
            advance(images)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "embed train: 60,000",
        "embed train: 4,096 of 60,000 after 31 s",
        "embed train: 48,096 of 60,000 after 3 min 20 s",
        "embed train: 48,097 of 60,000 after 2 h 6 min",
    ]
