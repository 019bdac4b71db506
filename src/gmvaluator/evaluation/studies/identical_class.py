"""C1: do the contributors of a generated image have its class? (Tables 2 and 7)

With other valuers, the study compares encoders (Appendix G) and distances (Appendix H).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gmvaluator.certainty.agreement import contributor_labels, generated_labels
from gmvaluator.certainty.tables import Cell, StudyResult
from gmvaluator.evaluation.layout import Line, plot, table
from gmvaluator.evaluation.metrics import chance_ratio, class_ratio, weighted_class_share
from gmvaluator.evaluation.paper import CLASS_RATIO
from gmvaluator.evaluation.study import (
    Context,
    Pieces,
    check_ks,
    measure,
)
from gmvaluator.evaluation.subjects.subject import Sample
from gmvaluator.runs.valuation import Valuation

KS = (30, 50, 100)
# ends the name of a subject whose generator has no classes: a classifier named its images
UNCONDITIONAL = "-unconditional"


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
        ks: numbers of nearest contributors.
        name: name of the result.
        title: title of the result.
        notes: further sentences under the tables.

    Raises:
        InputError: there is no k, or labels are missing.
    """
    check_ks(ks)
    train_labels = context.train_labels

    def measured(valuation: Valuation, sample: Sample) -> dict[str, Any]:
        labels = contributor_labels(valuation)[:, : max(ks)], generated_labels(valuation)
        scores = valuation.contributions.scores[:, : max(ks)]
        shares = weighted_class_share(*labels, scores)
        return {
            "ratio": {str(k): float(class_ratio(*labels, k).mean()) for k in ks},
            "weighted": float(np.nanmean(shares)),
            "chance": chance_ratio(train_labels, labels[1]),
        }

    pieces = measure(context, "c1", max(ks), measured, extra={"ks": sorted(ks)})
    subjects = [subject.name for subject in context.subjects]

    def rows(subject: str) -> Iterator[list[Cell]]:
        paper = CLASS_RATIO.get((context.train_name, subject.removesuffix(UNCONDITIONAL)))
        if paper:
            yield ["paper's best", *(paper[k] / 100 if k in paper else None for k in ks), None]
        for valuer in context.valuers:
            ratios = [pieces.mean(valuer.name, subject, "ratio", str(k)) for k in ks]
            yield [valuer.name, *ratios, pieces.mean(valuer.name, subject, "weighted")]

    columns = ("valuer", *(f"k = {k}" for k in ks), f"by scores, k = {max(ks)}")
    panels = {
        subject: [
            Line(v.name, ks, [pieces.mean(v.name, subject, "ratio", str(k)) for k in ks])
            for v in context.valuers
        ]
        for subject in subjects
    }
    return StudyResult(
        name=name,
        title=title,
        tables=tuple(
            table(f"{context.train_name}, images of {subject}", columns, rows(subject))
            for subject in subjects
        ),
        parameters=context.parameters() | {"k": list(ks)},
        notes=(_note(context, pieces), *context.reading_notes(), *notes),
        details=pieces.details(),
        plots={"ratio": plot(panels, "contributors k", "identical class ratio")},
    )


def _note(context: Context, pieces: Pieces) -> str:
    legible = []
    for subject in context.subjects:
        first = next((p for p in pieces if p.subject == subject.name), None)
        if first and first.result["legibility"] is not None:
            share = pieces.mean(first.valuer, subject.name, "legibility").mean
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
