"""The right space: which representations carry counterfactual signal for which model family.

The linear datamodeling score (see `lds`) of each space under each weighting. A space without
signal under Eq. 6 may have some for a weighting that knows of redundancy, and the other way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gmvaluator.certainty.tables import StudyResult
from gmvaluator.errors import InputError
from gmvaluator.evaluation.representations import WEIGHTINGS, Space, at_hand, space_valuers
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
from gmvaluator.files.store import Store


def spaces(
    context: Context,
    recipes: Mapping[str, Recipe],
    names: Sequence[str],
    subsets: int = SUBSETS,
    k: int = K,
    *,
    name: str = "spaces",
) -> StudyResult:
    """LDS of every space under every weighting for every generator, with the noise ceiling.

    Args:
        context: `seeds` is the number of trainings per subset, `m` the number of generated images.
            Its subjects and valuers are not used.
        recipes: recipes of unconditional generators by name.
        names: texts of spaces; see `Space.parse`.
        subsets: number of random halves of the training images.
        k: number of contributors per generated image.
        name: name of the result.

    Raises:
        InputError: a space is unknown, no space is installed and suits a generator, a recipe is
            conditional, or there are fewer than two subsets or seeds.
    """
    able, missing = at_hand([Space.parse(text) for text in dict.fromkeys(names)])
    if not able:
        raise InputError(f"no space is left. {' '.join(missing)}")
    truths = truths_of(context, recipes, subsets)
    store = Store(context.work.path("embeddings"))
    valuers = {space.name: space_valuers(space, context.train, store) for space in able}
    flat = [valuer for by_weighting in valuers.values() for valuer in by_weighting.values()]
    lds_of = measured(context, truths, flat, k, kind="spaces", fresh=False)
    if not lds_of.scores:
        raise InputError(f"no generator has the layers of {', '.join(valuers)}; pass other spaces")
    titles = {
        valuer.name: {"space": space, "weighting": weighting}
        for space, by_weighting in valuers.items()
        for weighting, valuer in by_weighting.items()
    }
    shown = {titles[valuer]["space"] for valuer, _, _ in lds_of.scores}
    bars = {
        space: {weighting: valuer.name for weighting, valuer in by_weighting.items()}
        for space, by_weighting in valuers.items()
        if space in shown
    }
    settings = parameters(context, recipes, subsets, k)
    del settings["valuers"]
    return StudyResult(
        name=name,
        title="The right space: LDS by space and weighting",
        tables=lds_of.tables(context.train_name, titles, seconds=False),
        parameters={**settings, "spaces": list(valuers), "weightings": dict(WEIGHTINGS)},
        notes=(*lds_of.notes(), AXES_NOTE, ATTAINABLE_NOTE, OTHERS_NOTE, *missing),
        details=lds_of.details(titles, seconds=False),
        plots={"bars": lambda figure: lds_of.draw_bars(figure, bars)},
    )
