"""Index folders: what fitting learned, written to files and read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.base import Encoder, arithmetic_of
from gmvaluator.engine.context import Context
from gmvaluator.engine.kept_results import (
    DESIGN,
    as_arrays,
    learn_results,
    read_settings,
    restore,
)
from gmvaluator.engine.kept_vectors import keep_vectors, open_vectors
from gmvaluator.engine.trained import Trained, TrainingSet, distinct_images
from gmvaluator.errors import RunError
from gmvaluator.files.atomic import publish_folder
from gmvaluator.files.mapped import map_arrays
from gmvaluator.files.records import MALFORMED, write_record
from gmvaluator.geometry import Space, Vectors
from gmvaluator.images import READING_RULES, Skip
from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.matching.placed import PlacedSet, RecallSpace
from gmvaluator.matching.rerank import Term
from gmvaluator.places import INDEX_FOLDER
from gmvaluator.runs.tables import DUPLICATES_FILE
from gmvaluator.scoring.quality import RealismReference

if TYPE_CHECKING:
    import pyarrow as pa

INDEX_MARKER = INDEX_FOLDER.files[0]
FORMAT = 1


def save_trained(
    trained: Trained,
    settings: dict[str, Any],
    path: Path,
    context: Context,
    *,
    overwrite: bool = False,
) -> None:
    """Write an index folder: index.json, train.parquet, skipped.parquet, vectors.safetensors.

    Also duplicates.parquet, where copies were looked for, and what a picture is matched by: the
    vectors of the re-rank where they are short, and `kept_results`.

    Raises:
        RunError: the folder holds another index (unless `overwrite`), or cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.numpy import save_file

    train = trained.train
    with publish_folder(path, INDEX_MARKER, overwrite=overwrite) as folder:
        labels = train.labels if train.labels is not None else [None] * len(train.ids)
        columns = {
            "train_id": pa.array(train.ids, pa.string()),
            "label": pa.array(labels, pa.string()),
            "row": pa.array(train.rows),
            "key": pa.array(train.keys, pa.string()),
        }
        if trained.clusters is not None:
            pq.write_table(trained.clusters.table(train.ids), folder / DUPLICATES_FILE)
        pq.write_table(pa.table(columns), folder / "train.parquet")
        skipped = {
            "id": pa.array([skip.id for skip in train.skipped], pa.string()),
            "reason": pa.array([skip.reason for skip in train.skipped], pa.string()),
        }
        pq.write_table(pa.table(skipped), folder / "skipped.parquet")
        kept_vectors = keep_vectors(context, trained, folder)
        learn_results(context, trained)
        results, result_arrays = as_arrays(trained.memo)
        save_file(_arrays(trained) | result_arrays, folder / "vectors.safetensors")
        second = trained.spaces[1].space.metric if len(trained.spaces) > 1 else None
        marker = {
            "format": FORMAT,
            "settings": settings,
            "location": train.location,
            "fingerprint": train.fingerprint,
            "metric": trained.space.metric,
            "second_metric": second,
            "terms": [
                {"name": term.encoder.name, "metric": term.space.metric, "scale": term.scale}
                | ({} if term.spacing is None else {"spacing": term.spacing})
                for term in trained.terms
            ],
            "encoders": trained.encoders,
            "arithmetic": {
                space.encoder.name: arithmetic_of(space.encoder) for space in trained.spaces
            },
            "reading": READING_RULES,
            "weights": trained.weights,
            "seconds": trained.seconds,
            "kept_vectors": kept_vectors,
            "results": {"design": DESIGN, "entries": results},
        }
        write_record(marker, folder / INDEX_MARKER)


def load_trained(folder: Path, marker: Mapping[str, Any], context: Context) -> Trained:
    """Read an index folder.

    The images are not at hand afterwards (`Trained.placed.images` is None).

    Args:
        folder: of the index.
        marker: content of its `index.json`.
        context: with the encoders that made the index (`check_encoders`).

    Raises:
        RunError: another format, or a file is missing, damaged or of another index.
    """
    from safetensors import SafetensorError

    if marker.get("format") != FORMAT:
        raise RunError(
            f"{folder} has index format {marker.get('format')}, this version reads {FORMAT}; "
            "make the index again"
        )
    try:
        columns = _table(folder / "train.parquet").to_pydict()
        skipped = _table(folder / "skipped.parquet").to_pylist()
        train = _training_set(marker, columns, skipped)
        clusters = None
        # indexes of versions that looked for no copies record no dedup
        if marker["settings"].get("dedup", "none") != "none":
            clusters = Clusters.of_table(_table(folder / DUPLICATES_FILE), train.ids)
        arrays = map_arrays(folder / "vectors.safetensors")
        trained = _assemble(marker, arrays, train, clusters, context)
        trained = _with_kept(trained, folder, marker, arrays, context)
        same = trained.train.fingerprint == marker["fingerprint"]
    except (OSError, *MALFORMED, SafetensorError) as error:
        raise RunError(f"index {folder} is damaged ({error}); make the index again") from error
    sizes = {len(trained.order), *map(len, trained.placed.vectors.values())}
    if not same or sizes != {len(trained.distinct.ids)}:
        raise RunError(f"the files of index {folder} do not fit together; make the index again")
    return trained


def check_encoders(folder: Path, marker: Mapping[str, Any], context: Context) -> None:
    """Refuse an index that other encoders made: another name, weight, size or arithmetic.

    Raises:
        RunError: saying which encoder differs.
    """
    recorded = marker.get("encoders")
    if not isinstance(recorded, dict):
        raise RunError(f"index {folder} is damaged (it lists no encoders); make the index again")
    for encoder in context.all_encoders().values():
        if recorded.get(encoder.name) != encoder.fingerprint:
            raise RunError(
                f"index {folder} was made with another {encoder.name} (weights or input size "
                "differ); make the index again"
            )
    _check_precision(folder, marker.get("arithmetic"), context.encoders)
    # indexes of earlier versions record no rules
    if marker.get("reading", READING_RULES) != READING_RULES:
        raise RunError(
            f"index {folder} was made by a version that reads image files otherwise; make the "
            "index again"
        )
    # an encoder of the re-rank may be recorded too, but the vectors are those of the recall
    recall = list(recorded)[: len(context.encoders)]
    if recall != [encoder.name for encoder in context.encoders]:
        raise RunError(
            f"index {folder} was made for recall by {' and '.join(recall)}; make an index with "
            "these settings"
        )


def _check_precision(folder: Path, recorded: object, encoders: Sequence[Encoder]) -> None:
    """Refuse vectors of another precision, such as those of a GPU's half precision on a CPU.

    Args:
        recorded: arithmetic by encoder; indexes of earlier versions record none.
        encoders: of the recall.
    """
    if recorded is None:
        return
    if not isinstance(recorded, dict):
        raise RunError(f"index {folder} is damaged (arithmetic: {recorded!r}); make it again")
    for encoder in encoders:
        made, now = recorded.get(encoder.name), arithmetic_of(encoder)
        if made and now and str(made).rpartition("-")[2] != now.rpartition("-")[2]:
            raise RunError(
                f"the {encoder.name} vectors of index {folder} were computed by {made}, and new "
                f"ones would be by {now}; make the index again, or pass the device that made it"
            )


def _arrays(trained: Trained) -> dict[str, NDArray[Any]]:
    """Arrays of `vectors.safetensors` by name."""
    arrays: dict[str, NDArray[Any]] = {"order": trained.order}
    for prefix, recall_space in zip(("", "second."), trained.spaces, strict=False):
        arrays[f"{prefix}vectors"] = recall_space.vectors
        if recall_space.space.mean is not None:
            arrays[f"{prefix}mean"] = recall_space.space.mean
    for number, term in enumerate(trained.terms):
        if term.space.mean is not None:
            arrays[f"term{number}.mean"] = term.space.mean
    if trained.realism is not None:
        arrays["realism.rows"] = trained.realism.rows
        arrays["realism.radii"] = trained.realism.radii
        # spread over a long file, they would take most of it into memory
        arrays["realism.vectors"] = trained.vectors[trained.realism.rows]
    return arrays


def _training_set(
    marker: Mapping[str, Any], columns: dict[str, list[Any]], skipped: list[dict[str, str]]
) -> TrainingSet:
    labels = columns["label"]
    return TrainingSet(
        ids=tuple(columns["train_id"]),
        labels=tuple(labels) if any(label is not None for label in labels) else None,
        rows=np.asarray(columns["row"], dtype=np.int64),
        keys=tuple(columns["key"]),
        location=marker["location"],
        skipped=tuple(Skip(row["id"], row["reason"]) for row in skipped),
    )


def _assemble(
    marker: Mapping[str, Any],
    arrays: dict[str, NDArray[Any]],
    train: TrainingSet,
    clusters: Clusters | None,
    context: Context,
) -> Trained:
    # indexes of versions that had one recall space record no second metric
    metrics = (marker["metric"], marker.get("second_metric"))
    spaces = tuple(
        RecallSpace(
            encoder,
            _space(encoder, metric, arrays.get(f"{prefix}mean")),
            arrays[f"{prefix}vectors"],
        )
        for encoder, metric, prefix in zip(context.encoders, metrics, ("", "second."), strict=False)
    )
    recorded = marker["terms"]
    # a single distance is taken as it is, whatever its weight
    weights = context.rerank_weights if len(recorded) > 1 else (1.0,) * len(recorded)
    terms = tuple(
        Term(
            encoder,
            _space(encoder, term["metric"], arrays.get(f"term{number}.mean")),
            weight,
            float(term["scale"]),
            context.settings.mixing,
            term.get("spacing"),
        )
        for number, (encoder, term, weight) in enumerate(
            zip(context.rerankers, recorded, weights, strict=True)
        )
    )
    realism = None
    if "realism.rows" in arrays:
        realism = RealismReference(
            arrays["realism.rows"], arrays["realism.radii"], arrays.get("realism.vectors")
        )
    distinct = distinct_images(train, clusters)
    vectors: dict[str, Vectors] = {space.encoder.fingerprint: space.vectors for space in spaces}
    return Trained(
        train=train,
        placed=PlacedSet(
            None, distinct.rows, distinct.keys, vectors, kind="train", skipped=train.skipped
        ),
        spaces=spaces,
        order=arrays["order"],
        terms=terms,
        realism=realism,
        encoders=dict(marker["encoders"]),
        weights=dict(marker["weights"]),
        clusters=clusters,
    )


def _with_kept(
    trained: Trained,
    folder: Path,
    marker: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    context: Context,
) -> Trained:
    """The same with what the index keeps for later pictures; earlier versions kept nothing."""
    vectors = open_vectors(folder, marker.get("kept_vectors", {}))
    results = marker.get("results", {"design": None})
    same = read_settings(context.settings.as_json()) == read_settings(marker["settings"])
    if same and results["design"] == DESIGN:
        restore(trained.memo, results["entries"], arrays)
    placed = replace(trained.placed, vectors={**vectors, **trained.placed.vectors})
    return replace(trained, placed=placed)


def _table(file: Path) -> pa.Table:
    """A Parquet file. `pyarrow.parquet.read_table` would import pandas."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:
        return opened.read()


def _space(encoder: Encoder, metric: object, mean: Vectors | None) -> Space:
    """The recorded space of an encoder.

    Raises:
        ValueError: the metric recorded is not the encoder's.
    """
    if metric != encoder.metric:
        raise ValueError(f"metric {metric!r} of {encoder.name}, whose metric is {encoder.metric}")
    return Space(encoder.metric, mean)
