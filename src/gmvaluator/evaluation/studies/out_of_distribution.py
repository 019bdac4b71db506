"""C3: do noised training images rank low? (Figure 5)

The generators are trained on the clean and the noised images together, as they would be where
noise slipped into a data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.evaluation.metrics import auroc, average_ranks
from gmvaluator.evaluation.planted.noise import NoisedSet
from gmvaluator.evaluation.results import Cell, StudyResult, Table, grid
from gmvaluator.evaluation.study import (
    Context,
    Piece,
    measure,
    over_seeds,
    scores_of,
    values_of,
)
from gmvaluator.evaluation.subjects.subject import Sample
from gmvaluator.runs.valuation import Valuation

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def rank_noised(values: NDArray[np.float64], noised: NDArray[np.bool_]) -> dict[str, Any]:
    """How low noised images rank.

    Args:
        values: (n,) of all training images.
        noised: (n,) bool.

    Returns:
        `auroc` that a noised image ranks below a clean one (ties count half); `percentiles` of
        the noised ranks, 100 = lowest of all; `zero_clean` and `zero_noised`, the shares without
        any value, which bound what ties allow; `mean_clean` and `mean_noised` values.
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
        context: its training set is `planted.images`, its subjects are trained on that.
        planted: which training images are noised.
        ks: contributors a generated image; fewer are the first of the most.
        name: of the result.
    """

    def measured(valuation: Valuation, sample: Sample) -> dict[str, Any]:
        found = {}
        for k in ks:
            values = values_of(valuation, scores_of(valuation, k))
            found[str(k)] = rank_noised(values, planted.noised)
        return found | {"agreement": valuation.info.get("agreement")}

    extra = {"planted": planted.tag, "ks": sorted(ks)}
    pieces = measure(context, "c3", max(ks), measured, extra=extra)
    return StudyResult(
        name=name,
        title=f"Out-of-distribution detection (C3): {int(planted.noised.sum())} noised images",
        tables=tuple(_table(context, pieces, k) for k in ks),
        parameters=context.parameters() | {"k": list(ks), "planted": planted.tag},
        notes=(
            "AUROC: probability that a noised image ranks below a clean one, ties counted half. "
            "A clean image that is nobody's contributor has value 0 and ties with the noised "
            "ones, so AUROC is at most 1 − (clean images without value) / 2.",
            *_agreements(context, pieces),
        ),
        details={"pieces": [vars(piece) for piece in pieces]},
        plots={"ranks": lambda figure: _draw(figure, context, pieces, ks[0])},
    )


def _agreements(context: Context, pieces: Sequence[Piece]) -> list[str]:
    """How far estimates by a trace agree with removing images, where a valuer makes some."""
    said = []
    for valuer in context.valuers:
        found = {
            piece.seed: told
            for piece in pieces
            if piece.valuer == valuer.name and (told := piece.result["agreement"])
        }
        if found:
            taus = [found[seed]["kendall_tau"] for seed in sorted(found)]
            shown = ", ".join("undefined" if tau is None else f"{tau:.2f}" for tau in taus)
            removals = max(told["removals"] for told in found.values())
            said.append(
                f"{valuer.name} against truly leaving out {removals} images one at a time: "
                f"Kendall's tau {shown} (a seed each)."
            )
    return said


def _table(context: Context, pieces: Sequence[Piece], k: int) -> Table:
    rows: list[list[Cell]] = [
        [
            subject.name,
            valuer.name,
            over_seeds(pieces, valuer.name, subject.name, str(k), "auroc"),
            over_seeds(pieces, valuer.name, subject.name, str(k), "zero_clean"),
            over_seeds(pieces, valuer.name, subject.name, str(k), "zero_noised"),
        ]
        for subject in context.subjects
        for valuer in context.valuers
    ]
    columns = ("images of", "valuer", "AUROC", "clean without value", "noised without value")
    return Table(f"{context.train_name}, m = {context.m}, k = {k}", columns, grid(rows))


def _draw(figure: Figure, context: Context, pieces: Sequence[Piece], k: int) -> None:
    """Ranks of the noised images by valuer, as Figure 5 shows them."""
    axes = figure.subplots(1, len(context.subjects), sharey=True, squeeze=False)[0]
    for panel, subject in zip(axes, context.subjects, strict=True):
        for place, valuer in enumerate(context.valuers):
            own = [
                piece.result[str(k)]["percentiles"]
                for piece in pieces
                if (piece.valuer, piece.subject) == (valuer.name, subject.name)
            ]
            ranks = np.concatenate(own)
            across = place + np.linspace(-0.3, 0.3, len(ranks))
            panel.scatter(across, ranks, s=4, alpha=0.5)
        panel.set_xticks(
            range(len(context.valuers)),
            [valuer.name for valuer in context.valuers],
            rotation=30,
            ha="right",
        )
        panel.set_ylim(102, -2)
        panel.set_title(subject.name)
        panel.grid(alpha=0.3, axis="y")
    axes[0].set_ylabel("rank of noised images, 100 = lowest value, %")
