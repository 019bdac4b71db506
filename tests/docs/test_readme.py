"""README.md: short, with figures that docs/results holds and links that lead somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIGURE = re.compile(r"-?\d\.\d+(?: ± \d\.\d+)?")


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 600


def test_figures_are_those_of_the_page_on_truth() -> None:
    """benchmarks/refresh_pages.py fills the figures of that page from docs/results."""
    page = (ROOT / "docs" / "truth.md").read_text(encoding="utf-8")
    filled = set(re.findall(r"<!-- cell: [^>]*-->(.*?)<!-- end -->", page))
    section = README[README.index("## Which preset") : README.index("## Limits")]
    figures = set(FIGURE.findall(section)) - {"0.1", "0.10"}  # chance; the bound of a criterion
    assert len(figures) >= 8
    assert figures - filled == set()


def test_links_and_pictures_lead_to_files() -> None:
    """Without a public address links are relative; an address in pyproject.toml makes them so."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    targets = re.findall(r"(?m)^\[\w+\]: (\S+)$|!\[[^\]]*\]\((\S+?)\)", README)
    links = [reference or picture for reference, picture in targets]
    assert len(links) > 10
    addresses = tuple(project.get("urls", {}).values())
    if addresses:
        assert [link for link in links if not link.startswith(addresses)] == []
    else:
        assert [link for link in links if not (ROOT / link).is_file()] == []


def test_every_reference_is_defined_once_and_used() -> None:
    defined = re.findall(r"(?m)^\[(\w+)\]: ", README)
    used = re.findall(r"\]\[(\w+)\]", README)
    assert sorted(defined) == sorted(set(used))
