"""How every criterion moves with the temperature τ of Eq. 6.

Contributors and distances do not depend on τ, so one valuation serves all temperatures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gmvaluator.evaluation.metrics import (
    auroc,
    mean_interval,
    perplexity,
    rank_correlation,
    weighted_class_share,
)
from gmvaluator.evaluation.planted.noise import NoisedSet
from gmvaluator.evaluation.results import StudyResult, Table, grid
from gmvaluator.evaluation.study import (
    Context,
    Piece,
    check_weighted,
    contributor_labels,
    generated_labels,
    measure,
    shares_of,
    values_of,
)
from gmvaluator.evaluation.subjects.subject import Sample
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.scores import Temperature

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPERATURES: tuple[Temperature, ...] = (1.0, 0.3, 0.1, 0.03, 0.01, "auto")
MEASURES = {
    "perplexity": "contributors that share (perplexity)",
    "best": "share of the best",
    "class_share": "score share of the own class",
    "auroc": "AUROC of noised",
    "agreement": "Spearman to τ = 1",
}


def temperature(
    context: Context,
    planted: NoisedSet,
    k: int = 100,
    temperatures: Sequence[Temperature] = TEMPERATURES,
    *,
    name: str = "temperature",
) -> StudyResult:
    """The criteria at each temperature.

    Args:
        context: its training set is `planted.images`, labelled.
        planted: which training images are noised.
        k: contributors a generated image.
        temperatures: numbers above 0, or `auto`.
        name: of the result.

    Raises:
        InputError: a valuer whose scores are not weights times quality.
    """

    check_weighted(context, "temperature")

    def measured(valuation: Valuation, sample: Sample) -> dict[str, Any]:
        of_contributors, of_generated = contributor_labels(valuation), generated_labels(valuation)
        published = values_of(valuation, shares_of(valuation))
        found = {}
        for tau in temperatures:
            weights = shares_of(valuation, tau)
            values = values_of(valuation, weights)
            share = weighted_class_share(of_contributors, of_generated, weights)
            found[str(tau)] = {
                "perplexity": float(perplexity(weights).mean()),
                "best": float(weights.max(axis=1).mean()),
                "class_share": float(share.mean()),
                "auroc": auroc(-values, planted.noised),
                "agreement": rank_correlation(values, published),
            }
        return found

    extra = {"planted": planted.tag, "temperatures": [str(tau) for tau in temperatures]}
    pieces = measure(context, "temperature", k, measured, extra=extra)
    return StudyResult(
        name=name,
        title="Temperature of the softmax (Eq. 6)",
        tables=tuple(_tables(context, pieces, temperatures, k)),
        parameters=context.parameters() | extra | {"k": k},
        notes=(
            "Quality is left out (q = 1), so that the temperature alone differs.",
            *context.reading_notes(),
        ),
        details={"pieces": [vars(piece) for piece in pieces]},
        plots={"criteria": lambda figure: _draw(figure, context, pieces, temperatures)},
    )


def _at(pieces: Sequence[Piece], valuer: str, subject: str, tau: Temperature, what: str) -> Any:
    return mean_interval(
        [
            piece.result[str(tau)][what]
            for piece in pieces
            if (piece.valuer, piece.subject) == (valuer, subject)
        ]
    )


def _tables(
    context: Context, pieces: Sequence[Piece], temperatures: Sequence[Temperature], k: int
) -> list[Table]:
    tables = []
    for valuer in context.valuers:
        for subject in context.subjects:
            rows = [
                [str(tau), *(_at(pieces, valuer.name, subject.name, tau, m) for m in MEASURES)]
                for tau in temperatures
            ]
            title = (
                f"{context.train_name}, {valuer.name}, images of {subject.name}, "
                f"m = {context.m}, k = {k}"
            )
            tables.append(Table(title, ("τ", *MEASURES.values()), grid(rows)))
    return tables


def _draw(
    figure: Figure, context: Context, pieces: Sequence[Piece], temperatures: Sequence[Temperature]
) -> None:
    panels = figure.subplots(1, 2)
    subject = context.subjects[0].name
    numbers = [tau for tau in temperatures if not isinstance(tau, str)]
    for panel, what in zip(panels, ("perplexity", "class_share"), strict=True):
        for valuer in context.valuers:
            line = [_at(pieces, valuer.name, subject, tau, what).mean for tau in numbers]
            (drawn,) = panel.plot(numbers, line, marker="o", label=valuer.name)
            if "auto" in temperatures:
                level = _at(pieces, valuer.name, subject, "auto", what).mean
                panel.axhline(level, color=drawn.get_color(), linestyle=":")
        panel.set_xscale("log")
        panel.set_xlabel("τ (dotted: auto)")
        panel.set_ylabel(MEASURES[what])
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
