"""C1: do the contributors of a generated image have its class? (Tables 2 and 7)

Also what Appendix G (encoders) and H (distances) compare, with other valuers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gmvaluator.errors import InputError
from gmvaluator.evaluation.metrics import (
    chance_ratio,
    class_ratio,
    weighted_class_share,
)
from gmvaluator.evaluation.paper import CLASS_RATIO
from gmvaluator.evaluation.results import Cell, StudyResult, Table, grid
from gmvaluator.evaluation.study import (
    Context,
    Piece,
    contributor_labels,
    generated_labels,
    measure,
    over_seeds,
)
from gmvaluator.evaluation.subjects.subject import Sample
from gmvaluator.runs.valuation import Valuation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KS = (30, 50, 100)
# at the end of a subject's name: no class was asked of the generator, a classifier named it
UNCONDITIONAL = "-unconditional"
_PANELS_A_ROW = 3


def identical_class(
    context: Context,
    ks: Sequence[int] = KS,
    *,
    name: str = "c1",
    title: str = "Identical class test (C1)",
    notes: Sequence[str] = (),
) -> StudyResult:
    """The identical class test.

    Args:
        context: labelled training images and subjects.
        ks: how many of the nearest contributors are looked at.
        name: of the result.
        title: of the result.
        notes: more sentences under the tables.

    Raises:
        InputError: no k, or labels are missing.
    """
    if not ks or min(ks) < 1:
        raise InputError(f"k={list(ks)}; pass numbers of contributors ≥ 1")
    deepest = max(ks)
    train_labels = context.train_labels

    def measured(valuation: Valuation, sample: Sample) -> dict[str, Any]:
        of_contributors, of_generated = contributor_labels(valuation), generated_labels(valuation)
        return {
            "ratio": {
                str(k): float(class_ratio(of_contributors, of_generated, k).mean()) for k in ks
            },
            "weighted": float(
                np.nanmean(
                    weighted_class_share(
                        of_contributors, of_generated, valuation.contributions.scores
                    )
                )
            ),
            "chance": chance_ratio(train_labels, of_generated),
        }

    pieces = measure(context, "c1", deepest, measured, extra={"ks": sorted(ks)})
    return StudyResult(
        name=name,
        title=title,
        tables=tuple(_tables(context, pieces, ks)),
        parameters=context.parameters() | {"k": list(ks)},
        notes=(_note(context, pieces), *context.reading_notes(), *notes),
        details={"pieces": [vars(piece) for piece in pieces]},
        plots={"ratio": lambda figure: _draw(figure, context, pieces, ks)},
    )


def _tables(context: Context, pieces: Sequence[Piece], ks: Sequence[int]) -> list[Table]:
    tables = []
    for subject in context.subjects:
        rows: list[list[Cell]] = []
        family = subject.name.removesuffix(UNCONDITIONAL)
        paper = CLASS_RATIO.get((context.train_name, family))
        if paper:
            rows.append(["paper's best", *(_percent(paper, k) for k in ks), None])
        for valuer in context.valuers:
            ratios = [over_seeds(pieces, valuer.name, subject.name, "ratio", str(k)) for k in ks]
            weighted = over_seeds(pieces, valuer.name, subject.name, "weighted")
            rows.append([valuer.name, *ratios, weighted])
        columns = ("valuer", *(f"k = {k}" for k in ks), f"by scores, k = {max(ks)}")
        tables.append(Table(f"{context.train_name}, images of {subject.name}", columns, grid(rows)))
    return tables


def _percent(paper: Any, k: int) -> float | None:
    return paper[k] / 100 if k in paper else None


def _note(context: Context, pieces: Sequence[Piece]) -> str:
    legible = []
    for subject in context.subjects:
        own = [piece for piece in pieces if piece.subject == subject.name]
        if own and own[0].result["legibility"] is not None:
            share = over_seeds(pieces, own[0].valuer, subject.name, "legibility").mean
            legible.append(f"{subject.name} {100 * share:.1f} %")
    chance = np.mean([piece.result["chance"] for piece in pieces])
    text = (
        f"Means over {context.seeds} seeds of {context.m} images with 95 % intervals; chance gives "
        f"{chance:.3f}."
    )
    if legible:
        text += (
            f" Legible, that is a second reading confirms the class: {', '.join(legible)}; on the "
            "others a valuer is right or wrong by chance."
        )
    return text


def _draw(figure: Figure, context: Context, pieces: Sequence[Piece], ks: Sequence[int]) -> None:
    columns = min(_PANELS_A_ROW, len(context.subjects))
    rows = -(-len(context.subjects) // columns)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for empty in axes.flat[len(context.subjects) :]:
        empty.remove()
    for panel, subject in zip(axes.flat, context.subjects, strict=False):
        for valuer in context.valuers:
            found = [over_seeds(pieces, valuer.name, subject.name, "ratio", str(k)) for k in ks]
            means = [each.mean for each in found]
            halves = [(each.high - each.low) / 2 for each in found]
            panel.errorbar(list(ks), means, yerr=halves, marker="o", capsize=3, label=valuer.name)
        panel.set_title(subject.name)
        panel.grid(alpha=0.3)
    figure.supxlabel("contributors k")
    figure.supylabel("identical class ratio")
    axes[0, 0].legend(fontsize="x-small")
