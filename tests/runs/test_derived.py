"""Files that other commands add to a run, when the run is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmvaluator.errors import RunError
from gmvaluator.runs.derived import FIGURES, drop_derived, remaining_records

REGENERATED = (
    *("report.html", "intervals.parquet", "uncertainty.json", "uncertainty-a.svg"),
    *("stability.md", "stability-b.svg", "audit.parquet", "audit.json", "audit/index.html"),
    *(f"figures/{name}.pdf" for name in FIGURES),
)
OTHERS = ("payout.json", "payout.csv", "values.parquet", "notes.txt", "figures/own.png")


def test_regenerated_files_are_deleted_and_others_stay(tmp_path: Path) -> None:
    for name in (*REGENERATED, *OTHERS):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    drop_derived(tmp_path)
    files = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.*")}
    assert files == set(OTHERS)
    assert remaining_records(tmp_path) == [tmp_path / "payout.json"]
    drop_derived(tmp_path)


def test_without_a_payout_no_record_remains(tmp_path: Path) -> None:
    assert remaining_records(tmp_path) == []


def test_a_file_that_cannot_be_deleted_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(RunError, match=r"report\.html is of the replaced run and cannot be"):
        drop_derived(tmp_path)
