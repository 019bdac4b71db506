"""How certain the values of one run are, and how many generated images would be enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.certainty.agreement import (
    class_ratio,
    common_top,
    contributor_labels,
    generated_labels,
    rank_correlation,
    weighted_class_share,
)
from gmvaluator.certainty.intervals import (
    DEFAULT_LEVEL,
    FEW,
    Interval,
    bootstrap_interval,
    bootstrap_shares,
    effective_images,
    value_intervals,
)
from gmvaluator.certainty.tables import Cell, Draw, StudyResult, Table, grid, plots_at_hand
from gmvaluator.errors import InputError
from gmvaluator.files.atomic import publish_file
from gmvaluator.files.seals import RUN_SEAL, SEAL
from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.progress import Progress, Silent
from gmvaluator.runs.tables import MARKER, read_marker
from gmvaluator.runs.valuation import Valuation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

NAME = "uncertainty"
INTERVALS = "intervals.parquet"
TOP = 50
TARGET = 0.9
REPEATS = 8
"""Random pairs of halves a size; a pair of 10,000 images takes a tenth of a second."""
NUMBERS = 1 << 23
"""Scores by label that are held at once: 64 MB."""
FURTHEST = 20
"""No advice goes beyond this many times the images at hand."""


@dataclass(frozen=True)
class Agreement:
    """How well two disjoint sets of `m` images of one run agree on the training images.

    Attributes:
        m: images in each set.
        ranks: Spearman's correlation of the values, mean over random pairs of sets.
        top: share of the 50 most valuable that both have, likewise.
    """

    m: int
    ranks: float
    top: float


@dataclass(frozen=True)
class Growth:
    """Agreement as a function of the number of images: odds r / (1 − r) = e^a · m^b.

    b = 1 is the formula of Spearman and Brown (1910) for the correlation of sums of m independent
    parts. Ranks and tops of values that are mostly near 0 grow slower, so b is fitted, at most 1.
    """

    a: float
    b: float

    @staticmethod
    def fit(ms: Sequence[int], agreements: Sequence[float]) -> Growth | None:
        """Least squares through the three largest m whose agreement is between 0 and 1.

        None where fewer than two are, or agreement does not grow.
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
        """Images a set must have to agree so far."""
        return math.exp((math.log(agreement / (1 - agreement)) - self.a) / self.b)


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What a run says of its own certainty.

    Attributes:
        train_ids, values: of the n training images.
        low, high: (n,) intervals of the values (`bootstrap.value_intervals`).
        effective: (n,) effective images each value stands on (`bootstrap.effective_images`).
        level: nominal coverage.
        labels: label → interval of its share of the total value; empty where none are known.
        criteria: name → interval of the identical class test (C1), where both sides have labels.
            A contributor with copies of other labels counts as of its own, as in studies;
            `labels` shares it among them.
        agreements: of disjoint sets, by their size; empty below 4 images.
        ranks, top: how agreement grows; None where that cannot be said.
        m: generated images.
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

    def advice(self) -> str:
        """How many generated images are enough, in words."""
        if self.ranks is None:
            return (
                f"{self.m} generated images are too few to say how many would be enough: two "
                "halves of them do not agree more the larger they are. Generate more."
            )
        now, needed = self.ranks.at(self.m), self.ranks.needed(TARGET)
        told = (
            f"Another {self.m} images of the same model would rank the training images as these "
            f"do with a correlation of about {now:.2f} (1 = the same order)."
        )
        if needed <= self.m:
            return f"{told} That is enough: {TARGET} needs about {rounded(needed)} images."
        if needed > FURTHEST * self.m:
            return f"{told} {TARGET} needs more than {FURTHEST} times as many images."
        return (
            f"{told} {TARGET} needs about {rounded(needed)} generated images, "
            f"{needed / self.m:.1f} times as many."
        )

    def result(self, run_seal: str | None = None) -> StudyResult:
        """Tables, advice and the curve, as studies have them; `save` writes them.

        `run_seal` is that of the run they are of, if it has one.
        """
        tables = [_standing(self), *_shares(self), *_criteria(self), *_growing(self)]
        plots: dict[str, Draw] = {}
        if self.agreements and plots_at_hand():
            plots["agreement"] = partial(_draw, found=self)
        percent = f"{100 * self.level:g} %"
        return StudyResult(
            name=NAME,
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
                "images_needed": self.ranks.needed(TARGET) if self.ranks else None,
                "agreement_now": self.ranks.at(self.m) if self.ranks else None,
                "top_now": self.top.at(self.m) if self.top else None,
                "agreements": [vars(each) for each in self.agreements],
                "growth": {"ranks": _plain(self.ranks), "top": _plain(self.top)},
                "labels": self.labels,
                "criteria": self.criteria,
                "few": int((self.effective < FEW).sum()),
            },
            plots=plots,
            marks={} if run_seal is None else {RUN_SEAL: run_seal},
        )

    def save(self, run: str | Path, *, run_seal: str | None = None) -> list[Path]:
        """Write intervals.parquet, uncertainty.json, .md and the curve into a run folder.

        `intervals.parquet` has `train_id`, `value`, `low`, `high` and `few` (the value stands on
        fewer than 5 effective images).

        Args:
            run: folder.
            run_seal: of the run when it was read (default: as the folder has it now).

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
        if run_seal is None and (Path(run) / MARKER).is_file():
            run_seal = read_marker(Path(run), MARKER, "run").get(SEAL)
        return [file, *self.result(run_seal).save(run)]


def assess(
    valuation: Valuation,
    *,
    level: float = DEFAULT_LEVEL,
    seed: int = 0,
    progress: Progress | None = None,
) -> Uncertainty:
    """Intervals of every value, label share and criterion, and how agreement grows with m.

    Args:
        valuation: of at least two generated images, with scores that are not negative.
        level: nominal coverage, between 0 and 1.
        seed: of the bootstrap and of the halves.
        progress: hears how far it is.

    Raises:
        InputError: one generated image, negative scores (as gradient valuers give), a level
            outside 0 to 1, or a negative seed.
    """
    if seed < 0:
        raise InputError(f"seed={seed}; pass a whole number of at least 0")
    low, high = value_intervals(valuation.contributions, level=level)
    effective = effective_images(valuation.contributions)
    if (copies := valuation.clusters) is not None:
        # an image's part of its cluster's value is fixed, so it is of the ends as well
        low, high = copies.shared(low), copies.shared(high)
        effective = effective[copies.representatives]
    agreements = halves(valuation, seed=seed, progress=progress)
    ms = [each.m for each in agreements]
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
        ranks=Growth.fit(ms, [each.ranks for each in agreements]),
        top=Growth.fit(ms, [each.top for each in agreements]),
        m=len(valuation.generated_ids),
    )


def halves(
    valuation: Valuation, *, seed: int = 0, repeats: int = REPEATS, progress: Progress | None = None
) -> list[Agreement]:
    """Agreement of disjoint random sets of m/16, m/8, m/4 and m/2 of a run's images.

    Contributors of one generated image do not depend on the others, so no set is valued anew.
    """
    m = len(valuation.generated_ids)
    sizes = sorted({m // part for part in (16, 8, 4, 2)} - {0})
    random = np.random.default_rng(seed)
    found = []
    with (progress or Silent()).stage("halves of the images", len(sizes) * repeats) as advance:
        for size in sizes if len(sizes) > 1 else ():
            ranks, top = [], []
            for _ in range(repeats):
                order = random.permutation(m)
                first, second = (
                    _values_from(valuation, order[start : start + size]) for start in (0, size)
                )
                ranks.append(rank_correlation(first, second))
                top.append(common_top(first, second, TOP))
                advance(1)
            found.append(Agreement(size, _mean(ranks), _mean(top)))
    return found


def label_shares(
    valuation: Valuation, *, level: float = DEFAULT_LEVEL, seed: int = 0
) -> dict[str, Interval]:
    """Share of the total value that the training images of each label have, with its interval.

    Empty where no label is known or no image has a score. Images without a label are one group
    more, `(no label)`.
    """
    if valuation.train_labels is None or not valuation.values.sum():
        return {}
    named = ["(no label)" if label is None else label for label in valuation.train_labels]
    names, group = np.unique(named, return_inverse=True)
    contributions = valuation.contributions
    clusters = valuation.clusters or Clusters.exact(np.arange(len(group)))
    scores = clusters.sparse_by_group(contributions.rows, contributions.scores, group)
    totals, largest = scores.sum(axis=1), contributions.scores.max(axis=1)
    low, high, m = np.empty(len(names)), np.empty(len(names)), len(totals)
    for start in range(0, len(names), max(1, NUMBERS // m)):
        some = slice(start, start + max(1, NUMBERS // m))
        part = scores[:, some].toarray()
        # what other labels have counts in the total; subtraction may leave a little below 0
        rest = np.maximum(totals - part.sum(axis=1), 0.0)
        ends = bootstrap_shares(
            np.column_stack([part, rest]), largest=largest, level=level, seed=seed
        )
        low[some], high[some] = (end[:-1] for end in ends)
    shares = scores.sum(axis=0) / totals.sum()
    return {
        str(name): Interval(float(share), float(a), float(b), m)
        for name, share, a, b in zip(names, shares, low, high, strict=True)
    }


def rounded(images: float) -> int:
    """A number of images to two digits, upwards."""
    step = 10 ** max(0, math.floor(math.log10(max(images, 1))) - 1)
    return int(math.ceil(images / step) * step)


def _class_test(valuation: Valuation, level: float, seed: int) -> dict[str, Interval]:
    """C1 as studies measure it: copies of several labels count as their representative's label."""
    if valuation.train_labels is None or valuation.generated_labels is None:
        return {}
    found = (contributor_labels(valuation), generated_labels(valuation))
    parts = {
        "contributors of the same class": class_ratio(*found),
        "scores given to the same class": weighted_class_share(
            *found, valuation.contributions.scores
        ),
    }
    return {
        name: bootstrap_interval(part, level, seed)
        for name, part in parts.items()
        if (~np.isnan(part)).sum() > 1
    }


def _values_from(valuation: Valuation, images: NDArray[np.int64]) -> Floats:
    contributions = valuation.contributions
    part = replace(
        contributions,
        rows=contributions.rows[images],
        distances=contributions.distances[images],
        scores=contributions.scores[images],
    )
    return replace(valuation, contributions=part).values


def _mean(numbers: Sequence[float]) -> float:
    """NaN where one is: values that are all alike have no order."""
    return float(np.mean(numbers))


def _standing(found: Uncertainty) -> Table:
    """How many training images stand on how many generated ones, and their intervals."""
    steps = (0.0, 1e-9, FEW, 20.0, 100.0, math.inf)
    names = ("none", f"under {FEW:g}", f"{FEW:g} to 20", "20 to 100", "100 and more")
    rows: list[list[Cell]] = []
    for name, least, most in zip(names, steps, steps[1:], strict=False):
        chosen = (found.effective >= least) & (found.effective < most)
        if not chosen.any():
            continue
        value, low, high = (
            float(np.median(column[chosen])) for column in (found.values, found.low, found.high)
        )
        rows.append([name, int(chosen.sum()), value, low, high])
    columns = ("effective images", "training images", "median value", "low", "high")
    return Table("What values stand on", columns, grid(rows), digits=4)


def _shares(found: Uncertainty) -> list[Table]:
    rows: list[list[Cell]] = [
        [name, each.mean, each.low, each.high] for name, each in found.labels.items()
    ]
    columns = ("label", "share of the value", "low", "high")
    return [Table("Labels", columns, grid(rows), digits=4)] if rows else []


def _criteria(found: Uncertainty) -> list[Table]:
    rows: list[list[Cell]] = [
        [name, each.mean, each.low, each.high] for name, each in found.criteria.items()
    ]
    columns = ("criterion", "mean", "low", "high")
    return [Table("Identical class test (C1)", columns, grid(rows), digits=4)] if rows else []


def _growing(found: Uncertainty) -> list[Table]:
    rows: list[list[Cell]] = [
        [str(each.m), "measured", each.ranks, each.top] for each in found.agreements
    ]
    if found.ranks is not None:
        further = sorted({found.m, 2 * found.m, 5 * found.m})
        rows += [
            [str(m), "expected", found.ranks.at(m), found.top.at(m) if found.top else None]
            for m in further
        ]
    columns = ("images in each set", "", "agreement of ranks", f"common top {TOP}")
    return [Table("Agreement of two sets of generated images", columns, grid(rows))] if rows else []


def _draw(figure: Figure, found: Uncertainty) -> None:
    panel = figure.subplots()
    ms = [each.m for each in found.agreements]
    lines = (
        ("agreement of ranks", [each.ranks for each in found.agreements], found.ranks),
        (f"common top {TOP}", [each.top for each in found.agreements], found.top),
    )
    for name, measured, growth in lines:
        (line,) = panel.plot(ms, measured, marker="o", linestyle="", label=name)
        if growth is not None:
            along = np.geomspace(ms[0], 10 * found.m, 50)
            expected = [growth.at(m) for m in along]
            panel.plot(along, expected, color=line.get_color(), linestyle="--", linewidth=1)
    panel.axhline(TARGET, color="grey", linewidth=0.8)
    panel.axvline(found.m, color="grey", linewidth=0.8, linestyle=":")
    panel.set_xscale("log")
    panel.set_ylim(0, 1)
    panel.set_xlabel("generated images in each of two sets (dotted: this run)")
    panel.set_ylabel("agreement (dashed: expected)")
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")


def _plain(growth: Growth | None) -> dict[str, Any] | None:
    return None if growth is None else vars(growth)
