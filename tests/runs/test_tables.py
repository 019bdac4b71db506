"""The tables of a run: written, read, and refused where they do not fit together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gmvaluator import RunError, Valuation
from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.runs.tables import (
    DUPLICATES_FILE,
    INPUTS_FILE,
    RUN_FILES,
    read_run,
    read_table,
)
from gmvaluator.runs.valuation import tables_of, valuation_of
from run_makers import made_test, made_valuation

# image 1 is a copy of image 0
COPIES = Clusters(
    np.array([0, 0, 2, 3, 4, 5]), np.array([False, True, *[False] * 4]), np.zeros(6, np.float32)
)


@pytest.fixture
def whole() -> Valuation:
    """A valuation with every table and column."""
    valuation = made_valuation()
    rows = np.array([[0, 2, 3], [2, 0, 4], [5, 3, 0], [3, 4, 5]])
    return replace(
        valuation,
        contributions=replace(valuation.contributions, rows=rows),
        train_keys=tuple(f"key of t{i}" for i in range(6)),
        generated_keys=tuple(f"key of g{j}" for j in range(4)),
        generated_labels=("x", None, "y", "x"),
        clusters=COPIES,
        match_p=np.array([0.01, 0.2, 0.5, 1.0]),
        record=replace(valuation.record, unattributed=made_test()),
    )


def test_tables_bring_the_valuation_back(whole: Valuation) -> None:
    tables = tables_of(whole)
    assert set(tables) == {*RUN_FILES[:-1], INPUTS_FILE, DUPLICATES_FILE}
    loaded = valuation_of(whole.record, tables)
    for name in ("train_ids", "train_labels", "generated_ids", "generated_labels", "skipped"):
        assert getattr(loaded, name) == getattr(whole, name)
    assert (loaded.train_keys, loaded.generated_keys) == (whole.train_keys, whole.generated_keys)
    assert loaded.record == whole.record
    for name in ("values", "ranks", "n_supported", "quality", "match_p"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(whole, name))
    for name in ("rows", "distances", "scores"):
        np.testing.assert_array_equal(
            getattr(loaded.contributions, name), getattr(whole.contributions, name)
        )
    assert loaded.clusters is not None
    np.testing.assert_array_equal(loaded.clusters.representatives, COPIES.representatives)
    np.testing.assert_array_equal(loaded.clusters.near, COPIES.near)


def test_tables_without_content_have_no_file() -> None:
    tables = tables_of(made_valuation())
    assert set(tables) == set(RUN_FILES[:-1])
    assert tables["generated.parquet"].column_names == ["generated_id", "quality", "label"]
    assert tables["generated.parquet"]["label"].to_pylist() == [None] * 4


def test_copies_share_the_value_of_their_representative(whole: Valuation) -> None:
    rows = {row["train_id"]: row for row in tables_of(whole)["values.parquet"].to_pylist()}
    assert rows["t0"]["value"] == rows["t1"]["value"] > 0
    assert rows["t0"]["n_supported"] == rows["t1"]["n_supported"] == 3
    assert rows["t0"]["rank"] == rows["t1"]["rank"]
    assert sorted(row["rank"] for row in rows.values()) == [1, 2, 3, 4, 4, 6]


Edit = Callable[[dict[str, Any]], None]


def without(name: str) -> Edit:
    return lambda columns: columns.pop(name)


def with_first(name: str, entry: Any) -> Edit:
    return lambda columns: columns[name].__setitem__(0, entry)


@pytest.mark.parametrize(
    ("file", "edit", "reason"),
    [
        ("values.parquet", with_first("train_id", None), "an image has no id"),
        ("values.parquet", with_first("train_id", "other"), "'t0'"),
        ("values.parquet", with_first("value", 9.0), "not the sums of the contributions"),
        ("values.parquet", without("label"), "label"),
        ("generated.parquet", with_first("generated_id", None), "an image has no id"),
        ("generated.parquet", with_first("generated_id", "other"), "not grouped by the ids"),
        ("contributions.parquet", without("score"), "score"),
        ("contributions.parquet", with_first("train_id", "other"), "'other'"),
        (INPUTS_FILE, with_first("id", "other"), r"inputs\.parquet lists other images"),
        (DUPLICATES_FILE, with_first("representative", False), "not one representative"),
        ("skipped.parquet", without("reason"), "reason"),
    ],
)
def test_tables_that_do_not_fit_together_are_refused(
    whole: Valuation, tmp_path: Path, file: str, edit: Edit, reason: str
) -> None:
    whole.save(tmp_path / "run")
    columns = pq.read_table(tmp_path / "run" / file).to_pydict()
    edit(columns)
    pq.write_table(pa.table(columns), tmp_path / "run" / file)
    with pytest.raises(RunError, match=f"do not fit together .*{reason}"):
        Valuation.load(tmp_path / "run", check=False)
    with pytest.raises(RunError, match=f"is not as it was saved: {file} was changed"):
        Valuation.load(tmp_path / "run")


def test_a_record_that_counts_other_images_is_refused(whole: Valuation) -> None:
    with pytest.raises(ValueError, match="counts other images"):
        valuation_of(replace(whole.record, n_train=7), tables_of(whole))


def test_files_are_read_with_the_sealed_record(whole: Valuation, tmp_path: Path) -> None:
    whole.save(tmp_path / "run")
    record, tables = read_run(tmp_path / "run", check=True)
    assert set(record.files or ()) == set(tables)
    assert record.unsealed() == whole.record
    (tmp_path / "run" / INPUTS_FILE).unlink()
    with pytest.raises(RunError, match=r"inputs\.parquet is missing; restore the run"):
        read_run(tmp_path / "run", check=True)


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "values.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(RunError, match=r"values\.parquet is damaged"):
        read_table(tmp_path / "values.parquet")
