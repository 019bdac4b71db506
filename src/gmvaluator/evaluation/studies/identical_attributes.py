"""C2: do the contributors of a generated image share its attributes? (Tables 3, 8 and 14)"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations as subsets
from typing import TYPE_CHECKING, Any

import numpy as np

from gmvaluator.errors import InputError
from gmvaluator.evaluation.metrics import Interval, attribute_ratio, mean_interval
from gmvaluator.evaluation.results import Cell, StudyResult, Table, grid
from gmvaluator.evaluation.study import Context, Piece, measure, over_seeds
from gmvaluator.evaluation.subjects.attributes import (
    AttributeReaders,
    Attributes,
    by_id,
    carried_attributes,
    chance_agreement,
    known_attributes,
    possible_agreement,
)
from gmvaluator.evaluation.subjects.subject import Sample, SetSubject
from gmvaluator.runs.valuation import Valuation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KS = (5, 10, 15)
# said in the paper's text on Table 3; other data, so for orientation only
PAPER_NOTE = (
    "The paper reports at k = 5 for CelebA, re-ranked by DreamSim, at least 0.96 for hats, 0.95 "
    "for eyeglasses and 0.98 for gender (Table 3)."
)

READERS_NOTE = (
    "The classifiers, one an attribute, learn nine tenths of the training images; what they read "
    "in drawn images says how legible these are, and errs as they do on real ones."
)

Combination = tuple[str, ...]


def identical_attributes(
    context: Context,
    attributes: Sequence[str],
    ks: Sequence[int] = KS,
    combinations: Sequence[Sequence[str]] | None = None,
    *,
    name: str = "c2",
    title: str | None = None,
    readers: bool = True,
) -> StudyResult:
    """The identical attributes test.

    Args:
        context: training images with a metadata column an attribute. Generated images carry the
            same columns, or a label that decides them (see `evaluation.attributes`).
        attributes: the columns.
        ks: how many of the nearest contributors are looked at.
        combinations: attributes that must agree together (default: every pair, and all).
        name: of the result.
        title: of the table.
        readers: also train a classifier for each attribute, and tell how often it reads what a
            generated image should show.

    Raises:
        InputError: no k, no or unknown attributes, or columns without values.
    """
    if not ks or min(ks) < 1:
        raise InputError(f"k={list(ks)}; pass numbers of contributors ≥ 1")
    groups = attribute_groups(attributes, combinations)
    of_train = known_attributes(context.train, attributes, "training images")

    def measured(valuation: Valuation, sample: Sample) -> dict[str, Any]:
        carried = carried_attributes(sample.images, context.train, attributes)
        return agreement(
            valuation,
            by_id(context.train, of_train, valuation.train_ids),
            by_id(sample.images, carried, valuation.generated_ids),
            groups,
            ks,
        )

    extra = {"ks": sorted(ks), "groups": [list(group) for group in groups]}
    pieces = measure(context, "c2", max(ks), measured, extra=extra)
    tables = [_table(context, pieces, subject.name, groups, ks) for subject in context.subjects]
    read = _read(context, of_train) if readers else {}
    return StudyResult(
        name=name,
        title=title or "Identical attributes test (C2)",
        tables=(*tables, *([_reading_table(read, attributes)] if read else [])),
        parameters=context.parameters()
        | {"k": list(ks), "attributes": list(attributes), "combinations": extra["groups"]},
        notes=(*_notes(context, read), PAPER_NOTE),
        details={"pieces": [vars(piece) for piece in pieces], "read": read},
        plots={"ratio": lambda figure: _draw(figure, context, pieces, groups, min(ks))},
    )


def attribute_groups(
    attributes: Sequence[str], combinations: Sequence[Sequence[str]] | None = None
) -> list[Combination]:
    """Each attribute alone, then the combinations (default: every pair, then all of them).

    Raises:
        InputError: no attribute, one twice, or a combination of fewer than two or unknown ones.
    """
    if not attributes or len(set(attributes)) < len(attributes):
        raise InputError(f"attributes {list(attributes)}; pass at least one, each once")
    chosen = combinations
    if chosen is None:
        chosen = [*subsets(attributes, 2), tuple(attributes)]
    for group in chosen:
        if (combinations is not None and len(set(group)) < 2) or set(group) - set(attributes):
            raise InputError(
                f"combination {list(group)}; pass two or more of {', '.join(attributes)}"
            )
    single = [(name,) for name in attributes]
    return list(dict.fromkeys([*single, *(tuple(group) for group in chosen)]))


def agreement(
    valuation: Valuation,
    of_train: Attributes,
    of_generated: Attributes,
    groups: Sequence[Combination],
    ks: Sequence[int],
) -> dict[str, Any]:
    """How often contributors agree with their generated images, and what chance would give.

    Args:
        valuation: n training and m generated images, at least max(ks) contributors.
        of_train, of_generated: (n,) and (m,) each, in the valuation's order.
        groups: attributes that must agree together.
        ks: contributors to look at.

    Returns:
        `ratio` and `possible` (were all that agree among the first k) by group and k, `chance`
        by group; means over the generated images.
    """
    rows = valuation.contributions.rows
    ratios: dict[str, dict[str, float]] = {}
    possible: dict[str, dict[str, float]] = {}
    chances: dict[str, float] = {}
    for group in groups:
        contributors = [of_train[name][rows] for name in group]
        asked = [of_generated[name] for name in group]
        ratios[_text(group)] = {
            str(k): float(attribute_ratio(contributors, asked, k).mean()) for k in ks
        }
        held = [of_train[name] for name in group]
        possible[_text(group)] = {str(k): possible_agreement(held, asked, k) for k in ks}
        chances[_text(group)] = chance_agreement(held, asked)
    return {"ratio": ratios, "possible": possible, "chance": chances}


def _text(group: Combination) -> str:
    return " + ".join(group)


def _table(
    context: Context,
    pieces: Sequence[Piece],
    subject: str,
    groups: Sequence[Combination],
    ks: Sequence[int],
) -> Table:
    def row(title: str, valuer: str, k: int | None, *path: str) -> list[Cell]:
        deeper = () if k is None else (str(k),)
        found = [
            over_seeds(pieces, valuer, subject, *path, _text(group), *deeper) for group in groups
        ]
        own = path == ("ratio",)
        return [title, k, *(each if own else each.mean for each in found)]

    first = context.valuers[0].name
    rows = [row("chance", first, None, "chance")]
    for k in ks:
        rows += [row(valuer.name, valuer.name, k, "ratio") for valuer in context.valuers]
        rows.append(row("most possible", first, k, "possible"))
    columns = ("valuer", "k", *map(_text, groups))
    return Table(f"{context.train_name}, images of {subject}", columns, grid(rows))


def _read(context: Context, of_train: Attributes) -> dict[str, dict[str, Interval | float]]:
    """By subject and attribute, how often classifiers read what images should show."""
    readers = AttributeReaders(
        context.train, of_train, context.work, tag=context.train_name, progress=context.progress
    )
    read: dict[str, dict[str, Interval | float]] = {}
    for subject in context.subjects:
        shares = []
        for seed in range(context.seeds):
            images = subject.sample(context.m, seed).images
            carried = carried_attributes(images, context.train, list(of_train))
            shares.append(readers.agreement(images, carried))
        read[subject.name] = {
            name: mean_interval([share[name] for share in shares]) for name in of_train
        }
    read["held-out tenth of the training images"] = dict(readers.accuracy())
    return read


def _reading_table(
    read: dict[str, dict[str, Interval | float]], attributes: Sequence[str]
) -> Table:
    rows: list[list[Cell]] = [
        [subject, *(shares[name] for name in attributes)] for subject, shares in read.items()
    ]
    return Table(
        "Images that a classifier reads as they should be", ("images", *attributes), grid(rows)
    )


def _notes(context: Context, read: dict[str, Any]) -> tuple[str, ...]:
    text = (
        f"Share of the first k contributors that agree in every attribute named; means over "
        f"{context.seeds} seeds of {context.m} images with 95 % intervals. Chance: contributors "
        "drawn at random from the training set. Most possible: below 1 where fewer than k training "
        "images agree."
    )
    notes = [text]
    if any(isinstance(subject, SetSubject) for subject in context.subjects):
        notes.append(
            "Repetitions that are drawn from one set share images, the more the closer m is to the "
            "set's size; their intervals are narrower than those of independent ones."
        )
    if read:
        notes.append(READERS_NOTE)
    return tuple(notes)


def _draw(
    figure: Figure,
    context: Context,
    pieces: Sequence[Piece],
    groups: Sequence[Combination],
    k: int,
) -> None:
    """A panel a subject: groups of attributes down, a mark for each valuer at the smallest k."""
    axes = figure.subplots(1, len(context.subjects), sharex=True, sharey=True, squeeze=False)[0]
    down = np.arange(len(groups))
    first = context.valuers[0].name
    for panel, subject in zip(axes, context.subjects, strict=True):
        for number, valuer in enumerate(context.valuers):
            found = [
                over_seeds(pieces, valuer.name, subject.name, "ratio", _text(group), str(k))
                for group in groups
            ]
            means = [each.mean for each in found]
            halves = [(each.high - each.low) / 2 for each in found]
            aside = down + 0.6 * ((number + 0.5) / len(context.valuers) - 0.5)
            panel.errorbar(means, aside, xerr=halves, fmt="o", ms=3, capsize=2, label=valuer.name)
        chance = [
            over_seeds(pieces, first, subject.name, "chance", _text(group)).mean for group in groups
        ]
        panel.scatter(chance, down, marker="|", s=150, color="black", label="chance")
        panel.set_title(subject.name, fontsize="medium")
        panel.set_xlim(-0.03, 1.03)
        panel.tick_params(labelsize="small")
        panel.grid(alpha=0.3)
    axes[0].set_yticks(down, ["\n+ ".join(group) for group in groups], fontsize="small")
    axes[0].invert_yaxis()
    figure.supxlabel(f"share of the first {k} contributors", fontsize="medium")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4, fontsize="small")
