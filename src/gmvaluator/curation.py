"""Training images to look at again: of the lowest value, off the manifold, or there twice.

The folder that `export_curation` writes is read by FiftyOne (`fiftyone.types.CSVDataset`: `data/`
and `labels.csv`) and by Hugging Face datasets (`imagefolder`: `metadata.csv`); `curation.parquet`
has the same columns with their types. An image has one row, whatever it is listed for.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.engine.trained import Fitted
from gmvaluator.errors import ImageError, InputError
from gmvaluator.files.atomic import check_output, publish_folder
from gmvaluator.geometry import NEIGHBOURS, blocks, pair_squared
from gmvaluator.images.sources.base import image_format
from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.matching.recall import build_index, choose_index
from gmvaluator.progress import Progress, Silent, as_progress
from gmvaluator.runs.folder import Run, open_run
from gmvaluator.valuator import GMValuator

MARKER = "curation.json"
REASONS = ("lowest-value", "off-manifold", "duplicate")
DEFAULT_LOWEST, DEFAULT_OFF_MANIFOLD = "5%", "1%"
COLUMNS = {
    "train_id": "string",
    "label": "string",
    "value": "float64",
    "rank": "int64",
    "reason": "string",
    "lowest_value": "bool",
    "off_manifold": "bool",
    "duplicate": "bool",
    "nearest_distance": "float32",
    "cluster": "int64",
    "duplicate_of": "string",
    "duplicate_distance": "float32",
    "state": "string",
    "content_key": "string",
}


@dataclass(frozen=True, eq=False)
class Curation:
    """What of a run's n training images is listed, and why.

    Attributes:
        run: that the lists are of.
        lowest: rows of the lowest values, lowest first.
        off_manifold: rows of those farthest from all others, farthest first.
        duplicates: rows of images that another one stands for.
        nearest: (n,) float32 distance to the nearest other image in the recall space; NaN where it
            was not asked for, and of copies that another image stands for.
        clusters: copies; None where the run says nothing of them.
    """

    run: Run
    lowest: NDArray[np.int64]
    off_manifold: NDArray[np.int64]
    duplicates: NDArray[np.int64]
    nearest: NDArray[np.float32]
    clusters: Clusters | None

    @property
    def listed(self) -> NDArray[np.int64]:
        """Rows that are on a list, in the order of the training set."""
        return np.unique(np.concatenate([self.lowest, self.off_manifold, self.duplicates]))

    def rows(self) -> list[dict[str, Any]]:
        """A row of `COLUMNS` for each listed image."""
        valuation = self.run.valuation
        lists = [set(part.tolist()) for part in (self.lowest, self.off_manifold, self.duplicates)]
        labels, keys = valuation.train_labels, valuation.train_keys
        numbers = _cluster_numbers(self.clusters)
        found = []
        for row in self.listed.tolist():
            on = [row in each for each in lists]
            leader = None if self.clusters is None else int(self.clusters.representatives[row])
            distance = float(self.nearest[row])
            found.append(
                {
                    "train_id": valuation.train_ids[row],
                    "label": None if labels is None else labels[row],
                    "value": float(valuation.values[row]),
                    "rank": int(valuation.ranks[row]),
                    "reason": ";".join(r for r, yes in zip(REASONS, on, strict=True) if yes),
                    "lowest_value": on[0],
                    "off_manifold": on[1],
                    "duplicate": on[2],
                    "nearest_distance": None if np.isnan(distance) else distance,
                    "cluster": None if leader is None else numbers.get(leader),
                    "duplicate_of": valuation.train_ids[leader]
                    if on[2] and leader is not None
                    else None,
                    "duplicate_distance": float(self.clusters.distances[row])
                    if on[2] and self.clusters is not None
                    else None,
                    "state": self.run.train.state(row),
                    "content_key": None if keys is None else keys[row],
                }
            )
        return found

    def as_json(self) -> dict[str, Any]:
        """Counts and method, as in `curation.json`."""
        return {
            "run": str(self.run.folder),
            "seal": self.run.seal,
            "n_train": len(self.run.valuation.train_ids),
            "listed": len(self.listed),
            "lowest_value": len(self.lowest),
            "off_manifold": len(self.off_manifold),
            "duplicate": len(self.duplicates),
            "off_manifold_method": "distance to the nearest other training image in the run's "
            "recall space; copies count once",
        }


def parse_amount(text: str, n: int, option: str) -> int:
    """How many of n images `5%` or `20` asks for; a share is rounded up.

    Raises:
        InputError: neither, below 0, or more than there are.
    """
    number = text.strip().removesuffix("%")
    try:
        amount = float(number) if text.strip().endswith("%") else int(number)
    except ValueError:
        amount = -1
    if text.strip().endswith("%"):
        if 0 <= amount <= 100:
            return int(np.ceil(n * amount / 100 - 1e-9))
    elif 0 <= amount <= n:
        return int(amount)
    raise InputError(
        f"{option} {text!r} of {n} training images; pass a share such as 5% or a number up to {n}"
    )


def curate_run(
    run: str | Path,
    *,
    lowest: str = DEFAULT_LOWEST,
    off_manifold: str = DEFAULT_OFF_MANIFOLD,
    train: object = None,
    progress: bool | Progress = False,
    **changes: Any,
) -> Curation:
    """List a run's training images of the lowest value, off the manifold, and there twice.

    Off the manifold are those farthest from all other training images in the run's recall space.
    The run is fitted again for it (from the cache, where its vectors are kept), unless it asks for
    none. Duplicates are the run's own (`duplicates.parquet`), or images of equal content.

    Args:
        run: run folder.
        lowest, off_manifold: how many, as a share (`5%`) or a number.
        train: the training images, where they are no longer where the run had them.
        progress: as for `GMValuator`.
        changes: settings for fitting again, such as `cache` or `device`.

    Raises:
        InputError: amounts that cannot be read, or training images that are not at hand.
        RunError: no run is there, or its training images are others now.
    """
    opened = open_run(run, train=train)
    valuation = opened.valuation
    n = len(valuation.train_ids)
    n_lowest = parse_amount(lowest, n, "--lowest")
    n_off = parse_amount(off_manifold, n, "--off-manifold")
    nearest = np.full(n, np.nan, dtype=np.float32)
    if n_off:
        fitted = GMValuator.refit(run, train=train, null=None, progress=progress, **changes).fitted_
        if fitted is not None:
            kept = fitted.in_whole(np.arange(len(fitted.vectors)))
            nearest[kept] = nearest_other(fitted, progress=as_progress(progress))
    known = np.flatnonzero(~np.isnan(nearest))
    farthest = known[np.argsort(-nearest[known], kind="stable")]
    clusters = valuation.clusters or _by_content(valuation.train_keys)
    copies = np.empty(0, dtype=np.int64)
    if clusters is not None:
        copies = np.flatnonzero(clusters.representatives != np.arange(n))
    return Curation(
        run=opened,
        lowest=np.argsort(-valuation.ranks, kind="stable")[:n_lowest],
        off_manifold=farthest[:n_off],
        duplicates=copies,
        nearest=nearest,
        clusters=clusters,
    )


def nearest_other(fitted: Fitted, *, progress: Progress | None = None) -> NDArray[np.float32]:
    """(c,) distance of each distinct training image to the nearest that differs from it.

    In the (first) recall space, in its metric's unit. Exact search while it takes a minute or so,
    else product quantization finds the neighbours and the distances are exact: no smaller than the
    true ones. NaN where an image has no other among its nearest.
    """
    vectors = fitted.vectors
    n, dim = vectors.shape
    count = min(NEIGHBOURS, n)
    index = build_index(vectors, choose_index(n, n, dim), order=fitted.order)
    found = np.full(n, np.nan, dtype=np.float32)
    with (progress or Silent()).stage("nearest other images", n) as advance:
        for some in blocks(n, 4 * dim):
            asking = np.arange(some.start, some.stop)
            _, rows = index.search(vectors[some], count)
            squared = pair_squared(vectors, np.repeat(asking, count), vectors, rows.ravel())
            squared = np.where(squared > 0, squared, np.inf).reshape(rows.shape).min(axis=1)
            known = np.isfinite(squared)
            found[asking[known]] = fitted.space.distance(squared[known])
            advance(len(asking))
    return found


def check_curation_output(path: str | Path, *, overwrite: bool) -> None:
    """Refuse a folder before the work is done; see `publishing.check_output`."""
    check_output(Path(path), MARKER, overwrite=overwrite)


def export_curation(
    curation: Curation, path: str | Path, *, images: bool = True, overwrite: bool = False
) -> dict[str, Any]:
    """Write the lists, and the listed images, to a folder; returns what `curation.json` says.

    Images that are missing, unreadable or changed since the run are listed in `curation.parquet`
    with that state, and are not exported.

    Args:
        curation: what `curate` found.
        path: folder to write.
        images: copy the listed images to `data/`, which FiftyOne and datasets read them from.
        overwrite: replace an earlier export.

    Raises:
        RunError: the folder holds something else, or cannot be written.
    """
    rows = curation.rows()
    with publish_folder(Path(path), MARKER, overwrite=overwrite) as folder:
        names = _write_images(curation, rows, folder / "data") if images else {}
        for row in rows:
            row["file_name"] = names.get(row["train_id"])
        _write_parquet(rows, folder / "curation.parquet")
        shown = [row for row in rows if row["file_name"] is not None]
        if images:
            columns = [name for name in COLUMNS if name != "state"]
            _write_csv(
                [{**row, "file_name": f"data/{row['file_name']}"} for row in shown],
                ["file_name", *columns],
                folder / "metadata.csv",
            )
            _write_csv(
                [{**row, "filepath": row["file_name"]} for row in shown],
                ["filepath", *columns],
                folder / "labels.csv",
            )
        told = curation.as_json() | {
            "images": len(shown),
            "left_out": sum(row["state"] not in ("ok", "unknown") for row in rows),
        }
        text = json.dumps(told, indent=2, ensure_ascii=False)
        (folder / MARKER).write_text(text + "\n", encoding="utf-8")
    return told


def _write_images(
    curation: Curation, rows: Sequence[Mapping[str, Any]], folder: Path
) -> dict[str, str]:
    """File name of each image that is still what was valued, by id."""
    side = curation.run.train
    folder.mkdir()
    names: dict[str, str] = {}
    if side.images is None:
        return names
    for number, row in zip(curation.listed.tolist(), rows, strict=True):
        if row["state"] not in ("ok", "unknown"):
            continue
        try:
            content = side.images.read_bytes(int(side.rows[number]))
        except ImageError:
            continue
        # FiftyOne and datasets know images by their suffix
        suffix = (image_format(content[:16]) or "PNG").lower()
        name = f"{number:07d}.{'jpg' if suffix == 'jpeg' else suffix}"
        (folder / name).write_bytes(content)
        names[row["train_id"]] = name
    return names


def _write_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], file: Path) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"file_name": "string", **COLUMNS}
    columns = {
        name: pa.array([row[name] for row in rows], pa.type_for_alias(kind))
        for name, kind in types.items()
    }
    pq.write_table(pa.table(columns), file)


def _by_content(keys: Sequence[str] | None) -> Clusters | None:
    """Clusters of images of equal content, where the run recorded it."""
    if keys is None:
        return None
    first: dict[str, int] = {}
    return Clusters.exact(np.array([first.setdefault(key, i) for i, key in enumerate(keys)]))


def _cluster_numbers(clusters: Clusters | None) -> dict[int, int]:
    """Number of each cluster of two or more by its representative, as in `duplicates.parquet`."""
    if clusters is None:
        return {}
    leaders = clusters.kept[clusters.sizes[clusters.kept] > 1]
    return {int(leader): number for number, leader in enumerate(leaders)}
