"""Appendix P: product quantization against exact search, in time and in result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gmvaluator.certainty.agreement import contributor_labels, generated_labels
from gmvaluator.certainty.tables import StudyResult
from gmvaluator.errors import InputError
from gmvaluator.evaluation.layout import table
from gmvaluator.evaluation.metrics import class_ratio, contributor_overlap, rank_correlation
from gmvaluator.evaluation.named import NamedValuer
from gmvaluator.evaluation.study import (
    Context,
    FittedValuer,
    Inputs,
    check_variants,
    walk,
)
from gmvaluator.evaluation.subjects.subject import Subject
from gmvaluator.evaluation.valuers import variant
from gmvaluator.runs.valuation import Valuation

INDEXES = ("exact", "pq", "ivfpq")
MEASURES = {
    "overlap": "contributors in common with exact",
    "agreement": "Spearman of the values to exact",
    "ratio": "class ratio",
    "recall": "recall, s",
}


def index_choice(
    context: Context, indexes: Sequence[str] = INDEXES, k: int = 50, *, name: str = "pq"
) -> StudyResult:
    """Compare approximate search with exact search, for the same valuer.

    Args:
        context: each of its valuers runs with every index.
        indexes: names of indexes. All others are compared with the first.
        k: number of contributors per generated image.
        name: name of the result.

    Raises:
        InputError: a valuer is no variant of GMValuator, or there are fewer than two indexes.
    """
    check_indexes(context, indexes)

    def prepare(valuer: NamedValuer) -> Callable[[Subject, int], dict[str, Any]]:
        fitted = {
            index: FittedValuer(
                variant(valuer.name, {**valuer.settings, "index": index}), context.train, k
            )
            for index in indexes
        }

        def compute(subject: Subject, seed: int) -> dict[str, Any]:
            images = subject.sample(context.m, seed).images
            return _compare(
                {index: fitted_valuer.value(images) for index, fitted_valuer in fitted.items()}
            )

        return compute

    pieces = walk(context, "pq", {"indexes": list(indexes), "k": k}, prepare)
    rows = (
        [subject, valuer, index, *(pieces.mean(valuer, subject, index, what) for what in MEASURES)]
        for subject, valuer in context.pairs
        for index in indexes
    )
    title = f"{context.train_name}, n = {len(context.train)}, m = {context.m}, k = {k}"
    return StudyResult(
        name=name,
        title="Product quantization against exact search (Appendix P)",
        tables=(table(title, ("images of", "valuer", "index", *MEASURES.values()), rows),),
        parameters=context.parameters() | {"indexes": list(indexes), "k": k},
        notes=(
            "Recall's seconds include building the index where it was not kept.",
            *context.reading_notes(),
        ),
        details=pieces.details(),
    )


def check_indexes(inputs: Inputs, indexes: Sequence[str]) -> None:
    """Raises `InputError` unless there are indexes to compare, and valuers that have one."""
    if len(set(indexes)) < max(2, len(indexes)):
        raise InputError(f"indexes {list(indexes)}; pass at least two to compare, each once")
    check_variants(inputs, "index")
    for index in indexes:
        for valuer in inputs.valuers:
            variant(valuer.name, {**valuer.settings, "index": index}).make(1, 0)


def _compare(valuations: dict[str, Valuation]) -> dict[str, Any]:
    exact = next(iter(valuations.values()))
    return {
        name: {
            "overlap": float(
                np.mean(contributor_overlap(valuation.contributions.rows, exact.contributions.rows))
            ),
            "agreement": rank_correlation(valuation.values, exact.values),
            "ratio": float(
                class_ratio(contributor_labels(valuation), generated_labels(valuation)).mean()
            ),
            "recall": float(valuation.record.seconds["recall"]),
        }
        for name, valuation in valuations.items()
    }
