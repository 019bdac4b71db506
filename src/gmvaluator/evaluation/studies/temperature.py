"""Every criterion as a function of the temperature τ.

Contributors and distances do not depend on τ, so one valuation serves all temperatures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gmvaluator.certainty.agreement import contributor_labels, generated_labels
from gmvaluator.certainty.tables import StudyResult
from gmvaluator.evaluation.layout import Line, curves, table
from gmvaluator.evaluation.metrics import (
    Interval,
    auroc,
    perplexity,
    rank_correlation,
    weighted_class_share,
)
from gmvaluator.evaluation.planted.noise import NoisedSet
from gmvaluator.evaluation.study import (
    Context,
    Pieces,
    check_temperature,
    check_weighted,
    measure,
    shares_of,
    values_of,
)
from gmvaluator.evaluation.subjects.subject import Sample
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.weightings import Temperature

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
        planted: the training set with noised images.
        k: number of contributors per generated image.
        temperatures: numbers above 0, or `auto`.
        name: name of the result.

    Raises:
        InputError: a valuer's scores are not weights times quality, or its weighting has no
            temperature.
    """

    check_weighted(context, "temperature")
    check_temperature(context)

    def measured(valuation: Valuation, sample: Sample) -> dict[str, Any]:
        of_contributors, of_generated = contributor_labels(valuation), generated_labels(valuation)
        published = values_of(valuation, shares_of(valuation, 1.0))
        by_temperature = {}
        for tau in temperatures:
            weights = shares_of(valuation, tau)
            values = values_of(valuation, weights)
            share = weighted_class_share(of_contributors, of_generated, weights)
            by_temperature[str(tau)] = {
                "perplexity": float(perplexity(weights).mean()),
                "best": float(weights.max(axis=1).mean()),
                "class_share": float(share.mean()),
                "auroc": auroc(-values, planted.noised),
                "agreement": rank_correlation(values, published),
            }
        return by_temperature

    extra = {"planted": planted.tag, "temperatures": [str(tau) for tau in temperatures]}
    pieces = measure(context, "temperature", k, measured, extra=extra)
    return StudyResult(
        name=name,
        title="Temperature",
        tables=tuple(
            table(
                f"{context.train_name}, {valuer.name}, images of {subject.name}, "
                f"m = {context.m}, k = {k}",
                ("τ", *MEASURES.values()),
                (
                    [tau, *(pieces.mean(valuer.name, subject.name, tau, what) for what in MEASURES)]
                    for tau in map(str, temperatures)
                ),
            )
            for valuer in context.valuers
            for subject in context.subjects
        ),
        parameters=context.parameters() | extra | {"k": k},
        notes=(
            "Quality is left out (q = 1), so that the temperature alone differs.",
            *context.reading_notes(),
        ),
        details=pieces.details(),
        plots={"criteria": lambda figure: _draw(figure, context, pieces, temperatures)},
    )


def _draw(
    figure: Figure, context: Context, pieces: Pieces, temperatures: Sequence[Temperature]
) -> None:
    """Two criteria by temperature, for the first subject."""
    numbers = [tau for tau in temperatures if not isinstance(tau, str)]
    valuers, shown = [valuer.name for valuer in context.valuers], ("perplexity", "class_share")

    def at(valuer: str, what: str, tau: Temperature) -> Interval:
        return pieces.mean(valuer, context.subjects[0].name, str(tau), what)

    panels = {
        MEASURES[what]: [
            Line(
                valuer, numbers, [at(valuer, what, tau) for tau in numbers], {"color": f"C{place}"}
            )
            for place, valuer in enumerate(valuers)
        ]
        for what in shown
    }
    axes = curves(figure, panels, "τ (dotted: auto)", "", log="x", share_y=False)
    for panel, what in zip(axes, shown, strict=True):
        for place, valuer in enumerate(valuers if "auto" in temperatures else ()):
            panel.axhline(at(valuer, what, "auto").mean, color=f"C{place}", linestyle=":")
