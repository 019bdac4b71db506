"""Files of scores and of settings as valuers of a study, as docs/howto/evaluate.md has them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

import doc_blocks
from gmvaluator import ImageSet
from gmvaluator.evaluation.gradient_valuers import TRACIN_SETTINGS, TRAK_SETTINGS
from gmvaluator.evaluation.studies.identical_class import identical_class
from gmvaluator.evaluation.study import Context
from gmvaluator.evaluation.subjects.subject import SetSubject
from gmvaluator.evaluation.valuers import NDA_SETTINGS, VARIANT_SETTINGS, named_valuer, read_valuers
from gmvaluator.files.pieces import Workspace

PAGE = doc_blocks.ROOT / "docs/howto/evaluate.md"


@pytest.fixture
def valuers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's file of valuers, and the file of scores that it names."""
    monkeypatch.chdir(tmp_path)
    np.savez("scores.npz", scores=np.ones((3, 2)))
    (block,) = (block for block in doc_blocks.blocks(PAGE) if block.kind == "toml")
    file = Path("valuers.toml")
    file.write_text(block.text, encoding="utf-8")
    return file


def test_the_page_shows_every_key(valuers: Path) -> None:
    tables = tomllib.loads(valuers.read_text(encoding="utf-8"))
    assert set(tables["mixed"]) == set(VARIANT_SETTINGS)
    for name, keys in (
        ("patches", NDA_SETTINGS),
        ("gradients", TRAK_SETTINGS),
        ("checkpoints", TRACIN_SETTINGS),
        ("mine", ("file",)),
    ):
        assert set(tables[name]) == {"valuer", *keys}, name


def test_the_described_valuers_can_be_made(valuers: Path) -> None:
    for valuer in read_valuers(valuers):
        if valuer.bind is None:
            valuer.make(5, 0)


def test_scores_of_a_file_are_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, n in (("train", 40), ("real", 10)):
        images = rng.integers(0, 256, (n, 8, 8), dtype=np.uint8)
        np.savez(f"{name}.npz", images=images, labels=np.arange(n) % 2)
    train, real = ImageSet.open("train.npz"), ImageSet.open("real.npz")
    same = np.equal.outer(np.arange(40) % 2, np.arange(10) % 2)
    np.savez("right.npz", scores=same, train_ids=train.ids, generated_ids=real.ids)
    np.save("wrong.npy", np.where(same, -1.0, 1.0))
    context = Context(
        train=train,
        subjects=[SetSubject("real", real)],
        valuers=[named_valuer("right.npz"), named_valuer("wrong.npy")],
        seeds=1,
        m=10,
        work=Workspace("work"),
        train_name="train",
    )
    result = identical_class(context, (5, 20))
    for piece, ratio in zip(result.details["pieces"], (1.0, 0.0), strict=True):
        assert piece["result"]["ratio"] == {"5": ratio, "20": ratio}
