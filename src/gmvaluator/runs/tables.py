"""The Parquet files of a run's folder: their names, their columns, and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import RunError
from gmvaluator.files.seals import broken, recorded_files
from gmvaluator.images import Skip
from gmvaluator.places import RUN_FOLDER
from gmvaluator.runs.record import MARKER, RunRecord, check_format, parse_record, read_marker
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
NEAREST = "nearest_distance"
"""Column of `values.parquet` that older runs do not have. Their equal values rank by position."""


def values_table(
    train_ids: Sequence[str],
    labels: Sequence[str | None] | None,
    values: NDArray[np.float64],
    ranks: NDArray[np.int64],
    n_supported: NDArray[np.int64],
    nearest: NDArray[np.float32] | None,
) -> pa.Table:
    """`values.parquet`: one row per training image; a nearest distance of NaN is null."""
    import pyarrow as pa

    return pa.table(
        {
            "train_id": pa.array(train_ids, pa.string()),
            "value": pa.array(values, pa.float64()),
            "rank": pa.array(ranks, pa.int64()),
            "n_supported": pa.array(n_supported, pa.int64()),
            "label": _label_column(labels, len(train_ids)),
            NEAREST: pa.nulls(len(train_ids), pa.float32())
            if nearest is None
            else pa.array(nearest, pa.float32(), from_pandas=True),
        }
    )


def nearest_distances(values: pa.Table) -> NDArray[np.float32] | None:
    """(n,) the nearest distances of `values.parquet`, NaN for null; None where none is recorded."""
    if NEAREST not in values.column_names or values[NEAREST].null_count == len(values):
        return None
    distances: NDArray[np.float32] = values[NEAREST].to_numpy()
    return distances


def contributions_table(
    train_ids: Sequence[str], generated_ids: Sequence[str], contributions: Contributions
) -> pa.Table:
    """`contributions.parquet`: one row per generated image and contributor."""
    import pyarrow as pa

    m, k = contributions.rows.shape
    generated_rows = np.repeat(np.arange(m), k)
    train_rows = pa.array(contributions.rows.ravel())
    return pa.table(
        {
            "generated_id": pa.array(generated_ids, pa.string()).take(generated_rows),
            "rank": pa.array(np.tile(np.arange(1, k + 1), m), pa.int64()),
            "train_id": pa.array(train_ids, pa.string()).take(train_rows),
            "distance": pa.array(contributions.distances.ravel(), pa.float32()),
            "score": pa.array(contributions.scores.ravel(), pa.float64()),
        }
    )


def generated_table(
    generated_ids: Sequence[str],
    labels: Sequence[str | None] | None,
    quality: NDArray[np.float64],
    match_p: NDArray[np.float64] | None,
) -> pa.Table:
    """`generated.parquet`: one row per generated image."""
    import pyarrow as pa

    columns = {
        "generated_id": pa.array(generated_ids, pa.string()),
        "quality": pa.array(quality, pa.float64()),
        "label": _label_column(labels, len(generated_ids)),
    }
    if match_p is not None:
        columns["match_p"] = pa.array(match_p, pa.float64())
    return pa.table(columns)


def inputs_table(
    train_ids: Sequence[str],
    generated_ids: Sequence[str],
    train_keys: Sequence[str],
    generated_keys: Sequence[str],
) -> pa.Table:
    """`inputs.parquet`: one row per readable image, with its content key."""
    import pyarrow as pa

    sides = ["train"] * len(train_ids) + ["generated"] * len(generated_ids)
    return pa.table(
        {
            "set": pa.array(sides, pa.string()),
            "id": pa.array((*train_ids, *generated_ids), pa.string()),
            "content_key": pa.array((*train_keys, *generated_keys), pa.string()),
        }
    )


def skipped_table(skipped: Sequence[tuple[str, Skip]]) -> pa.Table:
    """`skipped.parquet`: one row per image that could not be read."""
    import pyarrow as pa

    return pa.table(
        {
            "set": pa.array([side for side, _ in skipped], pa.string()),
            "id": pa.array([skip.id for _, skip in skipped], pa.string()),
            "reason": pa.array([skip.reason for _, skip in skipped], pa.string()),
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


def content_keys(
    inputs: pa.Table | None, train_ids: tuple[str, ...], generated_ids: tuple[str, ...]
) -> tuple[str, ...] | None:
    """Content keys of the training images, then of the generated images."""
    if inputs is None:
        return None
    if tuple(inputs["id"].to_pylist()) != (*train_ids, *generated_ids):
        raise ValueError(f"{INPUTS_FILE} lists other images than the other tables")
    return tuple(inputs["content_key"].to_pylist())


def known_labels(labels: list[str | None]) -> tuple[str | None, ...] | None:
    """The labels; None where none is known."""
    return tuple(labels) if any(label is not None for label in labels) else None
