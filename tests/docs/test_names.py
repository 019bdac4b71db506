"""Names and files that pages show exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from doc_blocks import ROOT, pages

PAGES = [*pages(), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
DOTTED = re.compile(r"\bgmvaluator(?:\.\w+)+")
FILE = re.compile(r"`((?:[\w-]+/)*[\w-]+\.py)`")
# where a page may begin the path of a file
FOLDERS = ("", "src/gmvaluator", "src/gmvaluator/images")


def text_of(page: Path) -> str:
    """A page without what a step of CONTRIBUTING.md adds."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r'(?ms)^```\w+ title="(?:src|tests)/.*?^```$', "", text)


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute within one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            value = getattr(value, part, None)
        return value is not None
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_names_of_a_page_exist(page: Path) -> None:
    text = text_of(page)
    assert [name for name in sorted(set(DOTTED.findall(text))) if not exists(name)] == []
    files = sorted(set(FILE.findall(text)))
    assert [f for f in files if not any((ROOT / g / f).is_file() for g in FOLDERS)] == []


def test_a_wrong_name_is_noticed() -> None:
    assert exists("gmvaluator.runs.folder.open_run")
    assert not exists("gmvaluator.runs.open_run")
    assert not exists("gmvaluator.recalling")
