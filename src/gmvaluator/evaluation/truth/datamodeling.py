"""Linear datamodeling scores (LDS) of many valuers for many generators."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gmvaluator.certainty.tables import Cell, Table, listed
from gmvaluator.errors import InputError
from gmvaluator.evaluation.gradient_valuers import snapshots_wanted
from gmvaluator.evaluation.layout import table, titled_panels
from gmvaluator.evaluation.metrics import (
    Interval,
    NoiseCeiling,
    linear_datamodeling_score,
    mean_interval,
    noise_ceiling,
    score_by_others,
)
from gmvaluator.evaluation.named import NamedValuer
from gmvaluator.evaluation.study import Context, Inputs, check_seeds
from gmvaluator.evaluation.subjects.recipes import Recipe
from gmvaluator.evaluation.truth.ground_truth import GroundTruth, ground_truth, random_subsets
from gmvaluator.evaluation.truth.groups import Groups, by_unit
from gmvaluator.evaluation.valuers import anew
from gmvaluator.images import ImageSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUBSETS = 64
K = 200
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

Place = tuple[str, str, str]  # names of valuer, generator and loss


@dataclass(frozen=True)
class Score:
    """The LDS of one valuer for one generator and loss.

    Attributes:
        lds: mean over the generated images.
        by_others: LDS by the scores of other generated images. None in pieces of older versions.
        seconds: seconds of fitting and valuing.
    """

    lds: Interval
    by_others: float | None
    seconds: float


@dataclass(frozen=True)
class Measured:
    """LDS of valuers for generators, by loss.

    Attributes:
        what: a description of each loss, by its name.
        ceilings: by (generator, loss).
        scores: by (valuer, generator, loss); pairs that do not suit are missing.
        unsuited: (valuer, generator) where the valuer cannot look into the generator.
    """

    what: dict[str, str]
    ceilings: dict[tuple[str, str], NoiseCeiling]
    scores: dict[Place, Score]
    unsuited: tuple[tuple[str, str], ...]

    def notes(self) -> list[str]:
        """A description of the losses, and the agreement of two trainings on one subset."""
        return [
            *(f"Loss {loss}: {what}." for loss, what in self.what.items()),
            *(
                f"Two trainings on one subset agree by {ceiling.agreement.shown(3)} (Spearman over "
                f"subsets; {generator}, {loss})."
                for (generator, loss), ceiling in self.ceilings.items()
            ),
        ]

    def tables(
        self, train_name: str, titles: Mapping[str, Mapping[str, str]], *, seconds: bool
    ) -> tuple[Table, ...]:
        """One table per generator and loss, with one row per valuer.

        Args:
            train_name: name of the training set in titles.
            titles: valuer → its first cells, by column.
            seconds: whether to show a column of seconds.
        """
        heads = next(iter(titles.values()))
        made = []
        for (generator, loss), ceiling in self.ceilings.items():
            rows: list[list[Cell]] = []
            for valuer, title in titles.items():
                if score := self.scores.get((valuer, generator, loss)):
                    share = ceiling.share(score.lds)
                    numbers = (score.lds, share, score.by_others, score.seconds)
                    rows.append([*title.values(), *numbers])
            nothing = [None] * (len(heads) - 1)
            rows.append(["attainable", *nothing, ceiling.attainable, 1.0, None, None])
            columns = (*heads, "LDS", "of attainable", "by others", "seconds")
            end = len(columns) if seconds else -1
            made.append(
                table(
                    f"{train_name}, {generator}, {loss}", columns[:end], [row[:end] for row in rows]
                )
            )
        return tuple(made)

    def details(
        self, titles: Mapping[str, Mapping[str, str]], *, seconds: bool
    ) -> dict[str, list[dict[str, Any]]]:
        """All scores as JSON, with the cells of `titles` by column."""
        return {
            "lds": [
                {
                    **titles[valuer],
                    "generator": generator,
                    "loss": loss,
                    "lds": score.lds,
                    "by_others": score.by_others,
                    **({"s": score.seconds} if seconds else {}),
                }
                for (valuer, generator, loss), score in self.scores.items()
            ]
        }

    def draw_bars(self, figure: Figure, rows: Mapping[str, Mapping[str, str]]) -> None:
        """Bars with intervals, one panel per generator and loss. Names are rows, series colours.

        Args:
            figure: an empty figure.
            rows: name → series → valuer. A valuer without a score has no bar.
        """
        series = list(next(iter(rows.values())))
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, max(height, 1 + 0.13 * len(rows) * (1 + len(series))))
        panels = titled_panels(
            figure, [f"{generator}, {loss}" for generator, loss in self.ceilings], wide=99
        )
        thick = 0.8 / len(series)
        for panel, (place, ceiling) in zip(panels, self.ceilings.items(), strict=True):
            for turn, label in enumerate(series):
                offset = (turn - (len(series) - 1) / 2) * thick
                scores = {
                    row + offset: self.scores[valuers[label], *place].lds
                    for row, valuers in enumerate(rows.values())
                    if (valuers[label], *place) in self.scores
                }
                panel.barh(
                    list(scores),
                    [lds.mean for lds in scores.values()],
                    thick,
                    xerr=[
                        [lds.mean - lds.low for lds in scores.values()],
                        [lds.high - lds.mean for lds in scores.values()],
                    ],
                    color=COLOURS[turn % len(COLOURS)],
                    ecolor="#222222",
                    label=label if len(series) > 1 else None,
                )
            panel.axvline(ceiling.attainable, color="#cc3311", linestyle="--", label="attainable")
            panel.axvline(0, color="#222222", linewidth=0.8)
            panel.set_xlabel("LDS")
            panel.set_yticks(range(len(rows)), list(rows))
        panels[0].invert_yaxis()
        panels[0].legend(loc="lower right", fontsize="small")


def check_repetitions(inputs: Inputs, subsets: int, groups: Groups | None = None) -> None:
    """Raises `InputError` if there is no second training or subset to compare with."""
    check_seeds(inputs, 2, "two trainings of each half say how high an LDS can be")
    if subsets < 2:
        raise InputError(f"subsets={subsets}; pass at least 2 random halves (--subsets)")
    if groups is None:
        random_subsets(len(inputs.train), 1)
    else:
        groups.check_count(subsets)


def truths_of(
    context: Context,
    recipes: Mapping[str, Recipe],
    subsets: int,
    groups: Groups | None = None,
) -> dict[str, GroundTruth]:
    """The ground truth of every generator: trained, or taken from an earlier run.

    Raises:
        InputError: a conditional recipe, or numbers too small.
    """
    check_repetitions(context, subsets, groups)
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
            groups=groups,
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
    """The LDS of every valuer for every generator. Each result is stored when it is done.

    Args:
        context: context of the study. Its valuers are not used.
        truths: ground truths by generator, of at least two trainings of at least two subsets.
        valuers: the valuers to measure.
        k: number of contributors per generated image.
        kind: kind of the stored pieces, and name of the stage in the progress.
        fresh: turn off each valuer's cache, so that the seconds include all embedding.

    Raises:
        InputError: a truth has a single training or subset.
    """
    ceilings = {
        (generator, loss): noise_ceiling(losses)
        for generator, truth in truths.items()
        for loss, losses in truth.losses.items()
    }
    scores: dict[Place, Score] = {}
    unsuited = []
    with context.progress.stage(f"evaluate {kind}", len(valuers) * len(truths)) as advance:
        for valuer in valuers:
            for generator, truth in truths.items():
                bound = valuer.suited(truth.generator)
                if bound is None:
                    unsuited.append((valuer.name, generator))
                else:
                    piece = _piece(context, bound, truth, k, kind, fresh)
                    for loss, by_image in piece["lds"].items():
                        lds = mean_interval([score for score in by_image if score is not None])
                        others = piece.get("by_others", {}).get(loss)
                        scores[valuer.name, generator, loss] = Score(lds, others, piece["seconds"])
                advance(1)
    what = {loss: text for truth in truths.values() for loss, text in truth.what.items()}
    return Measured(what, ceilings, scores, tuple(unsuited))


def parameters(
    context: Context, recipes: Mapping[str, Recipe], subsets: int, k: int
) -> dict[str, Any]:
    """The parameters to repeat such a study with."""
    return context.parameters() | {
        "subsets": subsets,
        "trainings_of_each": context.seeds,
        "k": k,
        "recipes": {generator: asdict(recipe) for generator, recipe in recipes.items()},
    }


def _piece(
    context: Context, valuer: NamedValuer, truth: GroundTruth, k: int, kind: str, fresh: bool
) -> dict[str, Any]:
    """LDS of each generated image by each loss, kept in the working folder."""
    subsets, seeds, m = next(iter(truth.losses.values())).shape
    key = {
        **context.key(valuer),
        **truth.key,
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
    scores, subsets = by_unit(scores, truth.subsets, truth.groups)
    means = {loss: losses.mean(axis=1) for loss, losses in truth.losses.items()}
    return {
        "lds": {
            loss: listed(linear_datamodeling_score(scores, subsets, mean_losses))
            for loss, mean_losses in means.items()
        },
        "by_others": {
            loss: listed(np.array([score_by_others(scores, subsets, mean_losses)]))[0]
            for loss, mean_losses in means.items()
        },
        "seconds": round(seconds, 3),
    }
