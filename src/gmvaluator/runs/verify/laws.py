"""The laws that every saved run obeys, checked on what its files hold.

Shares are positive and hand out the quality of each generated image, values are their sums. A file
that was edited by hand breaks one of them more often than not, also where nothing recorded its
hash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmvaluator.images import set_fingerprint
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.weightings import recorded_weighting

if TYPE_CHECKING:
    import pyarrow as pa

ROUNDING = 1e-9  # of sums of float64 shares, relative to the larger of 1 and what they sum to


@dataclass(frozen=True)
class Law:
    """One law, and how many places break it.

    Attributes:
        name: what must be true.
        broken: how many generated or training images, or whole runs, it is not true of.
        first: the first of them, or what was found; empty where none is.
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
    once, hand out no quality and may score below 0; those laws are left out for them.

    Args:
        valuation: as its files give it, whatever their hashes.
        values, pairs: `values.parquet` and `contributions.parquet`.
    """
    settings = valuation.info.get("settings", {})
    free = bool(settings.get("signed") or settings.get("whole_set"))
    laws = [*_of_ids(valuation), *_of_tables(valuation, values, pairs), *_of_inputs(valuation)]
    laws += _of_null(valuation)
    if not free:
        laws += [*_of_shares(valuation), *_of_contributors(valuation, settings)]
    return tuple(laws)


def _of_ids(valuation: Valuation) -> Iterator[Law]:
    for what, ids in (("training", valuation.train_ids), ("generated", valuation.generated_ids)):
        twice = [name for name, times in Counter(ids).items() if times > 1]
        yield Law(f"ids of {what} images are unique", len(twice), repr(twice[0]) if twice else "")


def _of_tables(valuation: Valuation, values: pa.Table, pairs: pa.Table) -> Iterator[Law]:
    """Columns that `Valuation.load` does not read are what the others say."""
    value, rank = values["value"].to_numpy(), values["rank"].to_numpy()
    n = len(value)
    whole = np.array_equal(np.sort(rank), np.arange(1, n + 1))
    wrong = _descents(value, rank) if whole else np.ones(n, dtype=bool)
    yield _law("rank 1 has the highest value, and so on", wrong, valuation.train_ids)
    counted = valuation.n_supported != values["n_supported"].to_numpy()
    yield _law(
        "n_supported counts the images a training image has score of",
        counted,
        valuation.train_ids,
    )
    m, k = valuation.contributions.rows.shape
    places = pairs["rank"].to_numpy().reshape(m, k) != np.arange(1, k + 1)
    yield _law("contributors are ranked 1, 2, …", places.any(axis=1), valuation.generated_ids)


def _of_inputs(valuation: Valuation) -> Iterator[Law]:
    """Fingerprints of the input sets are those of the content keys listed."""
    inputs = valuation.info.get("inputs", {})
    sides = (
        ("train", valuation.train_ids, valuation.train_keys),
        ("generated", valuation.generated_ids, valuation.generated_keys),
    )
    for side, ids, keys in sides:
        recorded = inputs.get(side, {}).get("fingerprint")
        if keys is None or recorded is None:
            continue
        found = set_fingerprint(ids, keys)
        other = found != recorded
        yield Law(f"the {side} fingerprint is that of the content keys", int(other), found)


def _of_null(valuation: Valuation) -> Iterator[Law]:
    """What is told of images without a contributor follows from their p-values and qualities."""
    told, p = valuation.info.get("unattributed"), valuation.match_p
    if told is None and p is None:
        return
    both = "p-values are there where unattributed images are told of, and only there"
    yield Law(both, int(told is None or p is None), "run.json against generated.parquet")
    if told is None or p is None:
        return
    yield _law("p-values lie within 0 and 1", ~((p >= 0) & (p <= 1)), valuation.generated_ids)
    without = p <= told["level"]
    images, total = int(without.sum()), float(valuation.quality.sum())
    share = float(valuation.quality[without].sum()) / total if total > 0 else 0.0
    yield Law(
        "the number of unattributed images follows from the p-values",
        int(images != told["images"]),
        f"{told['images']!r} against {images}",
    )
    yield Law(
        "the unattributed share follows from the p-values and qualities",
        int(not abs(share - told["share"]) <= ROUNDING),
        f"{told['share']!r} against {share!r}",
    )


def _of_shares(valuation: Valuation) -> Iterator[Law]:
    ids = valuation.generated_ids
    scores, quality = valuation.contributions.scores, valuation.quality
    kept = valuation.unattributed
    # comparisons that are not true of NaN: it breaks every law it meets
    yield _law("quality lies within 0 and 1", ~((quality >= 0) & (quality <= 1)), ids)
    yield _law("scores are at least 0", ~(scores >= 0).all(axis=1), ids)
    yield _law("what is unattributed is at least 0", ~(kept >= 0), ids)
    handed = scores.sum(axis=1) + kept
    yield _law(
        "scores and what is unattributed sum to the quality of each generated image",
        ~(np.abs(handed - quality) <= ROUNDING),
        ids,
    )
    total, given = float(valuation.values.sum()), float(quality.sum() - kept.sum())
    apart = not abs(total - given) <= ROUNDING * max(1.0, abs(given))
    yield Law("values sum to the quality handed out", int(apart), f"{total!r} against {given!r}")


def _of_contributors(valuation: Valuation, settings: dict[str, Any]) -> Iterator[Law]:
    ids = valuation.generated_ids
    rows, distances = valuation.contributions.rows, valuation.contributions.distances
    scores = valuation.contributions.scores
    k = settings.get("k")
    if k is not None:
        most = (scores != 0).sum(axis=1)
        yield _law(f"at most k = {k} contributors", most > k, ids)
    ordered = np.sort(rows, axis=1)
    twice = (np.diff(ordered, axis=1) == 0).any(axis=1)
    yield _law("contributors of a generated image are distinct", twice, ids)
    if valuation.clusters is not None:
        others = valuation.clusters.representatives[rows] != rows
        yield _law("one of several copies contributes for all", others.any(axis=1), ids)
    yield _law("distances are finite", ~np.isfinite(distances).all(axis=1), ids)
    if recorded_weighting(settings.get("weighting", "softmax")).nearer_never_less:
        order = np.argsort(distances, axis=1, kind="stable")
        near = np.take_along_axis(distances, order, axis=1)
        share = np.take_along_axis(scores, order, axis=1)
        rising = (np.diff(share, axis=1) > ROUNDING) & (np.diff(near, axis=1) > 0)
        yield _law("a nearer contributor never scores less", rising.any(axis=1), ids)


def _descents(value: NDArray[np.float64], rank: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which images have a higher value than the one ranked before them."""
    order = np.argsort(rank, kind="stable")
    wrong = np.zeros(len(value), dtype=bool)
    wrong[order[1:]] = ~(np.diff(value[order]) <= ROUNDING)
    return wrong


def _law(name: str, wrong: ArrayLike, ids: tuple[str, ...]) -> Law:
    """From the mask of the images that break it."""
    rows = np.flatnonzero(np.asarray(wrong, dtype=bool))
    return Law(name, len(rows), repr(ids[int(rows[0])]) if len(rows) else "")
