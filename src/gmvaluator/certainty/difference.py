"""Two runs go in; what differs in their settings, images and values comes out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gmvaluator.certainty.agreement import common_top, rank_correlation
from gmvaluator.certainty.tables import Cell, Table
from gmvaluator.errors import InputError
from gmvaluator.runs.record import RunRecord
from gmvaluator.runs.valuation import Valuation
from gmvaluator.settings import LATER_SETTINGS
from gmvaluator.shown import short_repr

TOLERANCE = 1e-6
"""Largest change of a value that counts as none, as a part of the largest value."""
LARGEST = 10
TOP = 100
"""Number of most valuable images that are compared."""


@dataclass(frozen=True)
class Entry:
    """An entry of `run.json` that differs: a setting, a version or a weight file."""

    name: str
    first: Any
    second: Any


@dataclass(frozen=True)
class Change:
    """A training image's value and rank in both runs."""

    train_id: str
    first: float
    second: float
    first_rank: int
    second_rank: int


@dataclass(frozen=True)
class Sets:
    """Numbers of images of one kind that both runs have, or one of them alone.

    Attributes:
        both: ids in both runs; `changed` of these have another content.
        only_first, only_second: ids in one run.
    """

    both: int
    only_first: int
    only_second: int
    changed: int

    @property
    def same(self) -> bool:
        return not (self.only_first or self.only_second or self.changed)


@short_repr
@dataclass(frozen=True)
class RunDifference:
    """What differs between two runs.

    Attributes:
        first, second: folders of the runs.
        settings, versions, weights: entries that differ; None stands for an entry that a run lacks.
        train, generated: images, compared by id.
        ranks: Spearman's correlation of the values of the training images that both have; None:
            constant values, or fewer than two such images.
        n_top, top: number of the most valuable of these images (a tenth, at most `TOP`), and the
            share of them that both have in common.
        change: largest change of a value, as a part of the largest value.
        largest: the training images whose values change most, greatest change first.
        unattributed: generated images without a close match, in each run; None: not tested.
        idle: number of training images that contributed to nothing, in each run. They share a rank.
        tolerance: largest `change` that counts as none.
    """

    first: Path
    second: Path
    settings: tuple[Entry, ...]
    versions: tuple[Entry, ...]
    weights: tuple[Entry, ...]
    train: Sets
    generated: Sets
    ranks: float | None
    n_top: int
    top: float
    change: float
    largest: tuple[Change, ...]
    unattributed: tuple[int | None, int | None]
    idle: tuple[int, int]
    tolerance: float

    @property
    def equal(self) -> bool:
        """Whether both runs value the same images by the same images and alike."""
        return self.train.same and self.generated.same and self.change <= self.tolerance

    def as_json(self) -> dict[str, Any]:
        entries = asdict(self)
        return entries | {
            "first": str(self.first),
            "second": str(self.second),
            "equal": self.equal,
        }

    def as_text(self) -> str:
        rows: list[tuple[Cell, ...]] = [
            (kind, entry.name, _text(entry.first), _text(entry.second))
            for kind, entries in (
                ("setting", self.settings),
                ("version", self.versions),
                ("weights", self.weights),
            )
            for entry in entries
        ]
        parts = ["settings, versions and weights are the same"]
        if rows:
            columns = ("what differs", "name", str(self.first), str(self.second))
            parts = [Table("How the runs were made", columns, tuple(rows)).as_text()]
        for name, sets in (("training", self.train), ("generated", self.generated)):
            parts[-1] += (
                f"\n{sets.both} {name} images in both runs, {sets.only_first} only in "
                f"{self.first}, {sets.only_second} only in {self.second}"
            )
            if sets.changed:
                parts[-1] += f"; {sets.changed} have another content"
        before, after = ("not tested" if n is None else str(n) for n in self.unattributed)
        parts[-1] += f"\ngenerated images without a close match: {before} and {after}"
        first, second = self.idle
        parts[-1] += f"\ntraining images that contributed to nothing: {first} and {second}"
        if self.train.both:
            ranks = "undefined" if self.ranks is None else f"{self.ranks:.4f}"
            parts[-1] += (
                f"\nagreement of ranks (Spearman): {ranks}; common among the "
                f"{self.n_top} most valuable: {100 * self.top:.0f} %"
            )
        if self.change > self.tolerance:
            parts.append(self._changes())
        parts.append(self._verdict())
        return "\n\n".join(parts)

    def _changes(self) -> str:
        columns = (*("training image", "value", "other value", "change", "rank", "other rank"),)
        rows: list[tuple[Cell, ...]] = [
            (
                *(line.train_id, line.first, line.second, line.second - line.first),
                *(str(line.first_rank), str(line.second_rank)),
            )
            for line in self.largest
        ]
        return Table("Largest changes", columns, tuple(rows), digits=5).as_text()

    def _verdict(self) -> str:
        size = f"{100 * self.change:.3g} % of the largest value"
        if self.equal:
            return f"equal: no value changes by more than {size}"
        if not (self.train.same and self.generated.same):
            return "different: the runs are of other images"
        return f"different: a value changes by {size} (--tolerance {self.tolerance:g})"


def diff_runs(
    run: str | Path, other: str | Path, *, tolerance: float = TOLERANCE, largest: int = LARGEST
) -> RunDifference:
    """Compare two runs; nothing is written, and no image is read.

    Args:
        run, other: folders of the runs.
        tolerance: largest change of a value that counts as none, as a part of the largest value.
        largest: number of changes to list.

    Raises:
        InputError: a tolerance below 0 or a negative number of changes.
        RunError: no run is there, or a file was changed since the run was saved.
    """
    if not 0 <= tolerance < math.inf:
        raise InputError(f"tolerance {tolerance} was given; pass a number of 0 or more")
    if largest < 0:
        raise InputError(f"{largest} changes were asked for; pass 0 or more")
    one, two = Valuation.load(run), Valuation.load(other)
    row_of = {name: row for row, name in enumerate(two.train_ids)}
    pairs = [(row, row_of[name]) for row, name in enumerate(one.train_ids) if name in row_of]
    mine, theirs = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    values, others = one.values[mine], two.values[theirs]
    scale = max((float(np.abs(side).max(initial=0)) for side in (values, others)), default=0)
    changes = np.abs(others - values)
    n_top = min(TOP, -(-len(pairs) // 10))
    ranks = rank_correlation(values, others) if len(pairs) > 1 else math.nan
    return RunDifference(
        first=Path(run),
        second=Path(other),
        settings=_settings(one.record, two.record),
        versions=_entries(one.record.versions or {}, two.record.versions or {}),
        weights=_entries(one.record.weights or {}, two.record.weights or {}),
        train=_sets(one.train_ids, one.train_keys, two.train_ids, two.train_keys),
        generated=_sets(
            one.generated_ids, one.generated_keys, two.generated_ids, two.generated_keys
        ),
        ranks=None if math.isnan(ranks) else ranks,
        n_top=n_top,
        top=common_top(values, others, n_top) if pairs else 0.0,
        change=float(changes.max(initial=0)) / scale if scale else 0.0,
        largest=tuple(
            Change(
                one.train_ids[mine[at]],
                float(values[at]),
                float(others[at]),
                int(one.ranks[mine[at]]),
                int(two.ranks[theirs[at]]),
            )
            for at in np.argsort(-changes, kind="stable")[:largest]
            if changes[at] > 0
        ),
        unattributed=(_unattributed(one.record), _unattributed(two.record)),
        idle=(int((one.n_supported == 0).sum()), int((two.n_supported == 0).sum())),
        tolerance=tolerance,
    )


def _settings(one: RunRecord, two: RunRecord) -> tuple[Entry, ...]:
    """Settings that differ; an earlier version's run has those that it did not know."""
    first, second = (
        {**LATER_SETTINGS, **record.settings, "seed": record.seed, "null": record.settings.null}
        for record in (one, two)
    )
    return _entries(first, second)


def _entries(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Entry, ...]:
    return tuple(
        Entry(name, first.get(name), second.get(name))
        for name in sorted({*first, *second})
        if first.get(name) != second.get(name)
    )


def _sets(
    first: Sequence[str],
    first_keys: Sequence[str] | None,
    second: Sequence[str],
    second_keys: Sequence[str] | None,
) -> Sets:
    """Images by id, and by content key where both runs recorded it."""
    one, two = set(first), set(second)
    keys = [
        dict(zip(ids, keys or (), strict=False))
        for ids, keys in ((first, first_keys), (second, second_keys))
    ]
    both = one & two
    changed = sum(keys[0][name] != keys[1][name] for name in both) if all(keys) else 0
    return Sets(len(both), len(one - two), len(two - one), changed)


def _unattributed(record: RunRecord) -> int | None:
    test = record.unattributed
    return None if test is None or test.reason else test.images


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return " + ".join(f"{name}={weight:g}" for name, weight in value.items()) or "none"
    text = str(value)
    return text if len(text) < 64 else f"{text[:12]}…"
