"""A program that changes its working directory: what was opened by a relative path stays open."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gmvaluator import GMValuator, ImageSet, Valuation
from gmvaluator.audit import audit_run
from gmvaluator.files.pieces import Workspace
from gmvaluator.payout import payout_run
from gmvaluator.payout.ledger import append_entry, read_ledger
from gmvaluator.report import report_run
from gmvaluator.runs.folder import open_run
from gmvaluator.weights import Weights
from image_checks import IMAGES, PNGS, check_pixels, sample
from image_makers import image_folder, write_files, write_parquet, write_tar
from run_makers import made_valuation

QUICK: dict[str, Any] = {"encoder": "pixels@8", "rerank": "none", "quality": "none", "k": 2}
Leave = Callable[[], None]


@pytest.fixture
def leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leave:
    """Starts in one folder; a call moves to another one, which stays empty."""
    (tmp_path / "start").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "start")
    return lambda: monkeypatch.chdir(tmp_path / "elsewhere")


@pytest.fixture(autouse=True)
def _nothing_is_written_elsewhere(tmp_path: Path) -> object:
    yield
    assert list((tmp_path / "elsewhere").iterdir()) == []


def manifest() -> str:
    write_files(Path("files"), sample(range(6)))
    with Path("m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path"], *([f"files/{row:03d}.png"] for row in range(6))])
    return "m.csv"


def shards() -> str:
    for shard in range(3):
        write_tar(Path(f"shard-{shard}.tar"), sample([2 * shard, 2 * shard + 1]))
    return "shard-{0..2}.tar"


def npy() -> str:
    np.save("a.npy", IMAGES)
    return "a.npy"


def npz() -> str:
    np.savez("a.npz", images=IMAGES)
    return "a.npz"


@pytest.mark.parametrize(
    "make",
    [
        lambda: write_files(Path("files"), sample(range(6))),
        lambda: write_parquet(Path("a.parquet"), PNGS),
        lambda: write_tar(Path("a.tar"), sample(range(6))),
        manifest,
        shards,
        npy,
        npz,
    ],
    ids=["folder", "parquet", "tar", "csv", "shards", "npy", "npz"],
)
def test_an_image_set(make: Callable[[], str | Path], leave: Leave) -> None:
    images = ImageSet.open(make())
    leave()
    check_pixels(images)
    assert images.location is not None
    check_pixels(ImageSet.open(images.location))


def test_a_valuator_its_cache_and_its_index(leave: Leave) -> None:
    write_files(Path("files"), sample(range(6)))
    settings = QUICK | {"encoder": "random-conv@8"}
    valuator = GMValuator(cache="cache", backend="torch", **settings).fit("files")
    valuator.save("index")
    loaded = GMValuator.load("index", cache="cache", backend="torch")
    values = valuator.value(IMAGES[:2]).values
    leave()
    np.testing.assert_array_equal(valuator.value(IMAGES[:2]).values, values)
    np.testing.assert_array_equal(loaded.value(IMAGES[:2]).values, values)
    valuator.value(IMAGES[2:4])


def test_weights(leave: Leave) -> None:
    Path("w.pt").write_bytes(b"weights")
    Path("cache").mkdir()
    weights = Weights({"maniqa": Path("w.pt")}, Path("cache"))
    leave()
    assert weights.resolve("maniqa").path.is_absolute()
    assert weights.cache_dir.is_dir()


def write_owners(valuation: Valuation) -> None:
    rows = "".join(f"{name},Ada\n" for name in valuation.train_ids)
    Path("owners.csv").write_text(f"train_id,owner\n{rows}")


def test_a_run_its_audit_and_its_payout(tmp_path: Path, leave: Leave) -> None:
    image_folder(Path("files"), 24)
    valuation = GMValuator(**QUICK).fit("files").value(IMAGES[:2])
    valuation.save("run")
    write_owners(valuation)
    run = open_run("run")
    audit = audit_run("run", generated=IMAGES[:2])
    payout = payout_run(run, owners="owners.csv", budget="10", ledger="ledger.jsonl", resamples=0)
    leave()
    report_run(run)
    audit.save()
    payout.save(statements=False)
    start = tmp_path / "start"
    for name in ("report.html", "audit.parquet", "payout.csv"):
        assert (start / "run" / name).exists()
    assert len(read_ledger(start / "ledger.jsonl").entries) == 1


def test_a_ledger(tmp_path: Path, leave: Leave) -> None:
    valuation = made_valuation(6, 10, 3)
    valuation.save("run")
    write_owners(valuation)
    payout_run("run", owners="owners.csv", budget="10", ledger="one.jsonl", resamples=0).save()
    (entry,) = read_ledger("one.jsonl").entries
    ledger = read_ledger("two.jsonl")
    leave()
    append_entry(ledger, entry)
    assert (tmp_path / "start" / "two.jsonl").exists()


def test_a_folder_of_work(leave: Leave) -> None:
    work = Workspace("work")
    leave()
    work.piece("study", {"a": 1}, lambda: {"b": 2})
    assert work.pieces() == 1
