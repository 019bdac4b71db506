"""A saved run and its images: moved, changed, gone, or of an older version."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmvaluator import GMValuator, ImageSet, InputError, RunError, Valuation
from gmvaluator.runs.folder import Run, check_files, open_run
from gmvaluator.runs.record import Input, Inputs
from image_makers import encode, image_folder, random_images


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `train`, `generated` and their `run`."""
    folder = tmp_path_factory.mktemp("made")
    image_folder(folder / "train", 8)
    image_folder(folder / "generated", 3, seed=1, classes=0)
    valuator = GMValuator(
        encoder="pixels@8", rerank="none", quality="none", k=2, candidates=4, cache=False
    )
    valuator.fit(folder / "train").value(folder / "generated").save(folder / "run")
    return folder


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A copy of it at another place; the run still names the first."""
    return shutil.copytree(made, tmp_path / "home")


def opened(home: Path) -> Run:
    return open_run(home / "run", train=home / "train", generated=home / "generated")


def test_images_are_found_where_the_run_had_them(made: Path) -> None:
    run = open_run(made / "run")
    assert run.seal == json.loads((made / "run" / "run.json").read_text())["seal"]
    assert run.train.trouble is None
    assert run.generated.trouble is None
    assert [run.train.state(i) for i in range(8)] == ["ok"] * 8
    images = ImageSet.open(made / "train")
    assert run.train.keys == tuple(images.content_key(i) for i in range(8))
    assert run.train.png(3, 100) == images.png(3, 100)
    assert run.train.column("label") == images.labels


def test_changed_missing_and_unreadable_images_are_told_and_never_shown(home: Path) -> None:
    run = opened(home)
    files = [home / "train" / name for name in run.train.ids[:3]]
    files[0].write_bytes(encode(random_images(1, 8, seed=9)[0]))
    files[1].unlink()
    run = opened(home)
    assert [run.train.state(i) for i in range(3)] == ["changed", "missing", "ok"]
    assert [run.train.png(i, 8) is None for i in range(3)] == [True, True, False]
    assert run.train.trouble == (
        f"1 of 8 training images are no longer listed in the set, first {run.train.ids[1]!r}; "
        "restore them, or pass where they are now (train=…)"
    )
    # listed when the set was opened, gone when it is read
    files[2].unlink()
    assert run.train.state(2) == "unreadable"
    assert run.train.png(2, 8) is None
    assert run.train.column("label") == run.train.labels == ("class0",) * 4 + ("class1",) * 4


def test_a_set_that_is_gone_is_a_mark_and_one_that_was_given_an_error(
    made: Path, tmp_path: Path
) -> None:
    valuation = Valuation.load(made / "run")
    recorded = Inputs(train=Input(str(tmp_path / "gone")))
    moved = replace(valuation, record=replace(valuation.record, inputs=recorded))
    side = moved.open_images("train")
    assert "cannot be opened where they were" in str(side.trouble)
    assert "pass where they are now (train=…)" in str(side.trouble)
    assert side.state(0) == "missing"
    assert side.png(0, 8) is None
    assert "images of the run were in memory" in str(moved.open_images("generated").trouble)
    with pytest.raises(InputError, match="column 'licence' cannot be read: the training images"):
        side.column("licence")
    with pytest.raises(InputError, match="gone"):
        open_run(made / "run", train=tmp_path / "gone")


def test_metadata_by_image_of_the_run(home: Path) -> None:
    names = sorted(file.name for file in (home / "generated").iterdir())
    rows = [f"{name},{10 + at}" for at, name in enumerate(names)]
    manifest = home / "generated" / "list.csv"
    manifest.write_text("\n".join(["path,artist", *reversed(rows[1:])]))
    run = open_run(home / "run", train=home / "train", generated=manifest)
    assert run.generated.column("artist") == (None, "11", "12")
    with pytest.raises(InputError, match=r"no column 'licence'; choose one of: .*artist"):
        run.generated.column("licence")


def test_an_older_run_cannot_tell_changes(home: Path) -> None:
    valuation = replace(Valuation.load(home / "run"), train_keys=None, generated_keys=None)
    side = valuation.open_images("train", home / "train")
    (home / "train" / side.ids[0]).write_bytes(encode(random_images(1, 8, seed=9)[0]))
    assert side.state(0) == "unknown"
    assert side.png(0, 8) is not None


def test_files_that_differ_are_named(home: Path) -> None:
    assert check_files(home / "run") == []
    content = (home / "run" / "values.parquet").read_bytes()
    (home / "run" / "values.parquet").write_bytes(content + b"\0")
    (home / "run" / "skipped.parquet").unlink()
    assert check_files(home / "run") == ["skipped.parquet is missing", "values.parquet was changed"]
    record = json.loads((home / "run" / "run.json").read_text())
    (home / "run" / "run.json").write_text(json.dumps(record | {"n_train": 7}))
    assert "the record itself was changed" in check_files(home / "run")[0]
    (home / "run" / "run.json").write_text(json.dumps(record | {"files": 3}))
    assert "its list of files is damaged" in check_files(home / "run")
    with pytest.raises(RunError, match=r"values\.parquet is damaged|skipped\.parquet is missing"):
        Valuation.load(home / "run")


def test_saving_again_seals_again(home: Path) -> None:
    valuation = Valuation.load(home / "run")
    assert not {"files", "seal"} & set(valuation.info)
    valuation.save(home / "again")
    assert check_files(home / "again") == []
    np.testing.assert_array_equal(Valuation.load(home / "again").values, valuation.values)
