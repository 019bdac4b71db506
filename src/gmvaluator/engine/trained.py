"""What fitting learns from a training set, and the index folder it is saved to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.embedding import Embeddings, Tally
from gmvaluator.errors import RunError
from gmvaluator.files.atomic import publish_folder
from gmvaluator.geometry import Space, Vectors
from gmvaluator.images import Skip, set_fingerprint
from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.runs.tables import DUPLICATES_FILE
from gmvaluator.scoring.quality import RealismReference

INDEX_MARKER = "index.json"
FORMAT = 1


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The readable training images, and the order that fixed samples of them are drawn in.

    Attributes:
        ids, labels: n of each (labels None where unknown).
        rows: (n,) row of each in the `ImageSet` it came from.
        keys: n content keys.
        location: where the set was read from; None for images in memory.
        skipped: what could not be read.
    """

    ids: tuple[str, ...]
    labels: tuple[str | None, ...] | None
    rows: NDArray[np.int64]
    keys: tuple[str, ...]
    location: str | None
    skipped: tuple[Skip, ...]

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """(n,) rows ordered by content: samples drawn so do not depend on how a set is listed."""
        by_key = sorted(range(len(self.keys)), key=lambda row: (self.keys[row], self.ids[row]))
        return np.asarray(by_key, dtype=np.int64)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over ids and contents."""
        return set_fingerprint(self.ids, self.keys)

    def select(self, kept: NDArray[np.int64]) -> TrainingSet:
        """Only some of its images."""
        return replace(
            self,
            ids=tuple(self.ids[row] for row in kept),
            labels=None if self.labels is None else tuple(self.labels[row] for row in kept),
            rows=self.rows[kept],
            keys=tuple(self.keys[row] for row in kept),
        )


@dataclass(frozen=True, eq=False)
class FittedTerm:
    """A re-rank distance as learned: the space's mean, and the scale it is divided by."""

    name: str
    space: Space
    scale: float


@dataclass(frozen=True, eq=False)
class RecallSpace:
    """A space that candidates are recalled in, and the (c, dim) training vectors placed in it."""

    space: Space
    vectors: Vectors


@dataclass(frozen=True, eq=False)
class Fitted:
    """Learned state of a `GMValuator`.

    Copies count once: c of the n training images do, one a cluster, and everything but `train`
    and `clusters` is about these.

    Attributes:
        train: the readable training images, all n.
        space: the recall space; the first, where there are two.
        vectors: (c, dim) float32 training vectors placed in it.
        second: the other recall space, where one was asked for.
        order: (c,) see `TrainingSet.order`.
        terms: the re-rank distances, in the settings' order.
        realism: reference of the realism score, where that is the quality.
        encoders: fingerprint of each encoder by name, those of the recall first.
        weights: sha256 of each weight file by name.
        seconds: fitting time by stage.
        tally: training images encoded, or found in the cache, while fitting.
        clusters: copies among the training images; None where they were not looked for.
        dedup: what was looked for: `none`, `exact` or `near`.
    """

    train: TrainingSet
    space: Space
    vectors: Vectors
    order: NDArray[np.int64]
    terms: tuple[FittedTerm, ...]
    realism: RealismReference | None
    encoders: dict[str, str]
    weights: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    second: RecallSpace | None = None
    clusters: Clusters | None = None
    dedup: str = "none"

    @cached_property
    def distinct(self) -> TrainingSet:
        """The c training images that count: all of them, or one a cluster."""
        if self.clusters is None or not self.clusters.copies:
            return self.train
        return self.train.select(self.clusters.kept)

    def in_whole(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of `train` from rows of `distinct`."""
        return rows if self.clusters is None else self.clusters.kept[rows]

    @property
    def spaces(self) -> tuple[RecallSpace, ...]:
        """All recall spaces, the first first."""
        return (RecallSpace(self.space, self.vectors), *([self.second] if self.second else []))

    @property
    def ties(self) -> NDArray[np.int64]:
        """(c,) rank of each training image in `order`; breaks equal distances."""
        ties = np.empty(len(self.order), dtype=np.int64)
        ties[self.order] = np.arange(len(self.order))
        return ties


def training_set(
    ids: Sequence[str],
    labels: Sequence[str | None] | None,
    location: str | None,
    embeddings: Embeddings,
) -> TrainingSet:
    """Keep ids and labels of the images that were readable."""
    rows = embeddings.rows
    return TrainingSet(
        ids=tuple(ids[row] for row in rows),
        labels=None if labels is None else tuple(labels[row] for row in rows),
        rows=rows,
        keys=embeddings.keys,
        location=location,
        skipped=embeddings.skipped,
    )


def save_fitted(
    fitted: Fitted, settings: dict[str, Any], path: Path, *, overwrite: bool = False
) -> None:
    """Write an index folder: index.json, train.parquet, skipped.parquet, vectors.safetensors.

    And duplicates.parquet, where copies were looked for.

    Raises:
        RunError: the folder holds another index (unless `overwrite`), or cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.numpy import save_file

    train = fitted.train
    with publish_folder(path, INDEX_MARKER, overwrite=overwrite) as folder:
        labels = train.labels if train.labels is not None else [None] * len(train.ids)
        columns = {
            "train_id": pa.array(train.ids, pa.string()),
            "label": pa.array(labels, pa.string()),
            "row": pa.array(train.rows),
            "key": pa.array(train.keys, pa.string()),
        }
        if fitted.clusters is not None:
            pq.write_table(fitted.clusters.table(train.ids), folder / DUPLICATES_FILE)
        pq.write_table(pa.table(columns), folder / "train.parquet")
        skipped = {
            "id": pa.array([skip.id for skip in train.skipped], pa.string()),
            "reason": pa.array([skip.reason for skip in train.skipped], pa.string()),
        }
        pq.write_table(pa.table(skipped), folder / "skipped.parquet")
        save_file(_arrays(fitted), folder / "vectors.safetensors")
        marker = {
            "format": FORMAT,
            "settings": settings,
            "location": train.location,
            "fingerprint": train.fingerprint,
            "metric": fitted.space.metric,
            "second_metric": fitted.second.space.metric if fitted.second else None,
            "terms": [
                {"name": term.name, "metric": term.space.metric, "scale": term.scale}
                for term in fitted.terms
            ],
            "encoders": fitted.encoders,
            "weights": fitted.weights,
            "seconds": fitted.seconds,
        }
        text = json.dumps(marker, indent=2, ensure_ascii=False)
        (folder / INDEX_MARKER).write_text(text + "\n", encoding="utf-8")


def load_fitted(folder: Path, marker: dict[str, Any]) -> Fitted:
    """Read an index folder whose `index.json` is `marker`.

    Raises:
        RunError: another format, or a file is missing, damaged or of another index.
    """
    import pyarrow.parquet as pq
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if marker.get("format") != FORMAT:
        raise RunError(
            f"{folder} has index format {marker.get('format')}, this version reads {FORMAT}; "
            "make the index again"
        )
    try:
        arrays = load_file(folder / "vectors.safetensors")
        columns = pq.read_table(folder / "train.parquet").to_pydict()
        skipped = pq.read_table(folder / "skipped.parquet").to_pylist()
        clusters = None
        # absent from indexes made before copies were looked for
        if marker["settings"].get("dedup", "none") != "none":
            copies = pq.read_table(folder / DUPLICATES_FILE)
            clusters = Clusters.of_table(copies, columns["train_id"])
        fitted = _assemble(marker, arrays, columns, skipped, clusters)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"index {folder} is damaged ({error}); make the index again") from error
    if fitted.train.fingerprint != marker["fingerprint"] or any(
        len(each.vectors) != len(fitted.distinct.ids) for each in fitted.spaces
    ):
        raise RunError(f"the files of index {folder} do not fit together; make the index again")
    return fitted


def _arrays(fitted: Fitted) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"vectors": fitted.vectors, "order": fitted.order}
    if fitted.space.mean is not None:
        arrays["mean"] = fitted.space.mean
    if fitted.second is not None:
        arrays["second.vectors"] = fitted.second.vectors
        if fitted.second.space.mean is not None:
            arrays["second.mean"] = fitted.second.space.mean
    for number, term in enumerate(fitted.terms):
        if term.space.mean is not None:
            arrays[f"term{number}.mean"] = term.space.mean
    if fitted.realism is not None:
        arrays["realism.rows"] = fitted.realism.rows
        arrays["realism.radii"] = fitted.realism.radii
    return arrays


def _assemble(
    marker: dict[str, Any],
    arrays: dict[str, NDArray[Any]],
    columns: dict[str, list[Any]],
    skipped: list[dict[str, str]],
    clusters: Clusters | None,
) -> Fitted:
    labels = columns["label"]
    train = TrainingSet(
        ids=tuple(columns["train_id"]),
        labels=tuple(labels) if any(label is not None for label in labels) else None,
        rows=np.asarray(columns["row"], dtype=np.int64),
        keys=tuple(columns["key"]),
        location=marker["location"],
        skipped=tuple(Skip(row["id"], row["reason"]) for row in skipped),
    )
    terms = tuple(
        FittedTerm(
            term["name"], Space(term["metric"], arrays.get(f"term{number}.mean")), term["scale"]
        )
        for number, term in enumerate(marker["terms"])
    )
    realism = None
    if "realism.rows" in arrays:
        realism = RealismReference(arrays["realism.rows"], arrays["realism.radii"])
    second = None
    # absent from indexes made before there was a second space
    if marker.get("second_metric") is not None:
        second = RecallSpace(
            Space(marker["second_metric"], arrays.get("second.mean")), arrays["second.vectors"]
        )
    return Fitted(
        train=train,
        space=Space(marker["metric"], arrays.get("mean")),
        vectors=arrays["vectors"],
        order=arrays["order"],
        terms=terms,
        realism=realism,
        encoders=marker["encoders"],
        weights=marker["weights"],
        seconds=marker["seconds"],
        second=second,
        clusters=clusters,
        dedup=marker["settings"].get("dedup", "none"),
    )
