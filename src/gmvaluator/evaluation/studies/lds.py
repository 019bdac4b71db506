"""Counterfactual truth: do summed scores foretell the losses of retrained models (LDS)?

Ilyas et al. 2022 (arXiv 2202.00622), Park et al. 2023 (arXiv 2303.14186). The tables show the noise
ceiling beside every LDS: two models of the same subset differ by their random start and order, and
no score can foretell this difference.
"""

from __future__ import annotations

from collections.abc import Mapping

from gmvaluator.certainty.tables import StudyResult
from gmvaluator.evaluation.study import Context
from gmvaluator.evaluation.subjects.recipes import Recipe
from gmvaluator.evaluation.truth.datamodeling import (
    ATTAINABLE_NOTE,
    AXES_NOTE,
    OTHERS_NOTE,
    SUBSETS,
    K,
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
        context: `seeds` is the number of trainings per subset, `m` the number of generated images.
            Its subjects are not used.
        recipes: recipes of unconditional generators by name.
        subsets: number of random halves of the training images.
        k: number of contributors per generated image.
        name: name of the result.

    Raises:
        InputError: a recipe is conditional, or there are fewer than two subsets or seeds.
    """
    truths = truths_of(context, recipes, subsets)
    valuers = [valuer for valuer in context.valuers if valuer.settings.get("valuer") != IF4GAN]
    lds_of = measured(context, truths, valuers, k, kind="lds", fresh=True)
    titles = {valuer.name: {"valuer": valuer.name} for valuer in valuers}
    return StudyResult(
        name=name,
        title="Counterfactual truth: linear datamodeling score (LDS)",
        tables=lds_of.tables(context.train_name, titles, seconds=True),
        parameters=parameters(context, recipes, subsets, k),
        notes=(
            *lds_of.notes(),
            AXES_NOTE,
            OTHERS_NOTE,
            f"{ATTAINABLE_NOTE} Seconds: fitting and valuing, everything computed anew.",
            *(
                f"{valuer} cannot look into {generator}: left out there."
                for valuer, generator in lds_of.unsuited
            ),
            *([] if valuers == list(context.valuers) else [_NO_IF4GAN]),
        ),
        details=lds_of.details(titles, seconds=True),
        plots={"bars": lambda fig: lds_of.draw_bars(fig, {name: {"LDS": name} for name in titles})},
    )
