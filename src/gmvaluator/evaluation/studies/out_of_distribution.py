"""C3: do noised training images rank low? (Figure 5)

The generators are trained on the clean and the noised images together, as if noise had slipped
into the data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.certainty.tables import StudyResult
from gmvaluator.evaluation.layout import table, titled_panels
from gmvaluator.evaluation.metrics import auroc, average_ranks
from gmvaluator.evaluation.planted.noise import NoisedSet
from gmvaluator.evaluation.study import Context, Pieces, measure, scores_of, values_of
from gmvaluator.evaluation.subjects.subject import Sample
from gmvaluator.runs.valuation import Valuation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = {
    "AUROC": "auroc",
    "clean without value": "zero_clean",
    "noised without value": "zero_noised",
}


def rank_noised(values: NDArray[np.float64], noised: NDArray[np.bool_]) -> dict[str, Any]:
    """Measures of the ranks of noised images.

    Args:
        values: (n,) values of all training images.
        noised: (n,) bool, whether an image is noised.

    Returns:
        `auroc`: probability that a noised image ranks below a clean image; ties count half.
        `percentiles`: percentiles of the noised ranks, 100 = lowest value of all.
        `zero_clean`, `zero_noised`: shares of images of value 0, which are tied.
        `mean_clean`, `mean_noised`: mean values.
    """
    ranks = average_ranks(values)
    return {
        "auroc": auroc(-values, noised),
        "percentiles": (100 * ranks[noised] / len(values)).round(2).tolist(),
        "zero_clean": float((values[~noised] == 0).mean()),
        "zero_noised": float((values[noised] == 0).mean()),
        "mean_clean": float(values[~noised].mean()),
        "mean_noised": float(values[noised].mean()),
    }


def out_of_distribution(
    context: Context, planted: NoisedSet, ks: Sequence[int] = (50,), *, name: str = "c3"
) -> StudyResult:
    """Out-of-distribution detection.

    Args:
        context: its training set is `planted.images`. Its subjects are trained on that set.
        planted: the training set with noised images.
        ks: numbers of contributors per generated image. A smaller number uses the first
            contributors of the largest.
        name: name of the result.
    """

    def measured(valuation: Valuation, sample: Sample) -> dict[str, Any]:
        ranks = {}
        for k in ks:
            values = values_of(valuation, scores_of(valuation, k))
            ranks[str(k)] = rank_noised(values, planted.noised)
        return ranks | {"agreement": valuation.record.extras.get("agreement")}

    extra = {"planted": planted.tag, "ks": sorted(ks)}
    pieces = measure(context, "c3", max(ks), measured, extra=extra)
    return StudyResult(
        name=name,
        title=f"Out-of-distribution detection (C3): {int(planted.noised.sum())} noised images",
        tables=tuple(
            table(
                f"{context.train_name}, m = {context.m}, k = {k}",
                ("images of", "valuer", *MEASURES),
                (
                    [subject, valuer]
                    + [pieces.mean(valuer, subject, str(k), what) for what in MEASURES.values()]
                    for subject, valuer in context.pairs
                ),
            )
            for k in ks
        ),
        parameters=context.parameters() | {"k": list(ks), "planted": planted.tag},
        notes=(
            "AUROC: probability that a noised image ranks below a clean one, ties counted half. "
            "A clean image that is nobody's contributor has value 0 and ties with the noised "
            "ones, so AUROC is at most 1 − (clean images without value) / 2.",
            *_agreements(context, pieces),
        ),
        details=pieces.details(),
        plots={"ranks": lambda figure: _draw(figure, context, pieces, str(ks[0]))},
    )


def _agreements(context: Context, pieces: Pieces) -> list[str]:
    """How well a valuer's estimates by a trace agree with removing images, a sentence a valuer."""
    notes = []
    for valuer in context.valuers:
        by_seed = {
            piece.seed: piece.result["agreement"]
            for piece in pieces
            if piece.valuer == valuer.name and piece.result["agreement"]
        }
        if by_seed:
            taus = [by_seed[seed]["kendall_tau"] for seed in sorted(by_seed)]
            shown = ", ".join("undefined" if tau is None else f"{tau:.2f}" for tau in taus)
            removals = max(agreement["removals"] for agreement in by_seed.values())
            notes.append(
                f"{valuer.name} against truly leaving out {removals} images one at a time: "
                f"Kendall's tau {shown} (a seed each)."
            )
    return notes


def _draw(figure: Figure, context: Context, pieces: Pieces, k: str) -> None:
    """Ranks of the noised images by valuer, as Figure 5 shows them."""
    valuers = [valuer.name for valuer in context.valuers]
    subjects = [subject.name for subject in context.subjects]
    axes = titled_panels(figure, subjects, wide=len(subjects))
    for panel, subject in zip(axes, subjects, strict=True):
        for place, valuer in enumerate(valuers):
            percentiles = [result[k]["percentiles"] for result in pieces.results(valuer, subject)]
            ranks = np.concatenate([*percentiles, []])
            panel.scatter(place + np.linspace(-0.3, 0.3, len(ranks)), ranks, s=4, alpha=0.5)
        panel.set_xticks(range(len(valuers)), valuers, rotation=30, ha="right")
        panel.set_ylim(102, -2)
    axes[0].set_ylabel("rank of noised images, 100 = lowest value, %")
