"""Figures in the documentation are those that the commands wrote."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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


def test_a_cell_is_found_by_title_row_and_column(tmp_path: Path) -> None:
    refreshed = function("refreshed")
    table = "| valuer | k | right |\n|---|---|---|\n| l2 | 5 | {} |\n| l2 | 10 | 0.7 |\n"
    gan, vae = (f"**digits, images of {n}**\n\n{table.format(n)}" for n in ("gan", "vae"))
    (tmp_path / "c1.md").write_text(f"{gan}\n{vae}")
    page = "by <!-- cell: c1 / images of vae / l2 / 5 / right -->0.9<!-- end -->, so"
    assert refreshed(page, tmp_path) == page.replace("0.9", "vae")
    twice, no_row, no_column = (
        "l2 / 10 / right",
        "images of gan / l2 / 6 / right",
        "l2 / 10 / wrong",
    )
    for path in (twice, no_row, no_column):
        with pytest.raises(LookupError, match="wanted one cell"):
            refreshed(f"<!-- cell: c1 / {path} --><!-- end -->", tmp_path)


def test_pages_of_every_folder_are_refreshed_but_the_results(tmp_path: Path) -> None:
    refresh = function("refresh")
    page = "<!-- results: speed -->\n| slow |\n<!-- end -->\n"
    docs = tmp_path / "docs"
    for folder in ("results/archive", "howto/deep"):
        (docs / folder).mkdir(parents=True)
        (docs / folder / "page.md").write_text(page)
    (docs / "results" / "page.md").write_text(page)
    (tmp_path / "README.md").write_text(page)
    (docs / "results" / "speed.md").write_text("| fast |\n\n![Speed](speed.svg)\n")
    stale = ["README.md", "docs/howto/deep/page.md", "docs/results/archive/page.md"]
    assert refresh(tmp_path, write=False) == stale
    assert (docs / "howto" / "deep" / "page.md").read_text() == page
    refresh(tmp_path, write=True)
    for name, way in zip(stale, ("docs/results/", "../../results/", "../"), strict=True):
        assert f"| fast |\n\n![Speed]({way}speed.svg)\n" in (tmp_path / name).read_text()
    assert (docs / "results" / "page.md").read_text() == page
    assert refresh(tmp_path, write=False) == []


def test_the_picture_of_the_rooms_follows_the_contract(tmp_path: Path) -> None:
    package = tmp_path / "src" / "gmvaluator"
    (package / "cellar").mkdir(parents=True)
    (package / "cellar" / "__init__.py").write_text('"""What is\nkept. More."""\n')
    for name in ("attic", "roof", "tools"):
        (package / f"{name}.py").write_text(f'"""The {name}.\n\nMore.\n"""\n')
    layers = '["attic | roof", "cellar : tools"]'
    contract = f"[[tool.importlinter.contracts]]\nlayers = {layers}\n"
    (tmp_path / "pyproject.toml").write_text(contract)
    assert function("rooms")(tmp_path).splitlines()[1:-1] == [
        " 1   attic       The attic",
        "     roof        The roof",
        " 0   cellar      What is kept. More",
        "   : tools       The tools",
    ]
