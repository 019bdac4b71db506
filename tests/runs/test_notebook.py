"""What a valuation shows in a notebook, and figures for papers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmvaluator import GMValuator, InputError, Valuation
from gmvaluator.report import figures_run
from gmvaluator.runs.folder import open_run
from gmvaluator.runs.plots import plot_values
from image_makers import encode, image_folder, random_images


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    image_folder(folder / "train", 12)
    image_folder(folder / "generated", 4, seed=1)
    valuator = GMValuator(
        encoder="pixels@8", rerank="none", quality="none", k=3, candidates=6, cache=False
    )
    valuator.fit(folder / "train").value(folder / "generated").save(folder / "run")
    return folder


@pytest.fixture
def valuation(made: Path) -> Valuation:
    return Valuation.load(made / "run")


def test_a_notebook_shows_the_most_valuable_images(valuation: Valuation) -> None:
    from IPython.core.formatters import DisplayFormatter

    name = "<img src=x onerror=alert(1)>&\u202e$a_b$"
    best = int(np.argmax(valuation.values))
    ids = tuple(name if at == best else id_ for at, id_ in enumerate(valuation.train_ids))
    shown, _ = DisplayFormatter().format(  # type: ignore[no-untyped-call]
        replace(valuation, train_ids=ids)
    )
    page = shown["text/html"]
    assert "12 training images valued by 4 generated images" in page
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;" in page
    assert "<img" not in page
    assert page.count("<tr>") == 11
    assert f"{valuation.values[best]:.4g}"[:5] in page


def test_plots_show_values_and_contributors(valuation: Valuation, made: Path) -> None:
    figure = valuation.plot_values()
    left, right = figure.axes
    assert left.get_xlabel() == "value"
    held = np.sort(valuation.values)[::-1][:1].sum() / valuation.values.sum()
    assert f"the top 8.3 % hold {100 * held:.0f} %" in right.get_title()
    sheet = valuation.plot_contributors(0, valuation.generated_ids[1], top=2)
    # a generated image and two contributors a row
    assert len(sheet.axes) == 6
    assert [len(axes.images) for axes in sheet.axes] == [1] * 6
    distance = valuation.contributions.distances[0, 0]
    assert f"d {distance:.4g}"[:6] in sheet.axes[1].get_title()
    with pytest.raises(InputError, match="generated image 9 of 4"):
        valuation.plot_contributors(9)
    with pytest.raises(InputError, match="gone"):
        valuation.plot_contributors(0, train=made / "gone")


def test_values_below_0_have_no_shares() -> None:
    left, right = plot_values(np.array([0.5, 0.0, -0.25, -0.5, 2.0])).axes
    assert left.get_title() == "1 of 5 images without value, 2 below 0"
    assert [*right.lines, *right.collections] == []
    assert right.texts[0].get_text().startswith("2 of 5 values are below 0")


def test_a_plot_marks_images_that_changed(valuation: Valuation, tmp_path: Path) -> None:
    image_folder(tmp_path / "train", 12)
    row = int(valuation.contributions.rows[0, 0])
    (tmp_path / "train" / valuation.train_ids[row]).write_bytes(encode(random_images(1, 8, 9)[0]))
    sheet = valuation.plot_contributors(0, top=2, train=tmp_path / "train")
    assert [len(axes.images) for axes in sheet.axes] == [1, 0, 1]
    assert "changed" in [text.get_text() for text in sheet.axes[1].texts]


def test_figures_are_written_as_png_and_pdf(made: Path, tmp_path: Path) -> None:
    run = open_run(made / "run")
    files = figures_run(run, tmp_path / "figures")
    assert {file.name for file in files} == {
        f"{name}.{kind}"
        for name in ("cumulative", "distribution", "contributors")
        for kind in ("png", "pdf")
    }
    heads = {".png": b"\x89PNG", ".pdf": b"%PDF"}
    assert all(file.read_bytes().startswith(heads[file.suffix]) for file in files)


def test_the_package_loads_without_matplotlib() -> None:
    code = "import sys; from gmvaluator import Valuation; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
