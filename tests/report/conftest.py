"""A browser, and a run with images at a place of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import running_browser
from playwright.sync_api import Browser

from gmvaluator import GMValuator
from gmvaluator.report import report_run
from gmvaluator.runs.folder import Run, open_run
from image_makers import encode, image_folder, random_images


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 30 images in `train`, 15 in `generated`, and their `run` with a report."""
    folder = tmp_path_factory.mktemp("made")
    image_folder(folder / "train", 30)
    image_folder(folder / "generated", 15, seed=1)
    (folder / "train" / "class0" / "bad.png").write_bytes(encode(random_images(1)[0])[:-30])
    valuator = GMValuator(
        encoder="pixels@8", rerank="none", quality="realism", k=12, candidates=20, cache=False
    )
    valuator.fit(folder / "train").value(folder / "generated").save(folder / "run")
    report_run(open_run(folder / "run"))
    return folder


@pytest.fixture(scope="module")
def run(made: Path) -> Run:
    return open_run(made / "run")


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A copy of it at another place; the run still names the first."""
    return shutil.copytree(made, tmp_path / "home")
