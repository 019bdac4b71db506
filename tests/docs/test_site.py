"""The documentation site: it builds without a warning, and what its hooks compute."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection
from pathlib import Path

import click
import pytest
import site_hooks

from gmvaluator.cli import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site, as `make docs` builds it: a broken link or anchor is an error."""
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(out)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_site_fetches_nothing(site: Path) -> None:
    fetched = re.compile(r'<(?:script|img|link|iframe)[^>]*(?:src|href)=["\']?(?:https?:)?//')
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    assert [page.name for page in pages if fetched.search(page.read_text(encoding="utf-8"))] == []


def test_every_fence_became_a_block(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert [page.name for page in pages if "```" in page.read_text(encoding="utf-8")] == []


def test_formulas_are_drawn_without_a_script(site: Path) -> None:
    page = (site / "mathematics" / "method.html").read_text(encoding="utf-8")
    assert '<a id="eq-6"></a>' in page
    assert page.count("<math") > 30
    assert "arithmatex" not in page


def test_the_reference_has_every_command(site: Path) -> None:
    page = (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    for name in cli.commands:
        assert f'id="gmvaluator-{name}"' in page
    assert "-h, --help" in page


def test_the_contents_list_each_page_once() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = re.findall(r"^ +- (?:[^:\n]+: )?(\S+\.md)$", text[text.index("\nnav:") :], re.M)
    assert len(pages) > 20
    assert sorted(pages) == sorted(set(pages))
    assert [page for page in pages if not (ROOT / "docs" / page).is_file()] == []


def broken_links(docs: Path, left_out: Collection[Path] = ()) -> list[str]:
    """Links and pictures of the pages that lead to no file, or to a page the site leaves out."""
    broken = []
    for page in docs.rglob("*.md"):
        if page in left_out:
            continue
        text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.S)
        for link in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)[^)]*\)", text):
            target = (page.parent / link).resolve()
            if not target.is_file() or target in left_out:
                broken.append(f"{page.relative_to(docs)}: {link}")
    return broken


def test_local_links_lead_to_pages_of_the_site(tmp_path: Path) -> None:
    docs = ROOT / "docs"
    # as exclude_docs has it
    results = set((docs / "results").glob("*.md")) - {docs / "results" / "reference_equality.md"}
    assert results
    assert broken_links(docs, results) == []
    (tmp_path / "a.md").write_text("[b](b.md#there) [c](c.md) ![d](d/d.svg) `[e](e.md)`")
    for name in ("b.md", "c.md"):
        (tmp_path / name).write_text("[a](a.md) [web](https://example.org/f.md)")
    assert broken_links(tmp_path, {tmp_path / "c.md"}) == ["a.md: c.md", "a.md: d/d.svg"]


def test_every_command_has_a_section_with_its_help() -> None:
    sections = list(site_hooks.command_sections(cli, "gmvaluator"))
    evaluate = cli.commands["evaluate"]
    assert isinstance(evaluate, click.Group)
    assert len(sections) == 1 + len(cli.commands) + len(evaluate.commands)
    lds = next(
        section for section in sections if section.startswith("## `gmvaluator evaluate lds`")
    )
    assert "Usage: gmvaluator evaluate lds [OPTIONS] TRAIN" in lds
    assert max(len(line) for line in lds.splitlines()) <= site_hooks.HELP_WIDTH


def test_a_numbered_formula_gets_an_anchor_and_its_number() -> None:
    tex = "\\phi_i = \\sum_j V_{ij} \\tag{5}"
    assert site_hooks.on_page_markdown(f"text\n\n$$\n{tex}\n$$\n") == (
        f'text\n\n<a id="eq-5"></a>\n\n$$\n{tex}\n$$\n'
    )
    drawn = site_hooks.with_mathml(f'<div class="arithmatex">\\[{tex}\\]</div>')
    assert drawn.startswith('<div class="equation"><math')
    assert drawn.endswith("</math><span>(5)</span></div>")
    assert "tag" not in drawn


def test_an_inline_formula_is_unescaped_first() -> None:
    drawn = site_hooks.with_mathml('<span class="arithmatex">\\(a &lt; b\\)</span>')
    assert "<mo>&#x0003C;</mo>" in drawn
    assert "amp" not in drawn


def test_the_citation_names_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {project['version']}\n" in cited
    assert f"\nlicense: {project['license']}\n" in cited
