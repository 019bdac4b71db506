"""Figures in the documentation are those that the commands wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "refresh_pages.py"


def test_pages_show_what_the_results_hold() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_a_page_with_other_figures_is_noticed(tmp_path: Path) -> None:
    scope: dict[str, object] = {"__name__": "pages", "__file__": str(SCRIPT)}
    exec(SCRIPT.read_text(encoding="utf-8"), scope)
    refreshed = scope["refreshed"]
    assert callable(refreshed)
    results = tmp_path / "results"
    results.mkdir()
    (results / "speed.md").write_text("| fast |\n\n![Speed](speed-plot.svg)\n")
    page = "before\n<!-- results: speed -->\n| slow |\n<!-- end -->\nafter\n"
    fresh = refreshed(page, results)
    table = "| fast |\n\n![Speed](results/speed-plot.svg)"
    assert fresh == f"before\n<!-- results: speed -->\n\n{table}\n\n<!-- end -->\nafter\n"
    assert refreshed(fresh, results) == fresh
