"""The result object and its run folder, column by column."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gmvaluator import InputError, RunError, Skip, Valuation
from gmvaluator.matching.rerank import Contributors
from gmvaluator.runs.record import RecordedSettings, RunRecord
from gmvaluator.runs.tables import INPUTS_FILE, RUN_FILES
from gmvaluator.scoring.scores import contribute


@pytest.fixture
def valuation() -> Valuation:
    rows = np.array([[2, 0], [2, 3], [1, 2]])
    distances = np.array([[0.1, 0.2], [0.3, 0.3], [0.0, 2.0]], dtype=np.float32)
    quality = np.array([1.0, 0.5, 0.0])
    return Valuation(
        train_ids=("a", "b", "ç/<c>", "d"),
        train_labels=("x", None, "y", "y"),
        generated_ids=("g0", "g1", "g2"),
        generated_labels=None,
        quality=quality,
        contributions=contribute(Contributors(rows, distances, 4), quality),
        skipped=(("train", Skip("bad.png", "truncated PNG")),),
        record=RunRecord(RecordedSettings({}), n_train=4, n_generated=3, seed=0),
        train_keys=("k0", "k1", "k2", "k3"),
        generated_keys=("k4", "k5", "k6"),
    )


def test_numbers_of_a_hand_made_case(valuation: Valuation) -> None:
    near, far = 1 / (1 + np.exp(-0.1)), 1 / (1 + np.exp(0.1))
    np.testing.assert_allclose(valuation.values, [far, 0, near + 0.25, 0.25], rtol=1e-6)
    np.testing.assert_array_equal(valuation.ranks, [2, 4, 1, 3])
    np.testing.assert_array_equal(valuation.n_supported, [1, 0, 2, 1])


def test_a_valuation_is_shown_in_one_line(valuation: Valuation) -> None:
    shown = "Valuation(4 training images valued by 3 generated images; 1 contributed to nothing)"
    assert repr(valuation) == shown


def test_lists_of_contributors_are_equal_when_their_content_is(valuation: Valuation) -> None:
    contributors = valuation.contributors(0)
    assert contributors == valuation.contributors("g0")
    assert contributors != valuation.contributors(1)
    assert contributors != replace(contributors, scores=contributors.scores / 2)
    assert contributors != replace(contributors, distances=contributors.distances + 1)
    assert contributors != "g0"
    with pytest.raises(TypeError, match="unhashable"):
        hash(contributors)


def test_score_matrix_is_what_dattri_takes(valuation: Valuation) -> None:
    import torch
    from dattri.metric import lds

    scores = valuation.score_matrix()
    assert scores.shape == (4, 3)
    np.testing.assert_allclose(scores.sum(axis=1), valuation.values)
    for j in range(3):
        listed = valuation.contributors(j)
        rows = [valuation.train_ids.index(name) for name in listed.ids]
        np.testing.assert_array_equal(scores[rows, j], listed.scores)
    # targets that are the sums of the scores over each subset correlate perfectly
    subsets = torch.tensor([[0, 1], [1, 2], [2, 3], [0, 3]])
    targets = torch.from_numpy(scores)[subsets].sum(dim=1)
    found, _ = lds(torch.from_numpy(scores)[:, :2], (targets[:, :2], subsets))
    np.testing.assert_allclose(found.numpy(), 1.0)


def test_contributors_by_row_and_id(valuation: Valuation) -> None:
    found = valuation.contributors("g1")
    assert found.ids == ("ç/<c>", "d")
    np.testing.assert_allclose(found.scores, [0.25, 0.25])
    assert valuation.contributors(-2).ids == found.ids
    with pytest.raises(InputError, match="generated image 3 of 3; pass 0 to 2 or an id"):
        valuation.contributors(3)
    with pytest.raises(InputError, match="no generated image has id 'g9'"):
        valuation.contributors("g9")


def test_run_folder_is_the_contract(valuation: Valuation, tmp_path: Path) -> None:
    valuation.save(tmp_path / "run")
    files = {file.name for file in (tmp_path / "run").iterdir()}
    assert files == {*RUN_FILES, INPUTS_FILE}
    schemas = {
        name: {field.name: field.type for field in pq.read_schema(tmp_path / "run" / name)}
        for name in sorted(files - {"run.json"})
    }
    assert schemas == {
        "values.parquet": {
            "train_id": pa.string(),
            "value": pa.float64(),
            "rank": pa.int64(),
            "n_supported": pa.int64(),
            "label": pa.string(),
            "nearest_distance": pa.float32(),
        },
        "contributions.parquet": {
            "generated_id": pa.string(),
            "rank": pa.int64(),
            "train_id": pa.string(),
            "distance": pa.float32(),
            "score": pa.float64(),
        },
        "generated.parquet": {
            "generated_id": pa.string(),
            "quality": pa.float64(),
            "label": pa.string(),
        },
        "skipped.parquet": {"set": pa.string(), "id": pa.string(), "reason": pa.string()},
        "inputs.parquet": {"set": pa.string(), "id": pa.string(), "content_key": pa.string()},
    }
    pairs = pq.read_table(tmp_path / "run" / "contributions.parquet").to_pylist()
    assert [(row["generated_id"], row["rank"], row["train_id"]) for row in pairs[:3]] == [
        ("g0", 1, "ç/<c>"),
        ("g0", 2, "a"),
        ("g1", 1, "ç/<c>"),
    ]
    skipped = pq.read_table(tmp_path / "run" / "skipped.parquet").to_pylist()
    assert skipped == [{"set": "train", "id": "bad.png", "reason": "truncated PNG"}]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["n_train"] == 4


def test_load_brings_everything_back(valuation: Valuation, tmp_path: Path) -> None:
    valuation.save(tmp_path / "run")
    loaded = Valuation.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.values, valuation.values)
    np.testing.assert_array_equal(loaded.quality, valuation.quality)
    for name in ("rows", "distances", "scores", "n_train"):
        np.testing.assert_array_equal(
            getattr(loaded.contributions, name), getattr(valuation.contributions, name)
        )
    for name in (
        "train_ids",
        "train_labels",
        "generated_ids",
        "generated_labels",
        "skipped",
        "record",
        "info",
        "train_keys",
        "generated_keys",
    ):
        assert getattr(loaded, name) == getattr(valuation, name)


def test_data_frame_has_the_columns_of_the_file(valuation: Valuation) -> None:
    frame = valuation.to_pandas()
    columns = ["train_id", "value", "rank", "n_supported", "label", "nearest_distance"]
    assert list(frame.columns) == columns
    assert frame.loc[frame["rank"] == 1, "train_id"].item() == "ç/<c>"


@pytest.mark.parametrize("name", RUN_FILES)
def test_missing_or_damaged_file_is_named(valuation: Valuation, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    valuation.save(run)
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match=name):
        Valuation.load(run)
    (run / name).unlink()
    with pytest.raises(RunError, match=name):
        Valuation.load(run)


def test_files_of_two_runs_are_not_mixed(valuation: Valuation, tmp_path: Path) -> None:
    run = tmp_path / "run"
    valuation.save(run)
    table = pq.read_table(run / "values.parquet")
    wrong = table.set_column(1, "value", pa.array([1.0, 2.0, 3.0, 4.0]))
    pq.write_table(wrong, run / "values.parquet")
    with pytest.raises(RunError, match=r"is not as it was saved: values\.parquet was changed;"):
        Valuation.load(run)
    with pytest.raises(RunError, match=r"do not fit together .*not the sums"):
        Valuation.load(run, check=False)
    pq.write_table(table.slice(0, 3), run / "values.parquet")
    with pytest.raises(RunError, match="do not fit together"):
        Valuation.load(run, check=False)


def test_a_record_that_was_edited_is_refused(valuation: Valuation, tmp_path: Path) -> None:
    run = tmp_path / "run"
    valuation.save(run)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"seed": 1}))
    with pytest.raises(RunError, match="the record itself was changed"):
        Valuation.load(run)
    (run / "run.json").write_text(json.dumps(record | {"format": 2}))
    with pytest.raises(RunError, match="has format 2 and this version reads 1"):
        Valuation.load(run, check=False)


def test_what_was_made_of_a_run_goes_with_it_but_for_payouts(
    valuation: Valuation, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    valuation.save(run)
    made = ["report.html", "intervals.parquet", "uncertainty-m.svg", "audit/index.html"]
    kept = ["payout.json", "payout.csv", "statements/index.html", "notes.txt", "figures/own.png"]
    for name in (*made, *kept):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("x")
    valuation.save(run, overwrite=True)
    assert not [name for name in made if (run / name).exists()]
    assert [name for name in kept if (run / name).exists()] == kept


def test_older_runs_without_hashes_and_keys_still_open(
    valuation: Valuation, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    valuation.save(run)
    record = json.loads((run / "run.json").read_text())
    kept = {name: value for name, value in record.items() if name not in ("files", "seal")}
    (run / "run.json").write_text(json.dumps(kept))
    # one that an older run overwrote may hold a newer one's files
    loaded = Valuation.load(run)
    assert loaded.train_keys is None
    np.testing.assert_array_equal(loaded.values, valuation.values)


def test_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is an empty folder; wanted a run folder"):
        Valuation.load(tmp_path)


def test_a_run_whose_files_were_being_moved_is_completed_by_load(
    valuation: Valuation, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    valuation.save(run)
    waiting = run / ".run.json.ready"
    waiting.mkdir()
    for name in ("values.parquet", "run.json"):
        (run / name).rename(waiting / name)
    (run / "values.parquet").write_bytes(b"of the run before")
    (run / "report.html").write_text("of the run before")
    found = Valuation.load(run)
    np.testing.assert_array_equal(found.values, valuation.values)
    assert not (run / "report.html").exists()
    assert not waiting.exists()
