"""Training images to look at again: from a run to lists of images, and a folder of them.

An image is listed for a low value, for a place off the manifold, or as a copy of another image.
Equal images are listed all or not at all: a cut among them would follow the order of file names.
FiftyOne reads the folder of `export_curation` as a `fiftyone.types.CSVDataset` (`data/` and
`labels.csv`); Hugging Face datasets reads it as an `imagefolder` (`metadata.csv`).
`curation.parquet` has the same columns with their types. An image has one row for all reasons.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.engine.trained import Trained
from gmvaluator.errors import ImageError, InputError, either
from gmvaluator.files.atomic import publish_folder
from gmvaluator.files.records import write_record
from gmvaluator.geometry import NEIGHBOURS, blocks, pair_squared
from gmvaluator.images import ImageSource
from gmvaluator.images.sources.base import image_format
from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.matching.search.build import build_index, choose_index
from gmvaluator.places import CURATION_FOLDER
from gmvaluator.progress import Progress, Silent, as_progress
from gmvaluator.runs.folder import Run, open_run
from gmvaluator.runs.ranking import equally_low, idle_text
from gmvaluator.shown import short_repr
from gmvaluator.valuator import GMValuator

MARKER = CURATION_FOLDER.files[0]
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
    "nearest_generated": "float32",
}


@short_repr
@dataclass(frozen=True, eq=False)
class Curation:
    """Lists of a run's n training images.

    Attributes:
        run: the opened run.
        lowest: rows of the images of the lowest values, lowest first. Of equal values those come
            first that came less near to a generated image (`Valuation.nearest_distances`).
        wanted: how many of the lowest values were wanted; all that equal the last one are listed.
        equal: how many equal that last one.
        off_manifold: rows of the images farthest from all others, farthest first.
        duplicates: rows of the images that a copy stands for.
        nearest: (n,) float32 distance to the nearest other image in the recall space; NaN for
            images that a copy stands for, and for all images where `off_manifold` is not wanted.
        clusters: copies; None where the run recorded neither copies nor contents.
    """

    run: Run
    lowest: NDArray[np.int64]
    wanted: int
    equal: int
    off_manifold: NDArray[np.int64]
    duplicates: NDArray[np.int64]
    nearest: NDArray[np.float32]
    clusters: Clusters | None

    @property
    def listed(self) -> NDArray[np.int64]:
        """Rows of all lists, ascending."""
        return np.unique(np.concatenate([self.lowest, self.off_manifold, self.duplicates]))

    def rows(self) -> list[dict[str, Any]]:
        """A row of `COLUMNS` for each listed image."""
        valuation = self.run.valuation
        ids, labels, keys = valuation.train_ids, valuation.train_labels, valuation.train_keys
        lists = [set(part.tolist()) for part in (self.lowest, self.off_manifold, self.duplicates)]
        numbers = _cluster_numbers(self.clusters)
        rows = []
        for row in self.listed.tolist():
            reasons = [row in part for part in lists]
            row_of_table: dict[str, Any] = dict.fromkeys(COLUMNS) | {
                "train_id": ids[row],
                "label": None if labels is None else labels[row],
                "value": float(valuation.values[row]),
                "rank": int(valuation.ranks[row]),
                "reason": ";".join(itertools.compress(REASONS, reasons)),
                "lowest_value": reasons[0],
                "off_manifold": reasons[1],
                "duplicate": reasons[2],
                "nearest_distance": _known(self.nearest, row),
                "state": self.run.train.state(row),
                "content_key": None if keys is None else keys[row],
                "nearest_generated": _known(valuation.nearest_distances, row),
            }
            if self.clusters is not None:
                representative = int(self.clusters.representatives[row])
                row_of_table["cluster"] = numbers.get(representative)
                if reasons[2]:
                    row_of_table["duplicate_of"] = ids[representative]
                    row_of_table["duplicate_distance"] = float(self.clusters.distances[row])
            rows.append(row_of_table)
        return rows

    def as_json(self) -> dict[str, Any]:
        """Counts and method, as in `curation.json`."""
        return {
            "run": str(self.run.folder),
            "seal": self.run.seal,
            "n_train": len(self.run.valuation.train_ids),
            "contributed_to_nothing": int((self.run.valuation.n_supported == 0).sum()),
            "listed": len(self.listed),
            "lowest_value": len(self.lowest),
            "lowest_value_wanted": self.wanted,
            "lowest_value_equal": self.equal,
            "off_manifold": len(self.off_manifold),
            "duplicate": len(self.duplicates),
            "off_manifold_method": "distance to the nearest other training image in the "
            f"{'run' if self.run.valuation.record.settings.by_gmvaluator else 'default encoder'}'s "
            "recall space; copies count once",
        }

    def notes(self) -> tuple[str, ...]:
        """Sentences on equal values: how many images contributed to nothing, and what was cut."""
        valuation = self.run.valuation
        notes = [idle_text(valuation.n_supported, valuation.ranks)]
        if len(self.lowest) > self.wanted:
            last = self.lowest[-1]
            what = f"value {valuation.values[last]:.5g}"
            if valuation.nearest_distances is not None:
                nearest = valuation.nearest_distances[last]
                what += (
                    ", and never among the candidates of a generated image"
                    if np.isnan(nearest)
                    else f", and {nearest:.5g} from the nearest generated image"
                )
            which = "all" if self.equal == len(self.lowest) else f"the last {self.equal:,}"
            notes.append(
                f"{len(self.lowest):,} images of the lowest value are listed and not "
                f"{self.wanted:,}: {which} of them are equal ({what}), and equal images are listed "
                "all or not at all"
            )
        return tuple(note for note in notes if note)


def parse_amount(text: str | int, n: int, option: str) -> int:
    """A number of images from a share of n (`5%`, rounded up) or a number (`20`).

    Args:
        text: the share or number.
        n: number of images.
        option: name of the option, for messages.

    Raises:
        InputError: `text` is neither, below 0, or more than n.
    """
    number, percent, rest = str(text).strip().partition("%")
    try:
        amount = n * float(number) / 100 - 1e-9 if percent else int(number)
    except ValueError:
        amount = np.nan
    if rest or not -1e-9 <= amount <= n:
        raise InputError(
            f"{option} {text!r} of {n} training images; pass a share such as 5% or a number up to "
            f"{n}"
        )
    return math.ceil(amount)


def curate_run(
    run: str | Path,
    *,
    lowest: str | int = DEFAULT_LOWEST,
    off_manifold: str | int = DEFAULT_OFF_MANIFOLD,
    train: ImageSource | None = None,
    progress: bool | Progress = False,
    **changes: Any,
) -> Curation:
    """List a run's training images of the lowest value, off the manifold, and with copies.

    Images off the manifold are those farthest from all other training images in the run's recall
    space, or in that of the default encoder where the scores are not by GMValuator. Finding them
    fits the run again, with vectors from the cache where they are there.
    Duplicates are those of `duplicates.parquet`, or images of equal content.

    Args:
        run: run folder.
        lowest, off_manifold: number of images, as a share (`5%`) or a number (`20`). With
            `off_manifold` 0 nothing is fitted. All images that are as low as the last of `lowest`
            are listed with it.
        train: any source of `ImageSet`. Default: the recorded source.
        progress: as for `GMValuator`.
        changes: settings for fitting again, such as `cache` or `device`.

    Raises:
        InputError: an amount cannot be read, or the training images cannot be opened.
        RunError: no run is there, or its training images have changed.
    """
    opened = open_run(run, train=train)
    valuation = opened.valuation
    n = len(valuation.train_ids)
    n_lowest = parse_amount(lowest, n, "--lowest")
    n_off = parse_amount(off_manifold, n, "--off-manifold")
    nearest = np.full(n, np.nan, dtype=np.float32)
    if n_off:
        fitted = _fitted_again(opened, train, progress=progress, **changes).fitted_
        if fitted is not None:
            distinct = fitted.in_whole(np.arange(len(fitted.vectors)))
            nearest[distinct] = nearest_other(fitted, progress=as_progress(progress))
    measured = np.flatnonzero(~np.isnan(nearest))
    farthest = measured[np.argsort(-nearest[measured], kind="stable")]
    clusters = valuation.clusters or _by_content(valuation.train_keys)
    copies = np.empty(0, dtype=np.int64)
    if clusters is not None:
        copies = np.flatnonzero(clusters.representatives != np.arange(n))
    low, equal = equally_low(valuation.values, valuation.nearest_distances, n_lowest)
    return Curation(
        run=opened,
        lowest=low,
        wanted=n_lowest,
        equal=equal,
        off_manifold=farthest[:n_off],
        duplicates=copies,
        nearest=nearest,
        clusters=clusters,
    )


def _fitted_again(run: Run, train: ImageSource | None, **changes: Any) -> GMValuator:
    """The run's valuator; the default encoder's where the scores are not by GMValuator."""
    if run.valuation.record.settings.by_gmvaluator:
        return GMValuator.refit(run.folder, train=train, null="off", **changes)
    rows, images = run.train.rows, run.train.images
    if images is None or (rows < 0).any():
        raise InputError(
            f"images off the manifold cannot be looked for: {run.train.trouble}; pass the training "
            f"images ({either('train=…', '--train-images')}), or "
            f"{either('off_manifold=0', '--off-manifold 0')}"
        )
    plain = GMValuator(rerank="none", quality="none", null="off", k=1, candidates=1, **changes)
    return plain.fit(images.select(rows), strict=True)


def nearest_other(fitted: Trained, *, progress: Progress | None = None) -> NDArray[np.float32]:
    """(c,) distance of each distinct training image to the nearest one that differs from it.

    The distance is that of the (first) recall space. Larger sets are searched by product
    quantization; a distance is then exact, but it may be that of a farther image. NaN where an
    image has no other among its `NEIGHBOURS` nearest.
    """
    vectors = fitted.vectors
    n, dim = vectors.shape
    count = min(NEIGHBOURS, n)
    index = build_index(vectors, choose_index(n, n, dim), order=fitted.order)
    nearest = np.full(n, np.inf, dtype=np.float32)
    with (progress or Silent()).stage("nearest other images", n) as advance:
        for block in blocks(n, 4 * dim):
            rows = np.arange(block.start, block.stop)
            _, others = index.search(vectors[block], count)
            squared = pair_squared(vectors, np.repeat(rows, count), vectors, others.ravel())
            nearest[block] = np.where(squared > 0, squared, np.inf).reshape(-1, count).min(axis=1)
            advance(len(rows))
    has_other = np.isfinite(nearest)
    nearest[has_other] = fitted.space.distance(nearest[has_other])
    nearest[~has_other] = np.nan
    return nearest


def export_curation(
    curation: Curation, path: str | Path, *, images: bool = True, overwrite: bool = False
) -> dict[str, Any]:
    """Write the lists, and the listed images, to a folder.

    Images that are missing, unreadable or changed since the run are listed in `curation.parquet`
    with that state; they are not copied.

    Args:
        curation: result of `curate_run`.
        path: folder to write.
        images: copy the listed images to `data/`, where FiftyOne and datasets read them.
        overwrite: replace an earlier export.

    Returns:
        The content of `curation.json`.

    Raises:
        RunError: the folder holds something else, or cannot be written.
    """
    rows = curation.rows()
    with publish_folder(Path(path), MARKER, overwrite=overwrite) as folder:
        names = _write_images(curation, rows, folder / "data") if images else {}
        for row in rows:
            row["file_name"] = names.get(row["train_id"])
        _write_parquet(rows, folder / "curation.parquet")
        copied = [row for row in rows if row["file_name"] is not None]
        if images:
            columns = [name for name in COLUMNS if name != "state"]
            _write_csv(
                [{**row, "file_name": f"data/{row['file_name']}"} for row in copied],
                ["file_name", *columns],
                folder / "metadata.csv",
            )
            _write_csv(
                [{**row, "filepath": row["file_name"]} for row in copied],
                ["filepath", *columns],
                folder / "labels.csv",
            )
        summary = curation.as_json() | {
            "images": len(copied),
            "left_out": sum(row["state"] not in ("ok", "unknown") for row in rows),
        }
        (folder / "README.txt").write_text(_readme(curation), encoding="utf-8")
        write_record(summary, folder / MARKER)
    return summary


def _readme(curation: Curation) -> str:
    """What the folder is, for a person who was not told."""
    n = len(curation.run.valuation.train_ids)
    sentences = (
        f"These are training images to look at again: {len(curation.listed):,} of {n:,}",
        f"{len(curation.lowest):,} are of the lowest value, {len(curation.off_manifold):,} are the "
        f"farthest from all other training images, {len(curation.duplicates):,} are copies of "
        "others",
        *curation.notes(),
        "A low value says that the generated images at hand did not need an image, not that it is "
        "a bad one",
        "curation.parquet has all rows with their types; labels.csv is for FiftyOne, metadata.csv "
        "for Hugging Face datasets",
    )
    return "".join(f"{sentence}.\n" for sentence in sentences)


def _known(distances: NDArray[np.float32] | None, row: int) -> float | None:
    """The distance of a row; None where it is NaN, or none is known."""
    return None if distances is None or np.isnan(distances[row]) else float(distances[row])


def _write_images(
    curation: Curation, rows: Sequence[Mapping[str, Any]], folder: Path
) -> dict[str, str]:
    """File name of each copied image, by id; images that changed since the run are left out."""
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
        # FiftyOne and datasets recognise images by their suffix
        suffix = (image_format(content) or "PNG").lower()
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
    """Clusters of images of equal content; None where the run did not record the content."""
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
