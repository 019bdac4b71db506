"""Counterfactual truth: do summed scores foretell what retraining on subsets does (LDS)?

Ilyas et al. 2022 (arXiv 2202.00622), Park et al. 2023 (arXiv 2303.14186). Every figure stands
beside the noise ceiling: a retrained model differs from another of the same subset by its random
start and order too, and what no score can know should not count against one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gmvaluator.evaluation.results import Cell, StudyResult, Table, grid
from gmvaluator.evaluation.study import Context
from gmvaluator.evaluation.subjects.recipes import Recipe
from gmvaluator.evaluation.truth.datamodeling import (
    ATTAINABLE_NOTE,
    AXES_NOTE,
    OTHERS_NOTE,
    SUBSETS,
    K,
    Measured,
    draw_bars,
    measured,
    parameters,
    truths_of,
)
from gmvaluator.evaluation.valuers import IF4GAN

_NO_IF4GAN = (
    "if4gan is left out: it scores a training image for all that is drawn together, by FID, not "
    "for single images, and it can trace plain gradient descent only. The GAN of this study is "
    "trained by Adam, with batch normalisation and averaged weights; one that IF4GAN can trace "
    "would be another model than those retrained here."
)


def lds(
    context: Context,
    recipes: Mapping[str, Recipe],
    subsets: int = SUBSETS,
    k: int = K,
    *,
    name: str = "lds",
) -> StudyResult:
    """LDS of every valuer for every generator, with the noise ceiling.

    Args:
        context: `seeds` is how often each subset is trained on, `m` how many generated images are
            looked at; its subjects are not used.
        recipes: unconditional generators by name.
        subsets: random halves of the training images.
        k: contributors a generated image.
        name: of the result.

    Raises:
        InputError: a conditional recipe, fewer than two subsets or trainings of each.
    """
    truths = truths_of(context, recipes, subsets)
    asked = [valuer for valuer in context.valuers if valuer.settings.get("valuer") != IF4GAN]
    found = measured(context, truths, asked, k, kind="lds", fresh=True)
    names = [valuer.name for valuer in asked]
    return StudyResult(
        name=name,
        title="Counterfactual truth: linear datamodeling score (LDS)",
        tables=tuple(_tables(context, found)),
        parameters=parameters(context, recipes, subsets, k),
        notes=(
            *found.notes(),
            AXES_NOTE,
            OTHERS_NOTE,
            f"{ATTAINABLE_NOTE} Seconds: fitting and valuing, everything computed anew.",
            *(
                f"{valuer} cannot look into {generator}: left out there."
                for valuer, generator in found.unsuited
            ),
            *([] if asked == list(context.valuers) else [_NO_IF4GAN]),
        ),
        details={
            "lds": [
                {
                    "valuer": valuer,
                    "generator": generator,
                    "loss": loss,
                    "lds": score,
                    "by_others": found.by_others.get((valuer, generator, loss)),
                    "s": found.seconds[valuer, generator, loss],
                }
                for (valuer, generator, loss), score in found.scores.items()
            ]
        },
        plots={
            "bars": lambda figure: draw_bars(figure, names, {"LDS": found.scores}, found.ceilings)
        },
    )


def _tables(context: Context, found: Measured) -> list[Table]:
    tables = []
    for (generator, loss), ceiling in found.ceilings.items():
        rows: list[Sequence[Cell]] = []
        for valuer in context.valuers:
            place = (valuer.name, generator, loss)
            if place in found.scores:
                score = found.scores[place]
                others = found.by_others.get(place)
                rows.append(
                    (valuer.name, score, ceiling.share(score), others, found.seconds[place])
                )
        rows.append(("attainable", ceiling.attainable, 1.0, None, None))
        tables.append(
            Table(
                f"{context.train_name}, {generator}, {loss}",
                ("valuer", "LDS", "of attainable", "by others", "seconds"),
                grid(rows),
            )
        )
    return tables
