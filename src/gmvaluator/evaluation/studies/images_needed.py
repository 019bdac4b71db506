"""Appendix F: how values settle as more images are generated (Figure 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gmvaluator.certainty.agreement import contributor_labels, generated_labels
from gmvaluator.certainty.tables import StudyResult
from gmvaluator.errors import InputError
from gmvaluator.evaluation.layout import Line, plot, table
from gmvaluator.evaluation.metrics import class_ratio, common_top, rank_correlation
from gmvaluator.evaluation.study import (
    Context,
    FittedValuer,
    Piece,
    Pieces,
    check_seeds,
    values_of,
)
from gmvaluator.runs.valuation import Valuation

TOP = 100
MEASURES = {
    "agreement": "agreement of values",
    "top": f"common top {TOP}",
    "ratio": "class ratio",
    "valued": "images with value",
}
LADDER = (10, 30, 100, 300, 1_000, 3_000)


def ladder(most: int) -> list[int]:
    """Numbers of generated images to compare, up to `most`."""
    return [*(m for m in LADDER if m < most), most]


def images_needed(
    context: Context, ms: Sequence[int], k: int = 50, *, name: str = "images_needed"
) -> StudyResult:
    """Agreement of values from m generated images with values from an independent draw.

    The contributors of a generated image do not depend on the other generated images. So one
    valuation of all images serves every m.

    Args:
        context: its m is the largest number. It has at least two seeds.
        ms: numbers of generated images, ascending.
        k: number of contributors per generated image.
        name: name of the result.

    Raises:
        InputError: there are fewer than two seeds, or a number is out of range.
    """
    check_seeds(context, 2, "values are compared between draws")
    check_numbers(ms, context.m)
    pieces = Pieces()
    for valuer in context.valuers:
        fitted = FittedValuer(valuer, context.train, k)
        for subject in context.subjects:
            key = {
                **context.key(valuer),
                "subject": subject.fingerprint,
                "seeds": context.seeds,
                "m": context.m,
                "ms": list(ms),
                "k": k,
            }

            def compute(fitted: FittedValuer = fitted, subject: Any = subject) -> dict[str, Any]:
                valuations = (
                    fitted.value(subject.sample(context.m, seed).images)
                    for seed in range(context.seeds)
                )
                return {
                    "seeds": compare_draws(
                        [_prefixes(valuation, ms) for valuation in valuations], ms
                    )
                }

            result = context.work.piece("images_needed", key, compute)
            pieces += [
                Piece(valuer.name, subject.name, seed, compared)
                for seed, compared in enumerate(result["seeds"])
            ]
    pairs = [
        (valuer.name, subject.name) for valuer in context.valuers for subject in context.subjects
    ]
    lines = [
        Line(", ".join(pair), ms, [pieces.mean(*pair, str(m), "agreement").mean for m in ms])
        for pair in pairs
    ]
    return StudyResult(
        name=name,
        title="Sensitivity to the number of generated images (Appendix F)",
        tables=tuple(
            table(
                f"{context.train_name}, {valuer}, images of {subject}",
                ("m", *MEASURES.values()),
                ([m, *(pieces.mean(valuer, subject, str(m), w) for w in MEASURES)] for m in ms),
            )
            for valuer, subject in pairs
        ),
        parameters=context.parameters() | {"ms": list(ms), "k": k},
        notes=(
            "Agreement: Spearman correlation of all values between independent draws of m images "
            f"each. Top {TOP}: share of the {TOP} most valuable images that two draws have in "
            "common.",
            *context.reading_notes(),
        ),
        details=pieces.details(),
        plots={
            "agreement": plot(
                {"": lines}, "generated images m", "Spearman correlation between draws", log="x"
            )
        },
    )


def check_numbers(ms: Sequence[int], most: int) -> None:
    """Raises `InputError` unless the numbers of generated images ascend from 1 up to `most`."""
    if not ms or list(ms) != sorted(set(ms)) or not 1 <= ms[0] <= ms[-1] <= most:
        raise InputError(f"numbers {list(ms)}; pass ascending ones from 1 to {most}")


def compare_draws(draws: Sequence[Sequence[dict[str, Any]]], ms: Sequence[int]) -> list[Any]:
    """For each draw and m, the agreement with the next draw and the intervals of the draw alone."""
    compared = []
    for seed, draw in enumerate(draws):
        other = draws[(seed + 1) % len(draws)]
        compared.append(
            {
                str(m): {
                    "agreement": rank_correlation(mine["values"], theirs["values"]),
                    "top": common_top(mine["values"], theirs["values"], TOP),
                    "ratio": mine["ratio"],
                    "valued": float((mine["values"] > 0).mean()),
                }
                for m, mine, theirs in zip(ms, draw, other, strict=True)
            }
        )
    return compared


def _prefixes(valuation: Valuation, ms: Sequence[int]) -> list[dict[str, Any]]:
    """Values (n,) and class ratio from the first m generated images, for each m."""
    order = np.random.default_rng(0).permutation(len(valuation.generated_ids))
    scores = np.zeros_like(valuation.contributions.scores)
    ratios = class_ratio(contributor_labels(valuation), generated_labels(valuation))
    prefixes = []
    for m in ms:
        # a conditional generator's images are listed by class: a prefix must be a random draw
        scores[order[:m]] = valuation.contributions.scores[order[:m]]
        prefixes.append(
            {"values": values_of(valuation, scores), "ratio": float(ratios[order[:m]].mean())}
        )
    return prefixes
