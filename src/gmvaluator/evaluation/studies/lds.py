"""Counterfactual truth: do summed scores foretell what retraining on subsets does (LDS)?

Ilyas et al. 2022 (arXiv 2202.00622), Park et al. 2023 (arXiv 2303.14186). Every figure stands
beside the noise ceiling: a retrained model differs from another of the same subset by its random
start and order too, and what no score can know should not count against one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from gmvaluator.evaluation.gradient_valuers import snapshots_wanted
from gmvaluator.evaluation.metrics import (
    Interval,
    NoiseCeiling,
    linear_datamodeling_score,
    mean_interval,
    noise_ceiling,
)
from gmvaluator.evaluation.recipes import Recipe
from gmvaluator.evaluation.results import Cell, StudyResult, Table, grid, listed
from gmvaluator.evaluation.study import Context
from gmvaluator.evaluation.targets import WHAT
from gmvaluator.evaluation.truth import GroundTruth, ground_truth
from gmvaluator.evaluation.valuers import IF4GAN, NamedValuer, anew
from gmvaluator.images import ImageSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUBSETS = 64
K = 200

_NO_IF4GAN = (
    "if4gan is left out: it scores a training image for all that is drawn together, by FID, not "
    "for single images, and it can trace plain gradient descent only. The GAN of this study is "
    "trained by Adam, with batch normalisation and averaged weights; one that IF4GAN can trace "
    "would be another model than those retrained here."
)

Found = dict[tuple[str, str, str], tuple[Interval, float]]


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
    truths = {
        generator: ground_truth(
            generator,
            recipe,
            context.train,
            train_name=context.train_name,
            m=context.m,
            subsets=subsets,
            seeds=context.seeds,
            work=context.work,
            progress=context.progress,
            keep=snapshots_wanted(context.valuers, recipe.family),
        )
        for generator, recipe in recipes.items()
    }
    ceilings = {
        (generator, loss): noise_ceiling(losses)
        for generator, truth in truths.items()
        for loss, losses in truth.losses.items()
    }
    found, unsuited = _measure(context, truths, k)
    return StudyResult(
        name=name,
        title="Counterfactual truth: linear datamodeling score (LDS)",
        tables=tuple(_tables(context, found, ceilings)),
        parameters=context.parameters()
        | {
            "subsets": subsets,
            "trainings_of_each": context.seeds,
            "k": k,
            "recipes": {each: asdict(recipe) for each, recipe in recipes.items()},
        },
        notes=(*_notes(ceilings), *unsuited),
        details={
            "lds": [
                {"valuer": valuer, "generator": generator, "loss": loss, "lds": score, "s": spent}
                for (valuer, generator, loss), (score, spent) in found.items()
            ]
        },
        plots={"bars": lambda figure: _draw(figure, context, found, ceilings)},
    )


def _measure(
    context: Context, truths: Mapping[str, GroundTruth], k: int
) -> tuple[Found, list[str]]:
    found: Found = {}
    unsuited = []
    total = len(context.valuers) * len(truths)
    with context.progress.stage("evaluate lds", total) as advance:
        for valuer in context.valuers:
            if valuer.settings.get("valuer") == IF4GAN:
                unsuited.append(_NO_IF4GAN)
                advance(len(truths))
                continue
            for generator, truth in truths.items():
                bound = valuer.suited(truth.generator)
                if bound is None:
                    unsuited.append(f"{valuer.name} cannot look into {generator}: left out there.")
                else:
                    scored = _piece(context, bound, truth, k)
                    for loss, each in scored["lds"].items():
                        interval = mean_interval([x for x in each if x is not None])
                        found[valuer.name, generator, loss] = interval, scored["seconds"]
                advance(1)
    return found, unsuited


def _piece(context: Context, valuer: NamedValuer, truth: GroundTruth, k: int) -> dict[str, Any]:
    """LDS of each generated image by each loss, kept in the working folder."""
    subsets, seeds, m = next(iter(truth.losses.values())).shape
    key = {
        "valuer": dict(valuer.settings),
        "train": context.train_name,
        "n_train": len(context.train),
        "generator": truth.generator.name,
        "subsets": subsets,
        "trainings_of_each": seeds,
        "m": m,
        "k": k,
    }
    return context.work.piece("lds", key, partial(_scored, context.train, valuer, truth, k))


def _scored(train: ImageSet, valuer: NamedValuer, truth: GroundTruth, k: int) -> dict[str, Any]:
    start = time.perf_counter()
    made = anew(valuer).make(k, 0)
    made.fit(train)
    scores = made.value(truth.generated).score_matrix()
    seconds = time.perf_counter() - start
    return {
        "lds": {
            loss: listed(linear_datamodeling_score(scores, truth.subsets, losses.mean(axis=1)))
            for loss, losses in truth.losses.items()
        },
        "seconds": round(seconds, 3),
    }


def _tables(
    context: Context, found: Found, ceilings: Mapping[tuple[str, str], NoiseCeiling]
) -> list[Table]:
    tables = []
    for (generator, loss), ceiling in ceilings.items():
        rows: list[Sequence[Cell]] = []
        for valuer in context.valuers:
            if (valuer.name, generator, loss) in found:
                score, spent = found[valuer.name, generator, loss]
                share = score.mean / ceiling.attainable if ceiling.attainable else float("nan")
                rows.append((valuer.name, score, share, spent))
        rows.append(("attainable", ceiling.attainable, 1.0, None))
        tables.append(
            Table(
                f"{context.train_name}, {generator}, {loss}",
                ("valuer", "LDS", "of attainable", "seconds"),
                grid(rows),
            )
        )
    return tables


def _notes(ceilings: Mapping[tuple[str, str], NoiseCeiling]) -> list[str]:
    notes = [f"Loss {loss}: {WHAT[loss]}." for loss in dict.fromkeys(loss for _, loss in ceilings)]
    notes += [
        f"Two trainings on one subset agree by {ceiling.agreement.shown(3)} (Spearman over "
        f"subsets; {generator}, {loss})."
        for (generator, loss), ceiling in ceilings.items()
    ]
    return [
        *notes,
        "± is the 95 % interval of the mean over generated images; all of them share the subsets.",
        "Attainable: what the losses' expectation itself would reach, given so many trainings of "
        "each subset. Seconds: fitting and valuing, everything computed anew.",
    ]


def _draw(
    figure: Figure,
    context: Context,
    found: Found,
    ceilings: Mapping[tuple[str, str], NoiseCeiling],
) -> None:
    axes = figure.subplots(1, len(ceilings), sharey=True, squeeze=False)[0]
    names = [valuer.name for valuer in context.valuers]
    for axis, ((generator, loss), ceiling) in zip(axes, ceilings.items(), strict=True):
        for place, name in enumerate(names):
            if (name, generator, loss) in found:
                score = found[name, generator, loss][0]
                error = [[score.mean - score.low], [score.high - score.mean]]
                axis.barh(place, score.mean, xerr=error, color="#4477aa", ecolor="#222222")
        axis.axvline(ceiling.attainable, color="#cc3311", linestyle="--", label="attainable")
        axis.axvline(0, color="#222222", linewidth=0.8)
        axis.set_title(f"{generator}, {loss}")
        axis.set_xlabel("LDS")
        axis.set_yticks(range(len(names)), names)
        axis.invert_yaxis() if axis is axes[0] else None
    axes[0].legend(loc="lower right", fontsize="small")
