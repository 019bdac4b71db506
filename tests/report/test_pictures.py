"""Reading pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmvaluator.progress import as_progress
from gmvaluator.report import pictures as report_pictures
from gmvaluator.report.columns import Side
from gmvaluator.report.pictures import STATES, read_pictures
from gmvaluator.runs.folder import Run, open_run
from image_makers import encode, random_images


def opened(home: Path) -> Run:
    return open_run(home / "run", train=home / "train", generated=home / "generated")


def test_reads_are_bounded_whatever_they_give(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_pictures, "MOST_READ", 4)
    new = encode(random_images(1, 8, seed=77)[0])
    files = sorted((home / "train").rglob("*[0-9].png"))
    files[0].unlink()
    for file in files[1:]:
        file.write_bytes(new)
    run = opened(home)
    keys: list[tuple[Side, int]] = [("train", row) for row in range(30)]
    found = read_pictures(run, keys, 1_000_000, as_progress(False))
    assert found.shown == {}
    assert sorted(found.troubles.values()) == ["changed"] * 4 + ["missing"]
    assert found.full
    codes = found.codes("train", 30)
    assert (codes == STATES.index("left out")).sum() == 25
