"""The files of a run's folder: their names, their columns, and reading them back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import RunError
from gmvaluator.files.atomic import check_output, finish_interrupted
from gmvaluator.files.seals import broken, recorded_files, unsealed
from gmvaluator.images import Skip
from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.runs.derived import drop_derived
from gmvaluator.scoring.scores import Contributions

if TYPE_CHECKING:
    import pyarrow as pa

MARKER = "run.json"
FORMAT = 1
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
"""Files of a run that older runs do not have, nor runs where there is nothing to say in them."""


class RunContent(TypedDict):
    """What the files of a run hold; the attributes of `valuation.Valuation`."""

    train_ids: tuple[str, ...]
    train_labels: tuple[str | None, ...] | None
    generated_ids: tuple[str, ...]
    generated_labels: tuple[str | None, ...] | None
    quality: NDArray[np.float64]
    contributions: Contributions
    skipped: tuple[tuple[str, Skip], ...]
    info: dict[str, Any]
    train_keys: tuple[str, ...] | None
    generated_keys: tuple[str, ...] | None
    clusters: Clusters | None
    match_p: NDArray[np.float64] | None


def check_run_output(path: str | Path, *, overwrite: bool) -> None:
    """Refuse a run folder before the work is done; see `publishing.check_output`."""
    check_output(Path(path), MARKER, overwrite=overwrite)


def read_marker(folder: Path, marker: str, kind: str) -> dict[str, Any]:
    """The JSON object of a result folder's marker file.

    A folder whose writer was killed while its finished files were moved there is completed first.

    Raises:
        RunError: the folder is missing, is no such result, or the file is damaged.
    """
    file = folder / marker
    if not file.is_file() and finish_interrupted(folder, marker) and marker == MARKER:
        drop_derived(folder)
    if not file.is_file():
        raise RunError(f"{folder} is no {kind} folder (it holds no {marker}); check the path")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read ({error}); make the {kind} again") from error
    if not isinstance(content, dict):
        raise RunError(f"{file} holds no JSON object; make the {kind} again")
    return content


def read_table(file: Path) -> pa.Table:
    """A Parquet file of a result folder.

    Raises:
        RunError: it is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not file.is_file():
        raise RunError(f"{file} is missing; restore the run or make it again")
    try:
        return pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise RunError(f"{file} is damaged ({error}); restore the run or make it again") from error


def values_table(
    train_ids: Sequence[str],
    values: NDArray[np.float64],
    ranks: NDArray[np.int64],
    n_supported: NDArray[np.int64],
    labels: Sequence[str | None] | None,
) -> pa.Table:
    """The columns of `values.parquet`, a row a training image."""
    import pyarrow as pa

    return pa.table(
        {
            "train_id": pa.array(train_ids, pa.string()),
            "value": pa.array(values, pa.float64()),
            "rank": pa.array(ranks, pa.int64()),
            "n_supported": pa.array(n_supported, pa.int64()),
            "label": _labels(labels, len(train_ids)),
        }
    )


def contributions_table(
    contributions: Contributions, train_ids: Sequence[str], generated_ids: Sequence[str]
) -> pa.Table:
    """The columns of `contributions.parquet`, a row a generated image and contributor."""
    import pyarrow as pa

    m, k = contributions.rows.shape
    generated_rows = np.repeat(np.arange(m), k)
    return pa.table(
        {
            "generated_id": pa.array(generated_ids, pa.string()).take(generated_rows),
            "rank": pa.array(np.tile(np.arange(1, k + 1), m), pa.int64()),
            "train_id": pa.array(train_ids, pa.string()).take(pa.array(contributions.rows.ravel())),
            "distance": pa.array(contributions.distances.ravel(), pa.float32()),
            "score": pa.array(contributions.scores.ravel(), pa.float64()),
        }
    )


def generated_table(
    generated_ids: Sequence[str],
    quality: NDArray[np.float64],
    labels: Sequence[str | None] | None,
    match_p: NDArray[np.float64] | None,
) -> pa.Table:
    """The columns of `generated.parquet`, a row a generated image."""
    import pyarrow as pa

    return pa.table(
        {
            "generated_id": pa.array(generated_ids, pa.string()),
            "quality": pa.array(quality, pa.float64()),
            "label": _labels(labels, len(generated_ids)),
        }
        | ({} if match_p is None else {"match_p": pa.array(match_p, pa.float64())})
    )


def inputs_table(
    train_ids: Sequence[str],
    train_keys: Sequence[str],
    generated_ids: Sequence[str],
    generated_keys: Sequence[str],
) -> pa.Table:
    """The columns of `inputs.parquet`: what each image held (`ImageSet.content_key`)."""
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
    """The columns of `skipped.parquet`."""
    import pyarrow as pa

    return pa.table(
        {
            "set": pa.array([side for side, _ in skipped], pa.string()),
            "id": pa.array([skip.id for _, skip in skipped], pa.string()),
            "reason": pa.array([skip.reason for _, skip in skipped], pa.string()),
        }
    )


def _labels(labels: Sequence[str | None] | None, n: int) -> pa.Array:
    import pyarrow as pa

    return pa.array(labels if labels is not None else [None] * n, pa.string())


def read_files(folder: Path, *, check: bool) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    """What a run's `run.json` holds, and its tables by file.

    Args:
        check: refuse files that are not those the run was saved with.

    Raises:
        RunError: no run is there, or a file is missing, damaged or changed.
    """
    info = read_marker(folder, MARKER, "run")
    if info.get("format", FORMAT) != FORMAT:
        raise RunError(
            f"run {folder} has format {info['format']} and this version reads {FORMAT}; read "
            "it with the version that made it (run.json, versions), or make it again"
        )
    # older runs have no list of files, and none but these
    listed = recorded_files(info)
    names = [*RUN_FILES[:-1], *(name for name in LATER_FILES if name in listed)]
    tables = {name: read_table(folder / name) for name in names}
    if check and (differences := broken(info, folder)):
        raise RunError(
            f"run {folder} is not as it was saved: {'; '.join(differences)}; restore the run "
            "or make it again"
        )
    return unsealed(info), tables


def content_of(info: dict[str, Any], tables: dict[str, pa.Table]) -> RunContent:
    """What the files of a run hold together.

    Raises:
        AttributeError, IndexError, KeyError, TypeError, ValueError: they do not fit together.
    """
    for name in ("settings", "inputs", "unattributed"):
        if not isinstance(info.get(name, {}), dict):
            raise ValueError(f"{name} in run.json is {info[name]!r}, and wanted is an object")
    values, generated = tables["values.parquet"], tables["generated.parquet"]
    pairs, skipped = tables["contributions.parquet"], tables["skipped.parquet"]
    train_ids = tuple(values["train_id"].to_pylist())
    generated_ids = tuple(generated["generated_id"].to_pylist())
    m = len(generated_ids)
    if (info["n_train"], info["n_generated"]) != (len(train_ids), m):
        raise ValueError("run.json counts other images than the tables hold")
    expected = np.repeat(np.asarray(generated_ids, dtype=object), len(pairs) // max(1, m))
    if not np.array_equal(expected, pairs["generated_id"].to_numpy()):
        raise ValueError("contributions.parquet is not grouped by the ids of generated.parquet")
    row_of = {name: row for row, name in enumerate(train_ids)}
    rows = np.array([row_of[name] for name in pairs["train_id"].to_pylist()], dtype=np.int64)
    contributions = Contributions(
        rows=rows.reshape(m, -1),
        distances=pairs["distance"].to_numpy().reshape(m, -1),
        scores=pairs["score"].to_numpy().reshape(m, -1),
        n_train=len(train_ids),
    )
    keys = _keys(tables.get(INPUTS_FILE), train_ids, generated_ids)
    copies = tables.get(DUPLICATES_FILE)
    return RunContent(
        train_ids=train_ids,
        train_labels=_known(values["label"].to_pylist()),
        generated_ids=generated_ids,
        generated_labels=_known(generated["label"].to_pylist()),
        quality=generated["quality"].to_numpy(),
        match_p=generated["match_p"].to_numpy() if "match_p" in generated.column_names else None,
        contributions=contributions,
        skipped=tuple((row["set"], Skip(row["id"], row["reason"])) for row in skipped.to_pylist()),
        info=info,
        train_keys=keys and keys[: len(train_ids)],
        generated_keys=keys and keys[len(train_ids) :],
        clusters=None if copies is None else Clusters.of_table(copies, train_ids),
    )


def _keys(
    inputs: pa.Table | None, train_ids: tuple[str, ...], generated_ids: tuple[str, ...]
) -> tuple[str, ...] | None:
    """Content keys of training, then of generated images."""
    if inputs is None:
        return None
    if tuple(inputs["id"].to_pylist()) != (*train_ids, *generated_ids):
        raise ValueError(f"{INPUTS_FILE} lists other images than the other tables")
    return tuple(inputs["content_key"].to_pylist())


def _known(labels: list[str | None]) -> tuple[str | None, ...] | None:
    return tuple(labels) if any(label is not None for label in labels) else None
