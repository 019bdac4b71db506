"""Laws of every saved run: from a run's tables to the laws that the tables break.

A file that was edited by hand breaks a law more often than not, even where no hash was recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmvaluator.images import set_fingerprint
from gmvaluator.runs.ranking import shared_ranks
from gmvaluator.runs.tables import NEAREST
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.weightings import recorded_weighting

if TYPE_CHECKING:
    import pyarrow as pa

# of sums of float64 shares, relative to the larger of 1 and the sum
ROUNDING = 1e-9


@dataclass(frozen=True)
class Law:
    """One law, and how many places break it.

    Attributes:
        name: the statement that must be true.
        broken: number of generated images, training images or whole runs that break it.
        first: the first place that breaks it, or the two numbers that differ; empty: none.
    """

    name: str
    broken: int
    first: str = ""

    def __str__(self) -> str:
        if not self.broken:
            return self.name
        return f"{self.name}: not so in {self.broken} places, first {self.first}"


def check_laws(valuation: Valuation, values: pa.Table, pairs: pa.Table) -> tuple[Law, ...]:
    """All laws that apply to the run.

    Baselines whose scores are influences (`signed`), or that score the whole generated set at
    once (`whole_set`), hand out no quality; the laws of shares do not apply to them.

    Args:
        valuation: of the run, whether or not its hashes fit.
        values, pairs: `values.parquet` and `contributions.parquet`.
    """
    settings = valuation.record.settings
    laws = [
        *_laws_of_ids(valuation),
        *_laws_of_tables(valuation, values, pairs),
        *_laws_of_inputs(valuation),
        *_laws_of_test(valuation),
    ]
    if not (settings.signed or settings.whole_set):
        laws += [*_laws_of_shares(valuation), *_laws_of_contributors(valuation)]
    return tuple(laws)


def _laws_of_ids(valuation: Valuation) -> Iterator[Law]:
    for side, ids in (("training", valuation.train_ids), ("generated", valuation.generated_ids)):
        twice = [name for name, count in Counter(ids).items() if count > 1]
        yield Law(f"ids of {side} images are unique", len(twice), repr(twice[0]) if twice else "")


def _laws_of_tables(valuation: Valuation, values: pa.Table, pairs: pa.Table) -> Iterator[Law]:
    """Columns that `Valuation.load` does not read agree with the columns that it reads."""
    ids = valuation.train_ids
    value, rank = values["value"].to_numpy(), values["rank"].to_numpy()
    if NEAREST in values.column_names:
        wrong = (rank != shared_ranks(value)) | np.isnan(value)
        yield _law("rank 1 has the highest value, and so on; equal values share one", wrong, ids)
    else:
        yield _law("rank 1 has the highest value, and so on", _misranked(value, rank), ids)
    if (nearest := valuation.nearest_distances) is not None:
        pairs_of = valuation.contributions
        # a comparison with NaN is false: a contributor without a nearest distance breaks the law
        farther = ~(nearest[pairs_of.rows] <= pairs_of.distances)
        name = "no contributor is nearer than the nearest distance of its training image"
        yield _law(name, farther.any(axis=1), valuation.generated_ids)
    miscounted = valuation.n_supported != values["n_supported"].to_numpy()
    yield _law("n_supported counts the images a training image has score of", miscounted, ids)
    m, k = valuation.contributions.rows.shape
    misplaced = pairs["rank"].to_numpy().reshape(m, k) != np.arange(1, k + 1)
    yield _law("contributors are ranked 1, 2, …", misplaced.any(axis=1), valuation.generated_ids)


def _misranked(value: NDArray[np.float64], rank: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) wrong ranks of a run of an earlier version, which ranked equal values by position."""
    wrong = np.ones(len(value), dtype=bool)
    if np.array_equal(np.sort(rank), np.arange(1, len(value) + 1)):
        order = np.argsort(rank, kind="stable")
        # a comparison with NaN is false: NaN breaks the law
        wrong[order] = ~(np.diff(value[order], prepend=np.inf) <= ROUNDING)
    return wrong


def _laws_of_inputs(valuation: Valuation) -> Iterator[Law]:
    """The fingerprints in the record are those of the content keys in the table."""
    inputs = valuation.record.inputs
    for side, ids, keys, recorded in (
        ("train", valuation.train_ids, valuation.train_keys, inputs.train.fingerprint),
        (
            "generated",
            valuation.generated_ids,
            valuation.generated_keys,
            inputs.generated.fingerprint,
        ),
    ):
        if keys is not None and recorded is not None:
            listed = set_fingerprint(ids, keys)
            name = f"the {side} fingerprint is that of the content keys"
            yield Law(name, int(listed != recorded), listed)


def _laws_of_test(valuation: Valuation) -> Iterator[Law]:
    """The recorded result of the test for images without a contributor follows from p-values."""
    test, p = valuation.record.unattributed, valuation.match_p
    if test is None and p is None:
        return
    both = "p-values are recorded exactly where unattributed images are"
    yield Law(both, int(test is None or p is None), "run.json against generated.parquet")
    if test is None or p is None:
        return
    yield _law("p-values lie within 0 and 1", ~((p >= 0) & (p <= 1)), valuation.generated_ids)
    without = p <= test.level
    images, total = int(without.sum()), float(valuation.quality.sum())
    share = float(valuation.quality[without].sum()) / total if total > 0 else 0.0
    yield Law(
        "the number of unattributed images follows from the p-values",
        int(images != test.images),
        f"{test.images!r} against {images}",
    )
    yield Law(
        "the unattributed share follows from the p-values and qualities",
        int(not abs(share - test.share) <= ROUNDING),
        f"{test.share!r} against {share!r}",
    )


def _laws_of_shares(valuation: Valuation) -> Iterator[Law]:
    """Scores hand out the quality of each generated image."""
    ids = valuation.generated_ids
    scores, quality = valuation.contributions.scores, valuation.quality
    withheld = valuation.unattributed
    # a comparison with NaN is false: NaN breaks every law here
    yield _law("quality lies within 0 and 1", ~((quality >= 0) & (quality <= 1)), ids)
    yield _law("scores are at least 0", ~(scores >= 0).all(axis=1), ids)
    yield _law("what is unattributed is at least 0", ~(withheld >= 0), ids)
    yield _law(
        "scores and what is unattributed sum to the quality of each generated image",
        ~(np.abs(scores.sum(axis=1) + withheld - quality) <= ROUNDING),
        ids,
    )
    total, handed_out = float(valuation.values.sum()), float(quality.sum() - withheld.sum())
    differs = not abs(total - handed_out) <= ROUNDING * max(1.0, abs(handed_out))
    name = "values sum to the quality handed out"
    yield Law(name, int(differs), f"{total!r} against {handed_out!r}")


def _laws_of_contributors(valuation: Valuation) -> Iterator[Law]:
    ids, clusters, settings = valuation.generated_ids, valuation.clusters, valuation.record.settings
    rows, distances = valuation.contributions.rows, valuation.contributions.distances
    scores = valuation.contributions.scores
    leaders = rows if clusters is None else clusters.representatives[rows]
    if settings.k is not None:
        clusters_with_score = _distinct(np.where(scores != 0, leaders, -1))
        yield _law(f"at most k = {settings.k} contributors", clusters_with_score > settings.k, ids)
    repeated = _distinct(rows) < rows.shape[1]
    yield _law("contributors of a generated image are distinct", repeated, ids)
    if clusters is not None:
        yield _law("one of several copies contributes for all", (leaders != rows).any(axis=1), ids)
    yield _law("distances are finite", ~np.isfinite(distances).all(axis=1), ids)
    weighting = recorded_weighting(settings.weighting or "softmax")
    if settings.by_gmvaluator and weighting.nearer_never_less:
        order = np.argsort(distances, axis=1, kind="stable")
        nearest_first = np.take_along_axis(distances, order, axis=1)
        share = np.take_along_axis(scores, order, axis=1)
        rising = (np.diff(share, axis=1) > ROUNDING) & (np.diff(nearest_first, axis=1) > 0)
        yield _law("a nearer contributor never scores less", rising.any(axis=1), ids)


def _distinct(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """(m,) number of different entries ≥ 0 in each row of an (m, k) array."""
    ordered = np.sort(rows, axis=1)
    steps = np.diff(ordered, axis=1, prepend=-1) > 0
    return np.asarray(steps.sum(axis=1))


def _law(name: str, wrong: ArrayLike, ids: tuple[str, ...]) -> Law:
    """A law of each image, from the mask of the images that break it."""
    rows = np.flatnonzero(np.asarray(wrong, dtype=bool))
    return Law(name, len(rows), repr(ids[int(rows[0])]) if len(rows) else "")
