"""C2: do the contributors of a generated image share its attributes? (Tables 3, 8 and 14)"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations as subsets
from typing import TYPE_CHECKING, Any

import numpy as np

from gmvaluator.certainty.tables import Cell, StudyResult, Table
from gmvaluator.errors import InputError
from gmvaluator.evaluation.layout import legend_above, table, titled_panels
from gmvaluator.evaluation.metrics import Interval, attribute_ratio, mean_interval
from gmvaluator.evaluation.study import Context, Pieces, check_ks, measure
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
# from the paper's text on Table 3, on other data, so for orientation only
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
        context: training images with one metadata column per attribute. Generated images have the
            same columns, or labels that decide them (see `subjects.attributes`).
        attributes: names of the columns.
        ks: numbers of nearest contributors.
        combinations: groups of attributes that must agree together. Default: every pair, and all.
        name: name of the result.
        title: title of the table.
        readers: train a classifier per attribute, and report how often it reads the attribute
            that a generated image should show.

    Raises:
        InputError: there is no k, no attribute, an unknown attribute, or a column without values.
    """
    check_ks(ks)
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
    read = _read(context, of_train) if readers else {}
    tables = [_table(context, pieces, subject.name, groups, ks) for subject in context.subjects]
    if read:
        rows = ([name, *(shares[a] for a in attributes)] for name, shares in read.items())
        heads = ("images", *attributes)
        tables.append(table("Images that a classifier reads as they should be", heads, rows))
    return StudyResult(
        name=name,
        title=title or "Identical attributes test (C2)",
        tables=tuple(tables),
        parameters=context.parameters()
        | {"k": list(ks), "attributes": list(attributes), "combinations": extra["groups"]},
        notes=(*_notes(context, read), PAPER_NOTE),
        details=pieces.details() | {"read": read},
        plots={"ratio": lambda figure: _draw(figure, context, pieces, groups, min(ks))},
    )


def attribute_groups(
    attributes: Sequence[str], combinations: Sequence[Sequence[str]] | None = None
) -> list[Combination]:
    """Each attribute alone, then the combinations. Default: every pair, then all attributes.

    Raises:
        InputError: there is no attribute or the same attribute twice, or a combination has fewer
            than two attributes or an unknown one.
    """
    if not attributes or len(set(attributes)) < len(attributes):
        raise InputError(f"attributes {list(attributes)}; pass at least one, each once")
    groups = combinations
    if groups is None:
        groups = [*subsets(attributes, 2), tuple(attributes)]
    for group in groups:
        if (combinations is not None and len(set(group)) < 2) or set(group) - set(attributes):
            raise InputError(
                f"combination {list(group)}; pass two or more of {', '.join(attributes)}"
            )
    single = [(name,) for name in attributes]
    return list(dict.fromkeys([*single, *(tuple(group) for group in groups)]))


def agreement(
    valuation: Valuation,
    of_train: Attributes,
    of_generated: Attributes,
    groups: Sequence[Combination],
    ks: Sequence[int],
) -> dict[str, Any]:
    """How often contributors agree with their generated images, and how often by chance.

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
    agreements: dict[str, Any] = {"ratio": {}, "possible": {}, "chance": {}}
    for group in groups:
        name = _text(group)
        train = [of_train[attribute] for attribute in group]
        contributors = [values[rows] for values in train]
        wanted = [of_generated[attribute] for attribute in group]
        agreements["ratio"][name] = {
            str(k): float(attribute_ratio(contributors, wanted, k).mean()) for k in ks
        }
        agreements["possible"][name] = {str(k): possible_agreement(train, wanted, k) for k in ks}
        agreements["chance"][name] = chance_agreement(train, wanted)
    return agreements


def _text(group: Combination) -> str:
    return " + ".join(group)


def _table(
    context: Context,
    pieces: Pieces,
    subject: str,
    groups: Sequence[Combination],
    ks: Sequence[int],
) -> Table:
    first = context.valuers[0].name
    texts = [_text(group) for group in groups]

    def cells(valuer: str, what: str, *k: str) -> list[Interval]:
        return [pieces.mean(valuer, subject, what, text, *k) for text in texts]

    rows: list[list[Cell]] = [["chance", None, *(cell.mean for cell in cells(first, "chance"))]]
    for k in ks:
        rows += [[v.name, k, *cells(v.name, "ratio", str(k))] for v in context.valuers]
        possible = cells(first, "possible", str(k))
        rows.append(["most possible", k, *(cell.mean for cell in possible)])
    title = f"{context.train_name}, images of {subject}"
    return table(title, ("valuer", "k", *texts), rows)


def _read(context: Context, of_train: Attributes) -> dict[str, dict[str, Interval | float]]:
    """By subject and attribute, the share of images whose attribute the classifiers read."""
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
    pieces: Pieces,
    groups: Sequence[Combination],
    k: int,
) -> None:
    """A panel a subject: groups of attributes down, a mark for each valuer at the smallest k."""
    subjects = [subject.name for subject in context.subjects]
    axes = titled_panels(figure, subjects, wide=len(subjects))
    down = np.arange(len(groups))
    for panel, subject in zip(axes, subjects, strict=True):
        for number, valuer in enumerate(context.valuers):
            shares = [
                pieces.mean(valuer.name, subject, "ratio", _text(group), str(k)) for group in groups
            ]
            means = [share.mean for share in shares]
            halves = [(share.high - share.low) / 2 for share in shares]
            aside = down + 0.6 * ((number + 0.5) / len(context.valuers) - 0.5)
            panel.errorbar(means, aside, xerr=halves, fmt="o", ms=3, capsize=2, label=valuer.name)
        first = context.valuers[0].name
        chance = [pieces.mean(first, subject, "chance", _text(group)).mean for group in groups]
        panel.scatter(chance, down, marker="|", s=150, color="black", label="chance")
        panel.set_xlim(-0.03, 1.03)
        panel.tick_params(labelsize="small")
    axes[0].set_yticks(down, ["\n+ ".join(group) for group in groups], fontsize="small")
    axes[0].invert_yaxis()
    figure.supxlabel(f"share of the first {k} contributors", fontsize="medium")
    legend_above(figure, axes[0])
