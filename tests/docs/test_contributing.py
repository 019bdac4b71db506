"""The steps of CONTRIBUTING.md, in a copy of the package: its files, edits and commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from doc_blocks import ROOT, Block, blocks, command_lines
from doc_running import check_line
from image_makers import encode

PAGE = ROOT / "CONTRIBUTING.md"
BLOCKS = blocks(PAGE)
FILES = sorted({title for block in BLOCKS if (title := block.attribute("title"))})
COMMANDS = [
    [*words, "--help"] if block.kind == "sh small" else words
    for block in BLOCKS
    if block.kind.startswith("sh")
    for words in command_lines(block)
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its tests with the files and edits of the page, and images."""
    folder = tmp_path_factory.mktemp("contributing") / "repository"
    for name in ("src", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "frozen")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for block in BLOCKS:
        if title := block.attribute("title"):
            if block.kind == "diff":
                edit(folder / title, block)
            else:
                assert not (folder / title).exists(), f"{block}: the file exists already"
                (folder / title).write_text(block.text, encoding="utf-8")
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8), np.uint8)
    for row, image in enumerate(pixels):
        for name in ("train", "generated") if row < 10 else ("train",):
            (folder / name / str(row % 2)).mkdir(parents=True, exist_ok=True)
            (folder / name / str(row % 2) / f"{row}.png").write_bytes(encode(image))
    return folder


def edit(target: Path, block: Block) -> None:
    """Apply the lines of a diff, which must fit the file in one place."""
    lines = block.text.splitlines(keepends=True)
    before, after = ("".join(line[1:] for line in lines if line[0] != sign) for sign in "+-")
    text = target.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{block}: its lines do not fit the file"
    target.write_text(text.replace(before, after), encoding="utf-8")


def run(folder: Path, *words: str) -> None:
    """Run a Python module in the copy, with its package."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"


def test_the_tests_and_the_lines_of_gmvaluator_work(repository: Path) -> None:
    tests = [words[3] for words in COMMANDS if words[1:3] == ["-m", "pytest"]]
    lines = [words[1:] for words in COMMANDS if words[0] == "gmvaluator"]
    assert min(len(tests), len(lines)) > 3
    (repository / "tests" / "test_lines.py").write_text(
        "from gmvaluator.cli import cli\n\n\n"
        "def test_lines() -> None:\n"
        f"    for words in {lines!r}:\n"
        "        cli.main(words, standalone_mode=False)\n"
    )
    # one process for all, since most of the time goes into imports
    run(repository, "pytest", "-p", "no:cacheprovider", *tests, "tests/test_lines.py")


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if words[0] != "gmvaluator"], ids=" ".join
)
def test_other_commands_of_the_page_work(words: Sequence[str]) -> None:
    block = Block(PAGE.name, 1, "sh", " ".join(words))
    if words[0] == ".venv/bin/pre-commit":
        run(ROOT, "pre_commit", "validate-config")
    elif words[1:3] != ["-m", "pytest"]:
        check_line(block, [Path(words[0]).name, *words[1:]], ("make", "python"))


def test_added_files_are_as_the_checks_want_them(repository: Path) -> None:
    run(repository, "ruff", "check", "--no-cache", *FILES)
    run(repository, "ruff", "format", "--no-cache", "--check", *FILES)
