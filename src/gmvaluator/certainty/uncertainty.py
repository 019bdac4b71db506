"""How certain the values of one run are, and how many generated images would be enough."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gmvaluator.arguments import proper_share, whole_number
from gmvaluator.certainty.agreement import (
    class_ratio,
    common_top,
    contributor_labels,
    generated_labels,
    rank_correlation,
    weighted_class_share,
)
from gmvaluator.certainty.intervals import (
    DEFAULT_COVERAGE,
    FEW,
    Interval,
    bootstrap_interval,
    bootstrap_shares,
    effective_images,
    value_intervals,
)
from gmvaluator.certainty.tables import Cell, Draw, StudyResult, Table, grid
from gmvaluator.files.atomic import publish_file
from gmvaluator.files.seals import RUN_SEAL
from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.progress import Progress, Silent
from gmvaluator.runs.record import read_record
from gmvaluator.runs.valuation import Valuation
from gmvaluator.shown import short_repr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

INTERVALS = "intervals.parquet"
TOP_OF_HALVES = 50
"""Number of most valuable training images that two halves are compared by."""
TARGET = 0.9
"""Agreement of ranks that the advice aims at."""
REPEATS = 8
"""Random pairs of halves of each size; a pair takes 0.1 s for 10,000 images."""
SCORES_BY_LABEL = 1 << 23
"""Length of the largest array of scores by label: 64 MB."""
FURTHEST = 20
"""The advice names no number beyond this many times the run's images."""


@dataclass(frozen=True)
class Agreement:
    """How well two disjoint sets of `m` images of one run agree on the training images.

    Attributes:
        m: number of images in each set.
        ranks: Spearman's correlation of the values, mean over random pairs of sets.
        top: share of the 50 most valuable training images that both sets have, mean over pairs.
    """

    m: int
    ranks: float
    top: float


@dataclass(frozen=True)
class Growth:
    """Agreement as a function of the number of images: odds r / (1 − r) = e^a · m^b.

    With b = 1, this is the formula of Spearman and Brown (1910) for the correlation of sums of m
    independent parts. Where most values are near 0, agreement of ranks and tops grows slower.
    Therefore b is fitted, with 1 as its maximum.
    """

    a: float
    b: float

    @staticmethod
    def fit(ms: Sequence[int], agreements: Sequence[float]) -> Growth | None:
        """Least squares through the three largest m with agreement between 0 and 1.

        None if fewer than two agreements are between 0 and 1, or if agreement does not grow.
        """
        usable = [(m, r) for m, r in zip(ms, agreements, strict=True) if 0 < r < 1][-3:]
        if len(usable) < 2:
            return None
        x = np.log([m for m, _ in usable])
        y = np.log([r / (1 - r) for _, r in usable])
        b = min(1.0, float(np.polyfit(x, y, 1)[0]))
        return Growth(float(np.mean(y - b * x)), b) if b > 0 else None

    def at(self, m: float) -> float:
        """Agreement of two sets of m images."""
        odds = math.exp(self.a + self.b * math.log(m))
        return odds / (1 + odds)

    def needed(self, agreement: float) -> float:
        """Number of images in a set that agrees so well; infinite if no float can hold it."""
        try:
            return math.exp((math.log(agreement / (1 - agreement)) - self.a) / self.b)
        except OverflowError:
            return math.inf


@short_repr
@dataclass(frozen=True, eq=False)
class Uncertainty:
    """How certain the values of a run are.

    Attributes:
        train_ids, values: of the n training images.
        low, high: (n,) intervals of the values (`intervals.value_intervals`).
        effective: (n,) effective images behind each value (`intervals.effective_images`).
        level: nominal coverage.
        labels: label → interval of its share of the total value; empty without labels.
        criteria: name → interval of the identical class test (C1); empty unless both sides have
            labels. Here a contributor counts with its own label, even if its copies have other
            labels, as in studies; `labels` shares it among the labels of its copies.
        agreements: of disjoint sets, by their size; empty below 4 images.
        ranks, top: how agreement grows; None if it does not grow.
        m: number of generated images.
        run_seal: seal of the run; None of a valuation in memory, or of an older run without.
    """

    train_ids: tuple[str, ...]
    values: Floats
    low: Floats
    high: Floats
    effective: Floats
    level: float
    labels: dict[str, Interval]
    criteria: dict[str, Interval]
    agreements: tuple[Agreement, ...]
    ranks: Growth | None
    top: Growth | None
    m: int
    run_seal: str | None = None

    def advice(self) -> str:
        """How many generated images are enough, in words."""
        if self.ranks is None:
            return (
                f"{self.m} generated images are too few to say how many would be enough: two "
                "halves of them do not agree more the larger they are. Generate more."
            )
        now, needed = self.ranks.at(self.m), self.ranks.needed(TARGET)
        expected = (
            f"Another {self.m} images of the same model would rank the training images as these "
            f"do with a correlation of about {now:.2f} (1 = the same order)."
        )
        if needed <= self.m:
            return f"{expected} That is enough: {TARGET} needs about {rounded(needed)} images."
        if needed > FURTHEST * self.m:
            return f"{expected} {TARGET} needs more than {FURTHEST} times as many images."
        return (
            f"{expected} {TARGET} needs about {rounded(needed)} generated images, "
            f"{needed / self.m:.1f} times as many."
        )

    def result(self) -> StudyResult:
        """Tables, advice and the curve, as `save` writes them."""
        tables = [
            _standing(self),
            *_intervals("Labels", ("label", "share of the value"), self.labels),
            *_intervals("Identical class test (C1)", ("criterion", "mean"), self.criteria),
            *_growing(self),
        ]
        needed = self.ranks.needed(TARGET) if self.ranks else math.inf
        plots: dict[str, Draw] = {}
        if self.agreements:
            plots["agreement"] = partial(_draw, uncertainty=self)
        percent = f"{100 * self.level:g} %"
        return StudyResult(
            name="uncertainty",
            title=f"How certain values from {self.m} generated images are",
            tables=tuple(tables),
            parameters={"level": self.level, "m": self.m, "n_train": len(self.values)},
            notes=(
                self.advice(),
                f"Intervals ({percent}) are for what {self.m} images of the same model give on "
                f"average. Of values that stand on fewer than {FEW:g} effective images they are "
                "wider than they need be (column few): nothing seen is no proof of nothing.",
            ),
            details={
                "advice": self.advice(),
                "target": TARGET,
                "images_needed": needed if math.isfinite(needed) else None,
                "agreement_now": self.ranks.at(self.m) if self.ranks else None,
                "top_now": self.top.at(self.m) if self.top else None,
                "agreements": [vars(agreement) for agreement in self.agreements],
                "growth": {
                    "ranks": None if self.ranks is None else vars(self.ranks),
                    "top": None if self.top is None else vars(self.top),
                },
                "labels": self.labels,
                "criteria": self.criteria,
                "few": int((self.effective < FEW).sum()),
            },
            plots=plots,
            marks={} if self.run_seal is None else {RUN_SEAL: self.run_seal},
        )

    def save(self, run: str | Path) -> list[Path]:
        """Write intervals.parquet, uncertainty.json, .md and the curve into a run folder.

        `intervals.parquet` has `train_id`, `value`, `low`, `high` and `few` (the value stands on
        fewer than 5 effective images).

        Returns:
            The files.

        Raises:
            RunError: the folder cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(
            {
                "train_id": pa.array(self.train_ids, pa.string()),
                "value": pa.array(self.values, pa.float64()),
                "low": pa.array(self.low, pa.float64()),
                "high": pa.array(self.high, pa.float64()),
                "few": pa.array(self.effective < FEW, pa.bool_()),
            }
        )
        file = Path(run) / INTERVALS
        with publish_file(file) as part:
            pq.write_table(table, part)
        return [file, *self.result().save(run)]


def uncertainty_run(
    run: str | Path | Valuation,
    *,
    level: float = DEFAULT_COVERAGE,
    seed: int = 0,
    progress: Progress | None = None,
) -> Uncertainty:
    """Intervals of every value, label share and criterion, and how agreement grows with m.

    Args:
        run: run folder, or a valuation in memory. It needs at least two generated images, and
            scores that are not negative.
        level: nominal coverage, between 0 and 1.
        seed: seed of the bootstrap and of the halves.
        progress: receives how many halves are done.

    Raises:
        RunError: no run there, or a damaged one.
        InputError: one generated image, negative scores (as gradient valuers give), a level
            outside 0 to 1, or a negative seed.
    """
    level, seed = proper_share("level", level, DEFAULT_COVERAGE), whole_number("seed", seed, 0)
    run_seal = None
    if isinstance(run, Valuation):
        valuation = run
    else:
        run_seal = read_record(Path(run)).seal
        valuation = Valuation.load(run)
    low, high = value_intervals(valuation.contributions, level=level)
    effective = effective_images(valuation.contributions)
    if (copies := valuation.clusters) is not None:
        # each image has a fixed part of its cluster's value, and of the interval's ends
        low, high = copies.shared(low), copies.shared(high)
        effective = effective[copies.representatives]
    agreements = halves(valuation, seed=seed, progress=progress)
    ms = [agreement.m for agreement in agreements]
    return Uncertainty(
        train_ids=valuation.train_ids,
        values=valuation.values,
        low=low,
        high=high,
        effective=effective,
        level=level,
        labels=label_shares(valuation, level=level, seed=seed),
        criteria=_class_test(valuation, level, seed),
        agreements=tuple(agreements),
        ranks=Growth.fit(ms, [agreement.ranks for agreement in agreements]),
        top=Growth.fit(ms, [agreement.top for agreement in agreements]),
        m=len(valuation.generated_ids),
        run_seal=run_seal,
    )


def halves(
    valuation: Valuation, *, seed: int = 0, repeats: int = REPEATS, progress: Progress | None = None
) -> list[Agreement]:
    """Agreement of disjoint random sets of m/16, m/8, m/4 and m/2 of a run's images.

    The contributors of a generated image do not depend on the other generated images, so that
    nothing has to be valued again.
    """
    seed, repeats = whole_number("seed", seed, 0), whole_number("repeats", repeats, 1)
    m = len(valuation.generated_ids)
    sizes = sorted({m // part for part in (16, 8, 4, 2)} - {0})
    random = np.random.default_rng(seed)
    agreements = []
    with (progress or Silent()).stage("halves of the images", len(sizes) * repeats) as advance:
        for size in sizes if len(sizes) > 1 else ():
            ranks, top = [], []
            for _ in range(repeats):
                order = random.permutation(m)
                first = _values_from(valuation, order[:size])
                second = _values_from(valuation, order[size : 2 * size])
                ranks.append(rank_correlation(first, second))
                top.append(common_top(first, second, TOP_OF_HALVES))
                advance(1)
            # NaN if one is: values that are all alike have no order
            agreements.append(Agreement(size, float(np.mean(ranks)), float(np.mean(top))))
    return agreements


def label_shares(
    valuation: Valuation, *, level: float = DEFAULT_COVERAGE, seed: int = 0
) -> dict[str, Interval]:
    """Each label's share of the total value, with its interval.

    Empty if no label is known or no image has a score. Images without a label form one more
    group, `(no label)`.
    """
    if valuation.train_labels is None or not valuation.values.sum():
        return {}
    labels = ["(no label)" if label is None else label for label in valuation.train_labels]
    names, group = np.unique(labels, return_inverse=True)
    contributions = valuation.contributions
    clusters = valuation.clusters or Clusters.exact(np.arange(len(group)))
    scores = clusters.sparse_by_group(contributions.rows, contributions.scores, group)
    totals, largest = scores.sum(axis=1), contributions.scores.max(axis=1)
    low, high, m = np.empty(len(names)), np.empty(len(names)), len(totals)
    width = max(1, SCORES_BY_LABEL // m)
    for start in range(0, len(names), width):
        part = slice(start, start + width)
        low[part], high[part] = bootstrap_shares(
            scores[:, part].toarray(), largest=largest, totals=totals, level=level, seed=seed
        )
    shares = scores.sum(axis=0) / totals.sum()
    return {
        str(name): Interval(float(share), float(a), float(b), m)
        for name, share, a, b in zip(names, shares, low, high, strict=True)
    }


def rounded(images: float) -> int:
    """A number of images, rounded up to two digits."""
    step = 10 ** max(0, math.floor(math.log10(max(images, 1))) - 1)
    return int(math.ceil(images / step) * step)


def _class_test(valuation: Valuation, level: float, seed: int) -> dict[str, Interval]:
    """C1 as studies measure it: copies count with the label of their representative."""
    if valuation.train_labels is None or valuation.generated_labels is None:
        return {}
    labels = (contributor_labels(valuation), generated_labels(valuation))
    parts = {
        "contributors of the same class": class_ratio(*labels),
        "scores given to the same class": weighted_class_share(
            *labels, valuation.contributions.scores
        ),
    }
    return {
        name: bootstrap_interval(part, level, seed)
        for name, part in parts.items()
        if (~np.isnan(part)).sum() > 1
    }


def _values_from(valuation: Valuation, images: NDArray[np.int64]) -> Floats:
    return replace(valuation, contributions=valuation.contributions.select(images)).values


def _standing(uncertainty: Uncertainty) -> Table:
    """Training images by their number of effective images, with median intervals."""
    steps = (0.0, 1e-9, FEW, 20.0, 100.0, math.inf)
    names = ("none", f"under {FEW:g}", f"{FEW:g} to 20", "20 to 100", "100 and more")
    rows: list[list[Cell]] = []
    for name, least, most in zip(names, steps, steps[1:], strict=False):
        within = (uncertainty.effective >= least) & (uncertainty.effective < most)
        if not within.any():
            continue
        value, low, high = (
            float(np.median(column[within]))
            for column in (uncertainty.values, uncertainty.low, uncertainty.high)
        )
        rows.append([name, int(within.sum()), value, low, high])
    columns = ("effective images", "training images", "median value", "low", "high")
    return Table("What values stand on", columns, grid(rows), digits=4)


def _intervals(
    title: str, columns: Sequence[str], intervals: Mapping[str, Interval]
) -> list[Table]:
    """A table of named intervals; none without intervals."""
    rows: list[list[Cell]] = [
        [name, interval.mean, interval.low, interval.high] for name, interval in intervals.items()
    ]
    return [Table(title, (*columns, "low", "high"), grid(rows), digits=4)] if rows else []


def _growing(uncertainty: Uncertainty) -> list[Table]:
    """Agreement as measured for each size, and as expected for larger sets."""
    m, ranks, top = uncertainty.m, uncertainty.ranks, uncertainty.top
    rows: list[list[Cell]] = [
        [str(halves.m), "measured", halves.ranks, halves.top] for halves in uncertainty.agreements
    ]
    if ranks is not None:
        for size in (m, 2 * m, 5 * m):
            rows.append([str(size), "expected", ranks.at(size), top.at(size) if top else None])
    columns = ("images in each set", "", "agreement of ranks", f"common top {TOP_OF_HALVES}")
    return [Table("Agreement of two sets of generated images", columns, grid(rows))] if rows else []


def _draw(figure: Figure, uncertainty: Uncertainty) -> None:
    panel = figure.subplots()
    agreements = uncertainty.agreements
    ms = [halves.m for halves in agreements]
    lines = (
        ("agreement of ranks", [halves.ranks for halves in agreements], uncertainty.ranks),
        (f"common top {TOP_OF_HALVES}", [halves.top for halves in agreements], uncertainty.top),
    )
    for name, measured, growth in lines:
        (line,) = panel.plot(ms, measured, marker="o", linestyle="", label=name)
        if growth is not None:
            along = np.geomspace(ms[0], 10 * uncertainty.m, 50)
            expected = [growth.at(m) for m in along]
            panel.plot(along, expected, color=line.get_color(), linestyle="--", linewidth=1)
    panel.axhline(TARGET, color="grey", linewidth=0.8)
    panel.axvline(uncertainty.m, color="grey", linewidth=0.8, linestyle=":")
    panel.set_xscale("log")
    panel.set_ylim(0, 1)
    panel.set_xlabel("generated images in each of two sets (dotted: this run)")
    panel.set_ylabel("agreement (dashed: expected)")
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
