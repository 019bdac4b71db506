"""Curation: which training images are listed, and that others can read the lists."""

from __future__ import annotations

import csv
import gc
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from gmvaluator import GMValuator, InputError, Valuation
from gmvaluator.cli import cli
from gmvaluator.curation import curate_run, export_curation, parse_amount
from image_makers import encode, write_files

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]


@pytest.fixture
def run(tmp_path: Path, digits: Digits) -> Path:
    """A run over 40 digits, one stranger and one copy."""
    images = {f"{row:02d}.png": encode(image) for row, image in enumerate(digits[0][:40])}
    stranger = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    images |= {"stranger.png": encode(stranger), "copy.png": encode(digits[0][3])}
    train = write_files(tmp_path / "train", images)
    settings: dict[str, Any] = {"encoder": "pixels@14", "rerank": "none", "k": 5}
    valuation = GMValuator(**settings).fit(train).value(digits[0][1000:1010])
    valuation.save(tmp_path / "run")
    return tmp_path / "run"


def test_the_stranger_the_copy_and_the_lowest_are_listed(run: Path, tmp_path: Path) -> None:
    found = curate_run(run, lowest="10%", off_manifold="1")
    valuation = found.run.valuation
    assert len(found.lowest) == 5
    assert not found.notes()[1:]
    assert (valuation.values[found.lowest] == 0).all()
    assert [valuation.train_ids[row] for row in found.off_manifold] == ["stranger.png"]
    assert [valuation.train_ids[row] for row in found.duplicates] == ["copy.png"]
    told = export_curation(found, tmp_path / "out")
    table = {
        row["train_id"]: row for row in pq.read_table(tmp_path / "out/curation.parquet").to_pylist()
    }
    assert len(table) == told["listed"] == told["images"]
    assert table["copy.png"]["duplicate_of"] == "03.png"
    assert "duplicate" in table["copy.png"]["reason"].split(";")
    assert table["stranger.png"]["off_manifold"]
    for row in table.values():
        exported = (tmp_path / "out/data" / row["file_name"]).read_bytes()
        assert exported == (tmp_path / "train" / row["train_id"]).read_bytes()


def earlier(run: Path) -> None:
    """Make the run one of an earlier version, which kept no nearest distances."""
    replace(Valuation.load(run), nearest_distances=None).save(run, overwrite=True)


def test_equal_images_are_listed_together_and_counted(run: Path, tmp_path: Path) -> None:
    idle = int((Valuation.load(run).n_supported == 0).sum())
    assert idle > 3
    earlier(run)
    found = curate_run(run, lowest="3", off_manifold="0")
    assert (len(found.lowest), found.wanted, found.equal) == (idle, 3, idle)
    counted, cut = found.notes()
    assert counted.startswith(f"{idle} of 42 training images contributed to nothing: their value")
    assert cut == (
        f"{idle} images of the lowest value are listed and not 3: all of them are equal "
        "(value 0), and equal images are listed all or not at all"
    )
    written = export_curation(found, tmp_path / "out")
    assert (written["contributed_to_nothing"], written["lowest_value_wanted"]) == (idle, 3)
    text = (tmp_path / "out" / "README.txt").read_text(encoding="utf-8")
    assert all(f"{note}.\n" in text for note in (counted, cut))
    command = ["curate", str(run), "--out", str(tmp_path / "cli"), "--lowest", "3", "--no-images"]
    command += ["--off-manifold", "0"]
    shown = CliRunner().invoke(cli, command, catch_exceptions=False).stdout
    assert all(note in shown for note in (counted, cut))


def test_the_equal_images_at_the_end_of_a_list_are_counted(run: Path) -> None:
    valuation = Valuation.load(run)
    idle = np.flatnonzero(valuation.n_supported == 0)
    nearest = np.where(valuation.n_supported == 0, np.float32(0.25), np.float32(0))
    nearest[idle[-2:]] = np.nan
    replace(valuation, nearest_distances=nearest).save(run, overwrite=True)
    assert [len(curate_run(run, lowest=n, off_manifold="0").notes()) for n in ("1", "2")] == [2, 1]
    found = curate_run(run, lowest="3", off_manifold="0")
    assert found.lowest[:2].tolist() == idle[-2:].tolist()
    assert (
        f"{len(idle)} images of the lowest value are listed and not 3: the last {len(idle) - 2} of "
        "them are equal (value 0, and 0.25 from the nearest generated image)"
    ) in found.notes()[1]
    never = curate_run(run, lowest="1", off_manifold="0").notes()[1]
    assert "all of them are equal (value 0, and never among the candidates of a" in never


def test_of_equal_values_the_farthest_from_all_generated_images_come_first(run: Path) -> None:
    valuation = Valuation.load(run)
    distances = np.linspace(1, 2, 42, dtype=np.float32)
    nearest = np.where(valuation.n_supported == 0, distances, np.float32(0))
    replace(valuation, nearest_distances=nearest).save(run, overwrite=True)
    found = curate_run(run, lowest="3", off_manifold="0")
    expected = np.flatnonzero(valuation.n_supported == 0)[::-1][:3]
    assert found.lowest.tolist() == expected.tolist()
    by_id = {row["train_id"]: row["nearest_generated"] for row in found.rows()}
    assert by_id[valuation.train_ids[expected[0]]] == pytest.approx(nearest[expected[0]])


def test_nearest_others_are_those_of_all_pairs(run: Path) -> None:
    found = curate_run(run, lowest="0", off_manifold="100%")
    fitted = GMValuator.refit(run).fitted_
    assert fitted is not None
    vectors = fitted.vectors
    apart = np.sqrt(((vectors[:, None] - vectors[None]) ** 2).sum(axis=2))
    np.fill_diagonal(apart, np.inf)
    known = found.nearest[~np.isnan(found.nearest)]
    np.testing.assert_allclose(known, apart.min(axis=1), rtol=1e-4)
    assert len(known) == 41


# datasets leaves the metadata file open until it is collected
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_others_read_the_folder(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["curate", str(run), "--out", str(out), "--lowest", "3", "--quiet", "--json"]
    told = json.loads(CliRunner().invoke(cli, command, catch_exceptions=False).stdout)
    with (out / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    # what fiftyone.types.CSVDataset wants: distinct names of files in data/
    assert sorted(row["filepath"] for row in rows) == sorted(
        p.name for p in (out / "data").iterdir()
    )
    assert len(rows) == told["listed"]
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(out), split="train", cache_dir=str(tmp_path / "hf")
    )
    assert sorted(loaded["train_id"]) == sorted(row["train_id"] for row in rows)
    assert loaded[0]["image"].size == (28, 28)
    del loaded
    gc.collect()


def test_changed_and_missing_images_are_listed_and_not_exported(run: Path, tmp_path: Path) -> None:
    found = curate_run(run, lowest="2", off_manifold="0")
    first, second = (found.run.valuation.train_ids[row] for row in found.lowest)
    (tmp_path / "train" / first).write_bytes(encode(np.zeros((28, 28), dtype=np.uint8)))
    (tmp_path / "train" / second).unlink()
    told = export_curation(curate_run(run, lowest="2", off_manifold="0"), tmp_path / "out")
    rows = pq.read_table(tmp_path / "out/curation.parquet").to_pylist()
    states = {row["train_id"]: row["state"] for row in rows}
    assert (states[first], states[second]) == ("changed", "missing")
    assert told["left_out"] == 2


def test_amounts() -> None:
    assert [parse_amount(text, 41, "--lowest") for text in ("5%", "7", "0", "100%")] == [
        3,
        7,
        0,
        41,
    ]
    for text in ("-1", "42", "101%", "some", "1.5", "nan%"):
        with pytest.raises(InputError, match=r"pass a share such as 5% or a number up to 41"):
            parse_amount(text, 41, "--lowest")
