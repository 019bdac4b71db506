"""Figures in the documentation are those that the commands wrote."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "refresh_pages.py"


def test_pages_show_what_the_results_hold() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def function(name: str) -> Callable[..., Any]:
    scope: dict[str, Any] = {"__name__": "pages", "__file__": str(SCRIPT)}
    exec(SCRIPT.read_text(encoding="utf-8"), scope)
    found: Callable[..., Any] = scope[name]
    assert callable(found)
    return found


def test_a_page_with_other_figures_is_noticed(tmp_path: Path) -> None:
    refreshed = function("refreshed")
    results = tmp_path / "results"
    results.mkdir()
    (results / "speed.md").write_text("| fast |\n\n![Speed](speed-plot.svg)\n")
    page = "before\n<!-- results: speed -->\n| slow |\n<!-- end -->\nafter\n"
    fresh = refreshed(page, results)
    table = "| fast |\n\n![Speed](results/speed-plot.svg)"
    assert fresh == f"before\n<!-- results: speed -->\n\n{table}\n\n<!-- end -->\nafter\n"
    assert refreshed(fresh, results) == fresh


def test_pages_in_folders_are_looked_into_and_results_are_not(tmp_path: Path) -> None:
    refresh = function("refresh")
    page = "<!-- results: speed -->\n| slow |\n<!-- end -->\n"
    for folder in ("results", "howto/deep"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "page.md").write_text(page)
    (tmp_path / "results" / "speed.md").write_text("| fast |\n\n![Speed](speed.svg)\n")
    assert refresh(tmp_path, write=False) == ["howto/deep/page.md"]
    assert (tmp_path / "howto" / "deep" / "page.md").read_text() == page
    refresh(tmp_path, write=True)
    fresh = (tmp_path / "howto" / "deep" / "page.md").read_text()
    assert "| fast |\n\n![Speed](../../results/speed.svg)\n" in fresh
    assert (tmp_path / "results" / "page.md").read_text() == page
    assert refresh(tmp_path, write=False) == []
