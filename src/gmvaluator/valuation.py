"""The result of a valuation, and the run folder it is saved to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.clusters import Clusters
from gmvaluator.derived import drop_derived
from gmvaluator.errors import InputError, RunError
from gmvaluator.images import Skip
from gmvaluator.publishing import check_output, finish_interrupted, publish_folder
from gmvaluator.run_sides import RunSide, open_recorded
from gmvaluator.sealing import broken, recorded_files, sealed, unsealed
from gmvaluator.showing import html_table
from gmvaluator.values import Contributions, sum_values

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from matplotlib.figure import Figure

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
# rows that a notebook shows
SHOWN = 10


@dataclass(frozen=True)
class ContributorList:
    """The contributors of one generated image, best first.

    One that has copies (`Valuation.clusters`) stands for them, and its score is that of all of
    them together.

    Attributes:
        ids: k training ids.
        distances: (k,) float32, re-rank distance.
        scores: (k,) float64, V(x_i, x̂_j); they sum to the image's quality.
    """

    ids: tuple[str, ...]
    distances: NDArray[np.float32]
    scores: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Valuation:
    """Values of all training images, with the scores they are summed from.

    Copies within the training set count once where `clusters` says so: `contributions` has only
    the representative of each cluster, with the score of all of its images, and `values`,
    `score_matrix` and `n_supported` have every image.

    Attributes:
        train_ids, train_labels: of the n readable training images (labels None where unknown).
        generated_ids, generated_labels: of the m readable generated images.
        quality: (m,) float64 q_j.
        contributions: sparse scores.
        skipped: (`train`, `generated` or `holdout`, what was skipped and why).
        info: what `run.json` holds: settings, versions, weights, seconds, inputs.
        train_keys, generated_keys: the content key of each image (`ImageSet.content_key`); None
            where nothing recorded them.
        clusters: copies among the training images; None where all images counted (dedup none).
        match_p: (m,) float64, p-value of each generated image's match (`gmvaluator.conformal`):
            how often an image with no source in the training set matches as badly. None where that
            was not tested.
    """

    train_ids: tuple[str, ...]
    train_labels: tuple[str | None, ...] | None
    generated_ids: tuple[str, ...]
    generated_labels: tuple[str | None, ...] | None
    quality: NDArray[np.float64]
    contributions: Contributions
    skipped: tuple[tuple[str, Skip], ...]
    info: dict[str, Any]
    train_keys: tuple[str, ...] | None = None
    generated_keys: tuple[str, ...] | None = None
    clusters: Clusters | None = None
    match_p: NDArray[np.float64] | None = None

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(n,) φ_i in the order of `train_ids` (Eq. 5); copies share theirs equally."""
        values = sum_values(self.contributions)
        return values if self.clusters is None else self.clusters.shared(values)

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """(n,) rank of each training image, 1 = highest value; equal values by position."""
        ranks = np.empty(len(self.values), dtype=np.int64)
        ranks[np.argsort(-self.values, kind="stable")] = np.arange(1, len(self.values) + 1)
        return ranks

    @cached_property
    def n_supported(self) -> NDArray[np.int64]:
        """(n,) number of generated images each training image contributes to (score ≠ 0).

        An image contributes, with its share, wherever one of its copies does.
        """
        rows = self.contributions.rows[self.contributions.scores != 0]
        counts = np.bincount(rows, minlength=self.contributions.n_train)
        return counts if self.clusters is None else counts[self.clusters.representatives]

    @cached_property
    def unattributed(self) -> NDArray[np.float64]:
        """(m,) the part of each q_j that goes to no contributor: Σ_i V(x_i, x̂_j) + it = q_j.

        0 for all, unless the run was asked to test that (`null=True`).
        """
        told = self.info.get("unattributed", {})
        if self.match_p is None or not told.get("applied"):
            return np.zeros_like(self.quality)
        return np.where(self.match_p <= told["level"], self.quality, 0.0)

    def contributors(self, generated: int | str) -> ContributorList:
        """Contributors of a generated image, given by row number or id.

        Of copies the representative alone, with the score of all.

        Raises:
            InputError: no such generated image.
        """
        j = self._generated_row(generated)
        rows = self.contributions.rows[j]
        return ContributorList(
            ids=tuple(self.train_ids[row] for row in rows),
            distances=self.contributions.distances[j],
            scores=self.contributions.scores[j],
        )

    def score_matrix(self) -> NDArray[np.float64]:
        """(n, m) φ_{i,j} of every training and generated image, 0 for those not contributing.

        8 · n · m bytes. The orientation is that of the dattri library's metrics, which take
        `torch.from_numpy` of it; rows sum to `values`, and copies share a score equally. A valuer
        that scores the whole generated set at once (IF4GAN) has one column.
        """
        found = np.zeros((self.contributions.n_train, len(self.contributions.rows)))
        np.put_along_axis(found, self.contributions.rows.T, self.contributions.scores.T, axis=0)
        return found if self.clusters is None else self.clusters.shared(found)

    def to_pandas(self) -> pd.DataFrame:
        """The columns of `values.parquet` as a data frame, in the order of `train_ids`."""
        frame: pd.DataFrame = self._values_table().to_pandas()
        return frame

    def open_images(self, side: Literal["train", "generated"], given: object = None) -> RunSide:
        """The training or generated images, from where they were or from a set that is given.

        Raises:
            InputError: the set that was given cannot be opened.
        """
        of_train = side == "train"
        return open_recorded(
            ids=self.train_ids if of_train else self.generated_ids,
            keys=self.train_keys if of_train else self.generated_keys,
            labels=self.train_labels if of_train else self.generated_labels,
            recorded=self.info.get("inputs", {}).get(side, {}).get("source"),
            given=given,
        )

    def plot_values(self) -> Figure:
        """How value is spread: a histogram, and the share that the most valuable images hold.

        Raises:
            MissingPackageError: matplotlib is not installed.
        """
        from gmvaluator import plots

        return plots.plot_values(self.values)

    def plot_contributors(
        self,
        *generated: int | str,
        top: int = 10,
        train: object = None,
        generated_images: object = None,
    ) -> Figure:
        """Generated images, given by row number or id, each with its `top` contributors.

        Args:
            generated: one or more; the first if there is none.
            top: contributors to show.
            train, generated_images: sources of the images, where these are no longer where they
                were. Images that are gone or have changed since are marked, not shown.

        Raises:
            InputError: no such generated image, or a given source cannot be opened.
            MissingPackageError: matplotlib is not installed.
        """
        from gmvaluator import plots

        return plots.plot_contributors(
            self.contributions,
            self.quality,
            [self._generated_row(each) for each in generated or (0,)],
            self.open_images("train", train),
            self.open_images("generated", generated_images),
            top=top,
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: counts, and the most valuable training images."""
        best = np.argsort(self.ranks)[:SHOWN]
        n, m = len(self.train_ids), len(self.generated_ids)
        n_valued = int((self.values > 0).sum())
        labels = self.train_labels or (None,) * n
        return html_table(
            f"{n:,} training images valued by {m:,} generated images; {n_valued:,} have a value "
            f"above 0; {len(self.skipped):,} images were skipped",
            ("rank", "training image", "label", "value", "supports"),
            [
                (
                    int(self.ranks[row]),
                    self.train_ids[row],
                    labels[row] or "",
                    float(self.values[row]),
                    int(self.n_supported[row]),
                )
                for row in best
            ],
        )

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the run folder: all files or none, with their hashes and a seal over these.

        What other commands made of a run that is replaced is deleted, but for payouts.

        Raises:
            RunError: the folder holds another run (unless `overwrite`), or cannot be written.
        """
        import pyarrow.parquet as pq

        with publish_folder(Path(path), MARKER, overwrite=overwrite) as folder:
            pq.write_table(self._values_table(), folder / "values.parquet")
            pq.write_table(self._contributions_table(), folder / "contributions.parquet")
            pq.write_table(self._generated_table(), folder / "generated.parquet")
            pq.write_table(self._skipped_table(), folder / "skipped.parquet")
            if self.train_keys is not None and self.generated_keys is not None:
                pq.write_table(self._inputs_table(), folder / INPUTS_FILE)
            if self.clusters is not None:
                pq.write_table(self.clusters.table(self.train_ids), folder / DUPLICATES_FILE)
            text = json.dumps(sealed(self.info, folder), indent=2, ensure_ascii=False)
            (folder / MARKER).write_text(text + "\n", encoding="utf-8")
        drop_derived(Path(path))

    @staticmethod
    def load(path: str | Path, *, check: bool = True) -> Valuation:
        """Read a run folder back.

        Args:
            path: of the run.
            check: refuse files that are not those the run was saved with.

        A run whose `save` was killed while it replaced files is completed first.

        Raises:
            RunError: no run is there, a file is missing, damaged or changed, or files do not fit
                together.
        """
        folder = Path(path)
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
        try:
            return _assemble(unsealed(info), tables)
        except (KeyError, ValueError, IndexError) as error:
            raise RunError(
                f"the files of run {folder} do not fit together ({error}); restore the run or "
                "make it again"
            ) from error

    def _generated_row(self, generated: int | str) -> int:
        m = len(self.generated_ids)
        if isinstance(generated, str):
            if generated not in self._row_of_generated:
                raise InputError(f"no generated image has id {generated!r}; see generated_ids")
            return self._row_of_generated[generated]
        if not -m <= generated < m:
            raise InputError(f"generated image {generated} of {m}; pass 0 to {m - 1} or an id")
        return int(generated)

    @cached_property
    def _row_of_generated(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.generated_ids)}

    def _values_table(self) -> pa.Table:
        import pyarrow as pa

        return pa.table(
            {
                "train_id": pa.array(self.train_ids, pa.string()),
                "value": pa.array(self.values, pa.float64()),
                "rank": pa.array(self.ranks, pa.int64()),
                "n_supported": pa.array(self.n_supported, pa.int64()),
                "label": _labels(self.train_labels, len(self.train_ids)),
            }
        )

    def _contributions_table(self) -> pa.Table:
        import pyarrow as pa

        m, k = self.contributions.rows.shape
        generated_rows = np.repeat(np.arange(m), k)
        return pa.table(
            {
                "generated_id": pa.array(self.generated_ids, pa.string()).take(generated_rows),
                "rank": pa.array(np.tile(np.arange(1, k + 1), m), pa.int64()),
                "train_id": pa.array(self.train_ids, pa.string()).take(
                    pa.array(self.contributions.rows.ravel())
                ),
                "distance": pa.array(self.contributions.distances.ravel(), pa.float32()),
                "score": pa.array(self.contributions.scores.ravel(), pa.float64()),
            }
        )

    def _generated_table(self) -> pa.Table:
        import pyarrow as pa

        return pa.table(
            {
                "generated_id": pa.array(self.generated_ids, pa.string()),
                "quality": pa.array(self.quality, pa.float64()),
                "label": _labels(self.generated_labels, len(self.generated_ids)),
            }
            | ({} if self.match_p is None else {"match_p": pa.array(self.match_p, pa.float64())})
        )

    def _inputs_table(self) -> pa.Table:
        import pyarrow as pa

        sides = ["train"] * len(self.train_ids) + ["generated"] * len(self.generated_ids)
        return pa.table(
            {
                "set": pa.array(sides, pa.string()),
                "id": pa.array((*self.train_ids, *self.generated_ids), pa.string()),
                "content_key": pa.array(
                    (*(self.train_keys or ()), *(self.generated_keys or ())), pa.string()
                ),
            }
        )

    def _skipped_table(self) -> pa.Table:
        import pyarrow as pa

        return pa.table(
            {
                "set": pa.array([side for side, _ in self.skipped], pa.string()),
                "id": pa.array([skip.id for _, skip in self.skipped], pa.string()),
                "reason": pa.array([skip.reason for _, skip in self.skipped], pa.string()),
            }
        )


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


def _labels(labels: Sequence[str | None] | None, n: int) -> pa.Array:
    import pyarrow as pa

    return pa.array(labels if labels is not None else [None] * n, pa.string())


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


def _assemble(info: dict[str, Any], tables: dict[str, pa.Table]) -> Valuation:
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
    valuation = Valuation(
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
    if not np.allclose(valuation.values, values["value"].to_numpy(), rtol=1e-9, atol=1e-12):
        raise ValueError("the values are not the sums of the contributions")
    return valuation


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
