"""The result of a valuation: values, scores and the record of how they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmvaluator.arguments import whole_number
from gmvaluator.errors import InputError, RunError
from gmvaluator.files.atomic import publish_folder
from gmvaluator.files.records import MALFORMED, write_record
from gmvaluator.files.seals import sealed
from gmvaluator.images import ImageSet, ImageSource, Skip
from gmvaluator.images.ids import code_points, find_ids
from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.memory import once
from gmvaluator.runs.derived import drop_derived
from gmvaluator.runs.formatting import html_table
from gmvaluator.runs.hubs import Hubs
from gmvaluator.runs.images import RunSide, Valued, as_valued, open_side
from gmvaluator.runs.own_scores import fields_of_scores
from gmvaluator.runs.ranking import idle_text, shared_ranks
from gmvaluator.runs.record import MARKER, RunRecord
from gmvaluator.runs.tables import (
    DUPLICATES_FILE,
    INPUTS_FILE,
    content_keys,
    contributions_table,
    generated_table,
    inputs_table,
    known_labels,
    nearest_distances,
    read_run,
    skipped_table,
    values_table,
)
from gmvaluator.scoring.scores import Contributions, sum_values
from gmvaluator.scoring.weightings.softmax import AnyTemperature
from gmvaluator.shown import short_repr

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from matplotlib.figure import Figure

# training images that a notebook shows
SHOWN = 10


@short_repr
@dataclass(frozen=True, eq=False)
class ContributorList:
    """The contributors of one generated image, best first.

    A contributor with copies (`Valuation.clusters`) stands for all of them; its score is the sum
    of their scores. Lists are equal when ids, distances and scores are equal.

    Attributes:
        ids: k training ids.
        distances: (k,) float32, re-rank distance.
        scores: (k,) float64, V(x_i, x̂_j); they sum to the image's quality.
    """

    ids: tuple[str, ...]
    distances: NDArray[np.float32]
    scores: NDArray[np.float64]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ContributorList):
            return NotImplemented
        return (
            self.ids == other.ids
            and np.array_equal(self.distances, other.distances)
            and np.array_equal(self.scores, other.scores)
        )

    # arrays can change, so a hash of them could
    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Valuation:
    """Values of all training images, and the scores that they are the sums of.

    Copies within the training set count once (`clusters`): `contributions` lists only the
    representative of each cluster, with the score of the whole cluster. `values`, `score_matrix`
    and `n_supported` have every image, with its equal share of the cluster's score.

    Attributes:
        train_ids, train_labels: of the n readable training images (labels None where unknown).
        generated_ids, generated_labels: of the m readable generated images.
        quality: (m,) float64 q_j.
        contributions: sparse scores.
        skipped: images that could not be read: (`train`, `generated` or `holdout`, id and reason).
        record: settings, versions, weights, seconds, inputs: the content of `run.json`.
        train_keys, generated_keys: the content key of each image (`ImageSet.content_key`); None
            where they were not recorded.
        clusters: copies among the training images; None where every image counts (dedup none).
        match_p: (m,) float64, p-value of each generated image's match (`scoring.conformal`): how
            often an image with no source in the training set matches as badly. None where it was
            not tested.
        nearest_distances: (n,) float32, the smallest distance at which each training image was a
            candidate of a generated image, contributor or not; NaN where it never was. A copy has
            that of its representative. None where it was not recorded, or the weighting ranks no
            candidates.
    """

    train_ids: tuple[str, ...]
    train_labels: tuple[str | None, ...] | None
    generated_ids: tuple[str, ...]
    generated_labels: tuple[str | None, ...] | None
    quality: NDArray[np.float64]
    contributions: Contributions
    skipped: tuple[tuple[str, Skip], ...]
    record: RunRecord
    train_keys: tuple[str, ...] | None = None
    generated_keys: tuple[str, ...] | None = None
    clusters: Clusters | None = None
    match_p: NDArray[np.float64] | None = None
    nearest_distances: NDArray[np.float32] | None = None

    @staticmethod
    def from_scores(
        scores: Any,
        train: ImageSource | Sequence[str],
        generated: ImageSource | Sequence[str],
        *,
        distances: ArrayLike | None = None,
        quality: ArrayLike | None = None,
        name: str = "own scores",
    ) -> Valuation:
        """A valuation from scores of your own, which is saved and read as every other one.

        Scores ≥ 0 whose sum for a generated image is its quality are shares, as GMValuator's are.
        Other scores, such as negative ones, are influences: `settings.signed` is recorded, and the
        laws of shares do not apply. What values images anew (`extend`, `stability`) refuses both.

        Args:
            scores: (n, m) array or SciPy sparse array; a row is a training image.
            train, generated: any source of `ImageSet`, or the ids as a list of texts. Rows and
                columns of `scores` are in the order of the ids.
            distances: (n, m) distances. Default: minus the scores, so that the highest score is
                nearest.
            quality: (m,) from 0 (bad) to 1 (good). Default: the sums of the scores where these
                are shares of at most 1, else 1.
            name: of the method, recorded as `settings.valuer`.

        Raises:
            InputError: a shape does not fit, a number is NaN or infinite, an id occurs twice, or
                an image cannot be read.
        """
        fields = fields_of_scores(
            scores, train, generated, distances=distances, quality=quality, name=name
        )
        return Valuation(**fields)

    def __repr__(self) -> str:
        n, m = len(self.train_ids), len(self.generated_ids)
        idle = int((self.n_supported == 0).sum())
        nothing = f"; {idle} contributed to nothing" if idle else ""
        return f"Valuation({n} training images valued by {m} generated images{nothing})"

    @property
    def info(self) -> dict[str, Any]:
        """`record` in plain types, as in `run.json`; a new dictionary each time."""
        return self.record.as_json()

    @property
    @once
    def values(self) -> NDArray[np.float64]:
        """(n,) φ_i in the order of `train_ids` (Eq. 5); copies share theirs equally."""
        values = sum_values(self.contributions)
        return values if self.clusters is None else self.clusters.shared(values)

    @property
    @once
    def ranks(self) -> NDArray[np.int64]:
        """(n,) rank of each training image, 1 = highest value.

        Equal values share the least of their ranks, so the next lower value skips some.
        """
        return shared_ranks(self.values)

    @property
    @once
    def n_supported(self) -> NDArray[np.int64]:
        """(n,) number of generated images that each training image contributes to (score ≠ 0).

        An image contributes wherever one of its copies does.
        """
        rows = self.contributions.rows[self.contributions.scores != 0]
        counts = np.bincount(rows, minlength=self.contributions.n_train)
        return counts if self.clusters is None else counts[self.clusters.representatives]

    @property
    @once
    def unattributed(self) -> NDArray[np.float64]:
        """(m,) the part of each q_j that goes to no contributor: q_j − Σ_i V(x_i, x̂_j).

        0 for all, unless the scores of images without a contributor were withheld.
        """
        return np.where(self.withheld, self.quality, 0.0)

    @property
    @once
    def withheld(self) -> NDArray[np.bool_]:
        """(m,) whether the quality of a generated image goes to no contributor."""
        test = self.record.unattributed
        if self.match_p is None or test is None or not test.applied:
            return np.zeros(len(self.quality), dtype=np.bool_)
        return np.asarray(self.match_p <= test.level)

    def contributors(self, generated: int | str) -> ContributorList:
        """Contributors of one generated image.

        Args:
            generated: row number or id of the image.

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

    def reweigh(
        self,
        *,
        weighting: str | None = None,
        temperature: AnyTemperature | None = None,
        k: int | None = None,
    ) -> Valuation:
        """A valuation with another weighting, temperature or k, from what was recorded.

        No image is read and nothing is fitted: the result is that of valuing the images again with
        these settings. Quality, p-values and withheld images stay. `record.reweighed` has what was
        changed.

        Args:
            weighting: that of the run, `softmax`, or `shapley` with a smaller k: it reads the next
                distance too.
            temperature: τ > 0 or `auto`; `spacing` where the run measured it. Default: that of
                the run, or the default of another weighting.
            k: contributors of each generated image, at most those that were recorded. Weighting
                `expected-rank` keeps them all.

        Raises:
            InputError: nothing to change, or a run records too little for the change; the message
                says what can be changed, and how to fit again.
        """
        from gmvaluator.runs.reweighing import reweigh

        return reweigh(self, weighting=weighting, temperature=temperature, k=k)

    def score_matrix(self) -> NDArray[np.float64]:
        """(n, m) score of every training image for every generated image; 0: no contributor.

        The matrix takes 8 · n · m bytes. Rows sum to `values`; copies share a score equally. The
        metrics of the dattri library take `torch.from_numpy` of it. A valuer that scores the whole
        generated set at once (IF4GAN) has one column.
        """
        matrix = np.zeros((self.contributions.n_train, len(self.contributions.rows)))
        np.put_along_axis(matrix, self.contributions.rows.T, self.contributions.scores.T, axis=0)
        return matrix if self.clusters is None else self.clusters.shared(matrix)

    def to_pandas(self) -> pd.DataFrame:
        """The columns of `values.parquet` as a data frame, in the order of `train_ids`."""
        frame: pd.DataFrame = _values_of(self).to_pandas()
        return frame

    def open_images(self, side: Valued, given: ImageSource | None = None) -> RunSide:
        """The training or generated images.

        Args:
            side: which images.
            given: a source of `ImageSet` that has the images now. Default: the recorded source.

        Raises:
            InputError: `given` cannot be opened.
        """
        inputs = self.record.inputs
        if side == "train":
            ids, keys, labels = self.train_ids, self.train_keys, self.train_labels
            return open_side("train", ids, keys, labels, inputs.train, given)
        ids, keys, labels = self.generated_ids, self.generated_keys, self.generated_labels
        return open_side("generated", ids, keys, labels, inputs.generated, given)

    def as_valued(self, side: Valued, images: ImageSet, owner: str) -> ImageSet:
        """The images of this valuation out of a set, under their ids here (`runs.images`).

        Args:
            side: which images.
            images: the set as it is listed now.
            owner: the run, for a warning of images that were added since.
        """
        n = len(self.train_ids if side == "train" else self.generated_ids)
        return as_valued(side, images, self.known_ids(side), n, owner)

    def known_ids(self, side: Valued) -> tuple[str, ...]:
        """The ids of the images that were read, then of those that were not."""
        ids = self.train_ids if side == "train" else self.generated_ids
        return (*ids, *(skip.id for of, skip in self.skipped if of == side))

    def plot_values(self) -> Figure:
        """How value is spread: a histogram, and the share that the most valuable images hold."""
        from gmvaluator.runs import plots

        return plots.plot_values(self.values)

    def plot_contributors(
        self,
        *generated: int | str,
        top: int = 10,
        train: ImageSource | None = None,
        generated_images: ImageSource | None = None,
    ) -> Figure:
        """A sheet of generated images, each with its best contributors.

        Images that are gone or have changed since the valuation are marked, not shown.

        Args:
            generated: row numbers or ids of generated images. Default: the first image.
            top: number of contributors to show.
            train, generated_images: any source of `ImageSet`. Default: the recorded sources.

        Raises:
            InputError: no such generated image, or a source cannot be opened.
        """
        from gmvaluator.runs import plots

        return plots.plot_contributors(
            self.contributions,
            self.quality,
            [self._generated_row(image) for image in generated or (0,)],
            self.open_images("train", train),
            self.open_images("generated", generated_images),
            top=whole_number("top", top, 1),
        )

    def _repr_html_(self) -> str:
        """Counts and the most valuable training images, for a notebook."""
        best = np.argsort(self.ranks, kind="stable")[:SHOWN]
        n, m = len(self.train_ids), len(self.generated_ids)
        notes = [
            idle_text(self.n_supported, self.ranks),
            Hubs.of(self.contributions).text(self.train_ids),
        ]
        labels = self.train_labels or (None,) * n
        return html_table(
            f"{n:,} training images valued by {m:,} generated images; "
            f"{''.join(f'{note}; ' for note in notes if note)}"
            f"{len(self.skipped):,} images were skipped",
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
        """Write the run folder: all files or none, with their hashes and a seal over the hashes.

        Where a run is replaced, files that were derived from it are deleted; payouts stay.

        Raises:
            RunError: the folder holds another run (unless `overwrite`), or cannot be written.
        """
        import pyarrow.parquet as pq

        with publish_folder(Path(path), MARKER, overwrite=overwrite) as folder:
            for name, table in tables_of(self).items():
                pq.write_table(table, folder / name)
            write_record(sealed(self.info, folder), folder / MARKER)
        drop_derived(Path(path))

    @staticmethod
    def load(path: str | Path, *, check: bool = True) -> Valuation:
        """Read a run folder.

        A run whose `save` was killed while it replaced files is completed first.

        Args:
            path: folder of the run.
            check: refuse files that differ from those that were saved.

        Raises:
            RunError: no run is there, a file is missing, damaged or changed, or the files do not
                fit together.
        """
        folder = Path(path)
        record, tables = read_run(folder, check=check)
        try:
            return valuation_of(record, tables)
        except MALFORMED as error:
            raise RunError(
                f"the files of run {folder} do not fit together ({error}); restore the run or "
                "make it again"
            ) from error

    def _generated_row(self, generated: int | str) -> int:
        m = len(self.generated_ids)
        if isinstance(generated, str):
            if generated in self._row_of_generated:
                return self._row_of_generated[generated]
            row = int(find_ids([generated], self.generated_ids)[0])
            if row < 0:
                raise InputError(
                    f"no generated image has id {code_points(generated)}; see generated_ids"
                )
            return row
        if not isinstance(generated, Integral) or not -m <= generated < m:
            raise InputError(f"generated image {generated} of {m}; pass 0 to {m - 1} or an id")
        return int(generated)

    @property
    @once
    def _row_of_generated(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.generated_ids)}


def tables_of(valuation: Valuation) -> dict[str, pa.Table]:
    """The tables of a run's folder, by file name."""
    train_ids, generated_ids = valuation.train_ids, valuation.generated_ids
    train_keys, generated_keys = valuation.train_keys, valuation.generated_keys
    tables = {
        "values.parquet": _values_of(valuation),
        "contributions.parquet": contributions_table(
            train_ids, generated_ids, valuation.contributions
        ),
        "generated.parquet": generated_table(
            generated_ids, valuation.generated_labels, valuation.quality, valuation.match_p
        ),
        "skipped.parquet": skipped_table(valuation.skipped),
    }
    if train_keys is not None and generated_keys is not None:
        tables[INPUTS_FILE] = inputs_table(train_ids, generated_ids, train_keys, generated_keys)
    if valuation.clusters is not None:
        tables[DUPLICATES_FILE] = valuation.clusters.table(train_ids)
    return tables


def _values_of(valuation: Valuation) -> pa.Table:
    return values_table(
        valuation.train_ids,
        valuation.train_labels,
        valuation.values,
        valuation.ranks,
        valuation.n_supported,
        valuation.nearest_distances,
    )


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
    keys = content_keys(tables.get(INPUTS_FILE), train_ids, generated_ids)
    duplicates = tables.get(DUPLICATES_FILE)
    valuation = Valuation(
        train_ids=train_ids,
        train_labels=known_labels(values["label"].to_pylist()),
        generated_ids=generated_ids,
        generated_labels=known_labels(generated["label"].to_pylist()),
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
        nearest_distances=nearest_distances(values),
    )
    if not np.allclose(valuation.values, values["value"].to_numpy(), rtol=1e-9, atol=1e-12):
        raise ValueError("the values are not the sums of the contributions")
    return valuation
