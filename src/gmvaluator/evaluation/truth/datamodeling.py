"""Linear datamodeling scores of many valuers on many generators: what its studies share."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.evaluation.gradient_valuers import snapshots_wanted
from gmvaluator.evaluation.metrics import (
    Interval,
    NoiseCeiling,
    linear_datamodeling_score,
    mean_interval,
    noise_ceiling,
)
from gmvaluator.evaluation.results import listed
from gmvaluator.evaluation.study import Context
from gmvaluator.evaluation.subjects.recipes import Recipe
from gmvaluator.evaluation.truth.ground_truth import GroundTruth, ground_truth
from gmvaluator.evaluation.truth.losses import WHAT
from gmvaluator.evaluation.valuers import NamedValuer, anew
from gmvaluator.images import ImageSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUBSETS = 64
K = 200
TURNS = 8
COLOURS = ("#4477aa", "#ddaa33", "#228833")

AXES_NOTE = "± is the 95 % interval of the mean over generated images; all share the subsets."
ATTAINABLE_NOTE = (
    "Attainable: what the losses' expectation itself would reach, given so many trainings of each "
    "subset."
)

OTHERS_NOTE = (
    "By others: LDS when each generated image is given the scores of another. Where it comes near "
    "the LDS, scores tell what all losses have in common, and chance decides how well."
)

Ceilings = dict[tuple[str, str], NoiseCeiling]
Scores = Mapping[tuple[str, str, str], Interval]


@dataclass(frozen=True)
class Measured:
    """LDS of valuers for generators, by loss.

    Attributes:
        ceilings: by (generator, loss).
        scores: by (valuer, generator, loss); pairs that do not suit are missing.
        seconds: of fitting and valuing, by the same.
        by_others: LDS by the scores of other generated images, likewise; missing where an older
            version kept the piece.
        unsuited: (valuer, generator) where the valuer cannot look into the generator.
    """

    ceilings: Ceilings
    scores: dict[tuple[str, str, str], Interval]
    seconds: dict[tuple[str, str, str], float]
    by_others: dict[tuple[str, str, str], float]
    unsuited: tuple[tuple[str, str], ...]

    def notes(self) -> list[str]:
        """What the losses are, and how far two trainings on one subset agree."""
        losses = dict.fromkeys(loss for _, loss in self.ceilings)
        return [
            *(f"Loss {loss}: {WHAT[loss]}." for loss in losses),
            *(
                f"Two trainings on one subset agree by {ceiling.agreement.shown(3)} (Spearman over "
                f"subsets; {generator}, {loss})."
                for (generator, loss), ceiling in self.ceilings.items()
            ),
        ]


def truths_of(
    context: Context, recipes: Mapping[str, Recipe], subsets: int
) -> dict[str, GroundTruth]:
    """The ground truth of every generator: trained, or taken from an earlier run.

    Raises:
        InputError: a conditional recipe, or numbers too small.
    """
    return {
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


def measured(
    context: Context,
    truths: Mapping[str, GroundTruth],
    valuers: Sequence[NamedValuer],
    k: int,
    *,
    kind: str,
    fresh: bool,
) -> Measured:
    """The LDS of every valuer for every generator; each pair is kept when it is done.

    Args:
        context: the study's; its valuers are not used.
        truths: by generator; at least two trainings of at least two subsets.
        valuers: asked one after the other.
        k: contributors a generated image.
        kind: of the kept pieces, and what the progress calls it.
        fresh: embed anew for each, for honest seconds; else as each valuer was made to.

    Raises:
        InputError: a single training or subset.
    """
    ceilings = {
        (generator, loss): noise_ceiling(losses)
        for generator, truth in truths.items()
        for loss, losses in truth.losses.items()
    }
    scores, seconds, by_others, unsuited = {}, {}, {}, []
    with context.progress.stage(f"evaluate {kind}", len(valuers) * len(truths)) as advance:
        for valuer in valuers:
            for generator, truth in truths.items():
                bound = valuer.suited(truth.generator)
                if bound is None:
                    unsuited.append((valuer.name, generator))
                else:
                    scored = _piece(context, bound, truth, k, kind, fresh)
                    for loss, each in scored["lds"].items():
                        place = (valuer.name, generator, loss)
                        scores[place] = mean_interval([x for x in each if x is not None])
                        seconds[place] = float(scored["seconds"])
                    for loss, mean in scored.get("by_others", {}).items():
                        by_others[valuer.name, generator, loss] = math.nan if mean is None else mean
                advance(1)
    return Measured(ceilings, scores, seconds, by_others, tuple(unsuited))


def parameters(
    context: Context, recipes: Mapping[str, Recipe], subsets: int, k: int
) -> dict[str, Any]:
    """What to repeat such a study with."""
    return context.parameters() | {
        "subsets": subsets,
        "trainings_of_each": context.seeds,
        "k": k,
        "recipes": {each: asdict(recipe) for each, recipe in recipes.items()},
    }


def draw_bars(
    figure: Figure,
    names: Sequence[str],
    series: Mapping[str, Scores],
    ceilings: Ceilings,
) -> None:
    """A panel a generator and loss: bars with intervals, a row a name, a colour a series.

    Args:
        figure: an empty one.
        names: of the rows; one without a score has no bar.
        series: label → scores by (name, generator, loss).
        ceilings: by (generator, loss).
    """
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, max(height, 1 + 0.13 * len(names) * (1 + len(series))))
    panels = figure.subplots(1, len(ceilings), sharey=True, squeeze=False)[0]
    thick = 0.8 / len(series)
    for axis, ((generator, loss), ceiling) in zip(panels, ceilings.items(), strict=True):
        for turn, (label, scores) in enumerate(series.items()):
            offset = (turn - (len(series) - 1) / 2) * thick
            found = [
                (place + offset, scores[name, generator, loss])
                for place, name in enumerate(names)
                if (name, generator, loss) in scores
            ]
            means = [score.mean for _, score in found]
            error = [
                [score.mean - score.low for _, score in found],
                [score.high - score.mean for _, score in found],
            ]
            axis.barh(
                [place for place, _ in found],
                means,
                thick,
                xerr=error,
                color=COLOURS[turn % len(COLOURS)],
                ecolor="#222222",
                label=label if len(series) > 1 else None,
            )
        axis.axvline(ceiling.attainable, color="#cc3311", linestyle="--", label="attainable")
        axis.axvline(0, color="#222222", linewidth=0.8)
        axis.set_title(f"{generator}, {loss}")
        axis.set_xlabel("LDS")
        axis.set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    panels[0].legend(loc="lower right", fontsize="small")


def _piece(
    context: Context, valuer: NamedValuer, truth: GroundTruth, k: int, kind: str, fresh: bool
) -> dict[str, Any]:
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
    compute = partial(_scored, context.train, valuer, truth, k, fresh)
    return context.work.piece(kind, key, compute)


def _scored(
    train: ImageSet, valuer: NamedValuer, truth: GroundTruth, k: int, fresh: bool
) -> dict[str, Any]:
    start = time.perf_counter()
    made = (anew(valuer) if fresh else valuer).make(k, 0)
    made.fit(train)
    scores = made.value(truth.generated).score_matrix()
    seconds = time.perf_counter() - start
    means = {loss: losses.mean(axis=1) for loss, losses in truth.losses.items()}
    return {
        "lds": {
            loss: listed(linear_datamodeling_score(scores, truth.subsets, each))
            for loss, each in means.items()
        },
        "by_others": {
            loss: listed(np.array([score_by_others(scores, truth.subsets, each)]))[0]
            for loss, each in means.items()
        },
        "seconds": round(seconds, 3),
    }


def score_by_others(
    scores: NDArray[np.float64], subsets: NDArray[np.bool_], losses: NDArray[np.float64]
) -> float:
    """Mean LDS when each generated image is given the scores of another, for up to `TURNS` others.

    Near 0 for scores that tell images apart. Scores that are much the same for all images can
    foretell only what the losses have in common, and that well or badly by the chance of a single
    draw of subsets, which intervals over images do not show. Arguments as of
    `linear_datamodeling_score`; NaN for a single image.
    """
    m = scores.shape[1]
    if m < 2:
        return math.nan
    turns = np.unique(np.linspace(1, m - 1, min(TURNS, m - 1)).round().astype(np.int64))
    found = [
        linear_datamodeling_score(np.roll(scores, turn, axis=1), subsets, losses) for turn in turns
    ]
    known = np.array(found)[~np.isnan(found)]
    return float(known.mean()) if len(known) else math.nan
