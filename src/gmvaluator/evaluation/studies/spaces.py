"""The right space: which representations carry counterfactual signal for which model family.

The linear datamodeling score (see `lds`) of each space under each weighting. A space without
signal under Eq. 6 may have some for a weighting that knows of redundancy, and the other way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gmvaluator.errors import InputError
from gmvaluator.evaluation.representations import WEIGHTINGS, Space, at_hand, space_valuers
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
    Scores,
    draw_bars,
    measured,
    parameters,
    truths_of,
)
from gmvaluator.evaluation.valuers import NamedValuer
from gmvaluator.files.store import Store

Valuers = Mapping[str, Mapping[str, NamedValuer]]  # by space and weighting


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
        context: `seeds` is how often each subset is trained on, `m` how many generated images are
            looked at; its subjects and valuers are not used.
        recipes: unconditional generators by name.
        names: spaces, as `Space.parse` reads them.
        subsets: random halves of the training images.
        k: contributors a generated image.
        name: of the result.

    Raises:
        InputError: unknown spaces, none that is at hand and suits a generator, a conditional
            recipe, fewer than two subsets or trainings of each.
    """
    able, missing = at_hand([Space.parse(each) for each in dict.fromkeys(names)])
    if not able:
        raise InputError(f"no space is left. {' '.join(missing)}")
    truths = truths_of(context, recipes, subsets)
    store = Store(context.work.path("embeddings"))
    valuers = {each.name: space_valuers(each, context.train, store) for each in able}
    flat = [valuer for each in valuers.values() for valuer in each.values()]
    found = measured(context, truths, flat, k, kind="spaces", fresh=False)
    if not found.scores:
        raise InputError(f"no generator has the layers of {', '.join(valuers)}; pass other spaces")
    suited = [space for space, each in valuers.items() if _asked(each, found)]
    told = parameters(context, recipes, subsets, k)
    del told["valuers"]
    return StudyResult(
        name=name,
        title="The right space: LDS by space and weighting",
        tables=tuple(_tables(context, found, valuers)),
        parameters={**told, "spaces": list(valuers), "weightings": dict(WEIGHTINGS)},
        notes=(*found.notes(), AXES_NOTE, ATTAINABLE_NOTE, OTHERS_NOTE, *missing),
        details={"lds": _details(found, valuers)},
        plots={
            "bars": lambda figure: draw_bars(
                figure, suited, _by_weighting(valuers, found), found.ceilings
            )
        },
    )


def _asked(by_weighting: Mapping[str, NamedValuer], found: Measured) -> bool:
    """Whether a space suits any generator."""
    names = {valuer.name for valuer in by_weighting.values()}
    return any(valuer in names for valuer, _, _ in found.scores)


def _by_weighting(valuers: Valuers, found: Measured) -> dict[str, Scores]:
    """Scores by weighting and then by (space, generator, loss)."""
    return {
        label: {
            (space, *place): found.scores[each[label].name, *place]
            for space, each in valuers.items()
            for place in found.ceilings
            if (each[label].name, *place) in found.scores
        }
        for label in WEIGHTINGS
    }


def _details(found: Measured, valuers: Valuers) -> list[dict[str, Any]]:
    return [
        {
            "space": space,
            "weighting": label,
            "generator": generator,
            "loss": loss,
            "lds": found.scores[valuer.name, generator, loss],
            "by_others": found.by_others.get((valuer.name, generator, loss)),
        }
        for space, by_weighting in valuers.items()
        for label, valuer in by_weighting.items()
        for generator, loss in found.ceilings
        if (valuer.name, generator, loss) in found.scores
    ]


def _tables(context: Context, found: Measured, valuers: Valuers) -> list[Table]:
    tables = []
    for (generator, loss), ceiling in found.ceilings.items():
        rows: list[Sequence[Cell]] = []
        for space, by_weighting in valuers.items():
            for label, valuer in by_weighting.items():
                place = (valuer.name, generator, loss)
                if place in found.scores:
                    score, others = found.scores[place], found.by_others.get(place)
                    rows.append((space, label, score, ceiling.share(score), others))
        rows.append(("attainable", None, ceiling.attainable, 1.0, None))
        tables.append(
            Table(
                f"{context.train_name}, {generator}, {loss}",
                ("space", "weighting", "LDS", "of attainable", "by others"),
                grid(rows),
            )
        )
    return tables
