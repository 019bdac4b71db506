"""The result of a valuation; `gmvaluator.runs.tables` has the files of its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError, RunError
from gmvaluator.files.atomic import publish_folder
from gmvaluator.files.seals import sealed
from gmvaluator.images import Skip
from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.runs import tables as run_tables
from gmvaluator.runs.derived import drop_derived
from gmvaluator.runs.formatting import html_table
from gmvaluator.runs.images import RunSide, open_recorded
from gmvaluator.runs.tables import DUPLICATES_FILE, INPUTS_FILE, MARKER
from gmvaluator.scoring.scores import Contributions, sum_values

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from matplotlib.figure import Figure

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
        match_p: (m,) float64, p-value of each generated image's match (`scoring.conformal`):
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

        0 for all, unless the run was asked to test that (`null="withhold"`).
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
        from gmvaluator.runs import plots

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
        from gmvaluator.runs import plots

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
            for name, table in self._tables().items():
                pq.write_table(table, folder / name)
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
        info, tables = run_tables.read_files(folder, check=check)
        try:
            valuation = Valuation(**run_tables.content_of(info, tables))
            listed = tables["values.parquet"]["value"].to_numpy()
            if not np.allclose(valuation.values, listed, rtol=1e-9, atol=1e-12):
                raise ValueError("the values are not the sums of the contributions")
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"the files of run {folder} do not fit together ({error}); restore the run or "
                "make it again"
            ) from error
        return valuation

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
        return run_tables.values_table(
            self.train_ids, self.values, self.ranks, self.n_supported, self.train_labels
        )

    def _tables(self) -> dict[str, pa.Table]:
        """What each file of the run's folder holds."""
        tables = {
            "values.parquet": self._values_table(),
            "contributions.parquet": run_tables.contributions_table(
                self.contributions, self.train_ids, self.generated_ids
            ),
            "generated.parquet": run_tables.generated_table(
                self.generated_ids, self.quality, self.generated_labels, self.match_p
            ),
            "skipped.parquet": run_tables.skipped_table(self.skipped),
        }
        if self.train_keys is not None and self.generated_keys is not None:
            tables[INPUTS_FILE] = run_tables.inputs_table(
                self.train_ids, self.train_keys, self.generated_ids, self.generated_keys
            )
        if self.clusters is not None:
            tables[DUPLICATES_FILE] = self.clusters.table(self.train_ids)
        return tables
