"""The Parquet files of a run's folder: a `Valuation` goes in, tables come out, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gmvaluator.errors import RunError
from gmvaluator.files.seals import broken, recorded_files
from gmvaluator.images import Skip
from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.places import RUN_FOLDER
from gmvaluator.runs.record import MARKER, RunRecord, check_format, parse_record, read_marker
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.scores import Contributions

if TYPE_CHECKING:
    import pyarrow as pa

RUN_FILES = (
    "values.parquet",
    "contributions.parquet",
    "generated.parquet",
    "skipped.parquet",
    MARKER,
)
INPUTS_FILE = "inputs.parquet"
DUPLICATES_FILE = "duplicates.parquet"
LATER_FILES = (INPUTS_FILE, DUPLICATES_FILE)
"""Files that older runs do not have. Runs with nothing to write in them do not have them either."""


def tables_of(valuation: Valuation) -> dict[str, pa.Table]:
    """The tables of a run's folder, by file name."""
    tables = {
        "values.parquet": values_table(valuation),
        "contributions.parquet": _contributions_table(valuation),
        "generated.parquet": _generated_table(valuation),
        "skipped.parquet": _skipped_table(valuation),
    }
    if valuation.train_keys is not None and valuation.generated_keys is not None:
        tables[INPUTS_FILE] = _inputs_table(
            valuation, valuation.train_keys, valuation.generated_keys
        )
    if valuation.clusters is not None:
        tables[DUPLICATES_FILE] = valuation.clusters.table(valuation.train_ids)
    return tables


def values_table(valuation: Valuation) -> pa.Table:
    """`values.parquet`: one row per training image."""
    import pyarrow as pa

    return pa.table(
        {
            "train_id": pa.array(valuation.train_ids, pa.string()),
            "value": pa.array(valuation.values, pa.float64()),
            "rank": pa.array(valuation.ranks, pa.int64()),
            "n_supported": pa.array(valuation.n_supported, pa.int64()),
            "label": _label_column(valuation.train_labels, len(valuation.train_ids)),
        }
    )


def _contributions_table(valuation: Valuation) -> pa.Table:
    """`contributions.parquet`: one row per generated image and contributor."""
    import pyarrow as pa

    contributions = valuation.contributions
    m, k = contributions.rows.shape
    generated_rows = np.repeat(np.arange(m), k)
    train_rows = pa.array(contributions.rows.ravel())
    return pa.table(
        {
            "generated_id": pa.array(valuation.generated_ids, pa.string()).take(generated_rows),
            "rank": pa.array(np.tile(np.arange(1, k + 1), m), pa.int64()),
            "train_id": pa.array(valuation.train_ids, pa.string()).take(train_rows),
            "distance": pa.array(contributions.distances.ravel(), pa.float32()),
            "score": pa.array(contributions.scores.ravel(), pa.float64()),
        }
    )


def _generated_table(valuation: Valuation) -> pa.Table:
    """`generated.parquet`: one row per generated image."""
    import pyarrow as pa

    columns = {
        "generated_id": pa.array(valuation.generated_ids, pa.string()),
        "quality": pa.array(valuation.quality, pa.float64()),
        "label": _label_column(valuation.generated_labels, len(valuation.generated_ids)),
    }
    if valuation.match_p is not None:
        columns["match_p"] = pa.array(valuation.match_p, pa.float64())
    return pa.table(columns)


def _inputs_table(
    valuation: Valuation, train_keys: Sequence[str], generated_keys: Sequence[str]
) -> pa.Table:
    """`inputs.parquet`: one row per readable image, with its content key."""
    import pyarrow as pa

    n, m = len(valuation.train_ids), len(valuation.generated_ids)
    return pa.table(
        {
            "set": pa.array(["train"] * n + ["generated"] * m, pa.string()),
            "id": pa.array((*valuation.train_ids, *valuation.generated_ids), pa.string()),
            "content_key": pa.array((*train_keys, *generated_keys), pa.string()),
        }
    )


def _skipped_table(valuation: Valuation) -> pa.Table:
    """`skipped.parquet`: one row per image that could not be read."""
    import pyarrow as pa

    return pa.table(
        {
            "set": pa.array([side for side, _ in valuation.skipped], pa.string()),
            "id": pa.array([skip.id for _, skip in valuation.skipped], pa.string()),
            "reason": pa.array([skip.reason for _, skip in valuation.skipped], pa.string()),
        }
    )


def _label_column(labels: Sequence[str | None] | None, n: int) -> pa.Array:
    import pyarrow as pa

    return pa.array(labels if labels is not None else [None] * n, pa.string())


def read_run(folder: Path, *, check: bool) -> tuple[RunRecord, dict[str, pa.Table]]:
    """The record of a run, and its tables by file name.

    Args:
        folder: of the run.
        check: refuse files that differ from those that were saved.

    Raises:
        RunError: no run is there, or a file is missing, damaged or changed.
    """
    info = read_marker(folder, RUN_FOLDER)
    check_format(info)
    # runs without a list of files are older than the later files
    listed = recorded_files(info)
    names = [*RUN_FILES[:-1], *(name for name in LATER_FILES if name in listed)]
    tables = {name: read_table(folder / name) for name in names}
    if check and (differences := broken(info, folder)):
        raise RunError(
            f"run {folder} is not as it was saved: {'; '.join(differences)}; restore the run "
            "or make it again"
        )
    return parse_record(info, folder), tables


def read_table(file: Path) -> pa.Table:
    """A Parquet file of a result folder.

    Raises:
        RunError: the file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not file.is_file():
        raise RunError(f"{file} is missing; restore the run or make it again")
    try:
        return pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise RunError(f"{file} is damaged ({error}); restore the run or make it again") from error


def valuation_of(record: RunRecord, tables: Mapping[str, pa.Table]) -> Valuation:
    """The valuation that `tables_of` wrote.

    Args:
        record: of the run.
        tables: by file name.

    Raises:
        AttributeError, IndexError, KeyError, TypeError, ValueError: the tables lack a column, or
            do not fit together.
    """
    values, generated = tables["values.parquet"], tables["generated.parquet"]
    pairs, skipped = tables["contributions.parquet"], tables["skipped.parquet"]
    train_ids = tuple(values["train_id"].to_pylist())
    generated_ids = tuple(generated["generated_id"].to_pylist())
    m = len(generated_ids)
    if None in train_ids or None in generated_ids:
        raise ValueError("an image has no id")
    if (record.n_train, record.n_generated) != (len(train_ids), m):
        raise ValueError("run.json counts other images than the tables hold")
    expected = np.repeat(np.asarray(generated_ids, dtype=object), len(pairs) // max(1, m))
    if not np.array_equal(expected, pairs["generated_id"].to_numpy()):
        raise ValueError("contributions.parquet is not grouped by the ids of generated.parquet")
    row_of = {name: row for row, name in enumerate(train_ids)}
    rows = np.array([row_of[name] for name in pairs["train_id"].to_pylist()], dtype=np.int64)
    keys = _content_keys(tables.get(INPUTS_FILE), train_ids, generated_ids)
    duplicates = tables.get(DUPLICATES_FILE)
    valuation = Valuation(
        train_ids=train_ids,
        train_labels=_known_labels(values["label"].to_pylist()),
        generated_ids=generated_ids,
        generated_labels=_known_labels(generated["label"].to_pylist()),
        quality=generated["quality"].to_numpy(),
        contributions=Contributions(
            rows=rows.reshape(m, -1),
            distances=pairs["distance"].to_numpy().reshape(m, -1),
            scores=pairs["score"].to_numpy().reshape(m, -1),
            n_train=len(train_ids),
        ),
        skipped=tuple((row["set"], Skip(row["id"], row["reason"])) for row in skipped.to_pylist()),
        record=record.unsealed(),
        train_keys=keys and keys[: len(train_ids)],
        generated_keys=keys and keys[len(train_ids) :],
        clusters=None if duplicates is None else Clusters.of_table(duplicates, train_ids),
        match_p=generated["match_p"].to_numpy() if "match_p" in generated.column_names else None,
    )
    if not np.allclose(valuation.values, values["value"].to_numpy(), rtol=1e-9, atol=1e-12):
        raise ValueError("the values are not the sums of the contributions")
    return valuation


def _content_keys(
    inputs: pa.Table | None, train_ids: tuple[str, ...], generated_ids: tuple[str, ...]
) -> tuple[str, ...] | None:
    """Content keys of the training images, then of the generated images."""
    if inputs is None:
        return None
    if tuple(inputs["id"].to_pylist()) != (*train_ids, *generated_ids):
        raise ValueError(f"{INPUTS_FILE} lists other images than the other tables")
    return tuple(inputs["content_key"].to_pylist())


def _known_labels(labels: list[str | None]) -> tuple[str | None, ...] | None:
    return tuple(labels) if any(label is not None for label in labels) else None
