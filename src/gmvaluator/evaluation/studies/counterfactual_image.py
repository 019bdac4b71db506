"""How far does a generated image move when its contributors are removed? (D-TRAK's protocol)

Zheng et al., "Intriguing properties of data attribution on diffusion models", ICLR 2024 (arXiv
2311.00500), section on counterfactual evaluation: remove the training images of the highest scores
for one generated image, retrain with the same seed, and draw the image again from the same noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.certainty.tables import Cell, Table
from gmvaluator.errors import InputError
from gmvaluator.evaluation.layout import Line, curves, table
from gmvaluator.evaluation.metrics import mean_interval
from gmvaluator.evaluation.named import NamedValuer
from gmvaluator.evaluation.study import Context
from gmvaluator.evaluation.subjects.recipes import Job, Recipe
from gmvaluator.evaluation.truth.movement import DISTANCES, PIXELS, Movement, ratio_interval
from gmvaluator.evaluation.truth.removal import (
    RANDOM,
    Images,
    Valued,
    by_way,
    drawn_by,
    random_order,
    without,
)
from gmvaluator.evaluation.truth.retraining import whole_job

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# (m, m): entry (j, i) is the distance that image i moves when images are removed for image j
Moves = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moved:
    """Movement of one generator's images when a valuer's K best training images are removed.

    Attributes:
        generator: name of the generator.
        valuer: name of the valuer, or `random` for random training images.
        k: number of removed images.
        own: by distance, (m,) movement of each image when images are removed for that image. For
            `random`, the mean over several draws.
        others: by distance, (m,) mean movement of the other images in the same retraining.
    """

    generator: str
    valuer: str
    k: int
    own: dict[str, list[float]]
    others: dict[str, list[float]]


def removal_for_images(
    context: Context, recipes: Mapping[str, Recipe], ks: Sequence[int], m: int
) -> list[Moved]:
    """Remove the K best contributors of each of m generated images, retrain, and redraw the image.

    Args:
        context: its seeds are the draws of random images.
        recipes: name → recipe of an unconditional generator.
        ks: numbers of removed images, ascending.
        m: number of generated images.

    Raises:
        InputError: `ks` or `m` is out of range, or a recipe is conditional.
    """
    check_removals(len(context.train), ks, m)
    return [
        moved
        for name, recipe in recipes.items()
        for moved in _of_generator(context, name, recipe, ks, m)
    ]


def check_removals(n: int, ks: Sequence[int], m: int) -> None:
    """Raises `InputError` unless so many of n training images can be removed for m images."""
    if not ks or list(ks) != sorted(set(ks)) or not 1 <= ks[0] <= ks[-1] < n or m < 1:
        raise InputError(
            f"{list(ks)} of {n} images removed for {m} generated ones; pass ascending numbers "
            f"from 1 to {n - 1} and at least 1 generated image"
        )


def _of_generator(
    context: Context, name: str, recipe: Recipe, ks: Sequence[int], m: int
) -> list[Moved]:
    whole = whole_job(name, recipe, context.train, context.train_name)
    (originals,) = drawn_by([whole], m, context.work, context.progress)
    # valuer → orders of removal, one per generated image or per random draw
    orders = {RANDOM: [random_order(len(context.train), seed) for seed in range(context.seeds)]}
    orders |= _contributors(context, whole, originals, max(ks))
    ways = {
        (valuer, k): [without(whole, order[:k]) for order in rows]
        for valuer, rows in orders.items()
        for k in ks
    }
    movement = Movement(originals, context.train)

    def moves(jobs: Sequence[Job]) -> list[dict[str, list[float]]]:
        redrawn = drawn_by(jobs, m, context.work, context.progress)
        return [
            _measured(context, whole, job, movement, images)
            for job, images in zip(jobs, redrawn, strict=True)
        ]

    return [_moved(name, *way, by_job, m) for way, by_job in by_way(ways, moves).items()]


def _contributors(
    context: Context, whole: Job, originals: Images, k: int
) -> dict[str, list[NDArray[np.int64]]]:
    """By valuer, m arrays of (k,) training rows, highest score first."""
    valued = Valued(context, whole, k)
    contributors = {}
    for valuer in valued.suited():
        key = valued.key(valuer, len(originals))
        rank = partial(_ranked, valued, valuer, originals, k)
        rows = context.work.piece("counterfactual-contributors", key, rank)["rows"]
        # a valuer of the whole set has no scores of single images
        if rows is not None:
            contributors[valuer.name] = list(np.asarray(rows, dtype=np.int64))
    return contributors


def _ranked(valued: Valued, valuer: NamedValuer, originals: Images, k: int) -> dict[str, Any]:
    valuation = valued.value(valuer, originals)
    if valuation.record.settings.whole_set:
        return {"rows": None}
    scores, rows = valuation.contributions.scores, valuation.contributions.rows
    if rows.shape[1] < k:
        raise InputError(
            f"{valuer.name} gives {rows.shape[1]} contributors an image, and {k} are to be "
            "removed; remove fewer"
        )
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return {"rows": np.take_along_axis(rows, order, axis=1).tolist()}


def _measured(
    context: Context, whole: Job, job: Job, movement: Movement, redrawn: Images
) -> dict[str, list[float]]:
    key = {
        "of": whole.file(context.work).name,
        "without": job.file(context.work).name,
        "m": len(redrawn),
        "distances": list(DISTANCES),
    }
    return context.work.piece("counterfactual-moves", key, lambda: movement.of(redrawn))


def _moved(
    generator: str, valuer: str, k: int, by_job: Sequence[dict[str, list[float]]], m: int
) -> Moved:
    own, others = {}, {}
    for distance in DISTANCES:
        moves: Moves = np.array([moves_of_job[distance] for moves_of_job in by_job])
        if valuer == RANDOM:
            moves = np.repeat(moves.mean(axis=0)[None], m, axis=0)
        itself = np.diagonal(moves)
        own[distance] = itself.tolist()
        rest = (moves.sum(axis=1) - itself) / max(1, m - 1)
        others[distance] = rest.tolist() if m > 1 else [float("nan")]
    return Moved(generator, valuer, k, own, others)


def movement_tables(context: Context, moved: Sequence[Moved]) -> list[Table]:
    """One table per generator and distance."""
    columns = (
        "removed by",
        "K",
        "moved",
        "× random",
        "moved more than by random",
        "the other images, × random",
    )
    return [
        table(
            f"{context.train_name}, images of {generator}, {distance}: "
            f"{len(moved[0].own[distance])} images, each without K training images of its own",
            columns,
            (_row(removal, moved, distance) for removal in moved if removal.generator == generator),
        )
        for generator in dict.fromkeys(removal.generator for removal in moved)
        for distance in DISTANCES
    ]


def _row(removal: Moved, moved: Sequence[Moved], distance: str) -> list[Cell]:
    moves = removal.own[distance]
    row: list[Cell] = [removal.valuer, removal.k, mean_interval(moves)]
    if removal.valuer == RANDOM:
        return [*row, None, None, None]
    chance = _chance(removal, moved)
    return [
        *row,
        ratio_interval(moves, chance.own[distance]),
        float(np.mean(np.array(moves) > np.array(chance.own[distance]))),
        ratio_interval(removal.others[distance], chance.others[distance]).mean,
    ]


def _chance(removal: Moved, moved: Sequence[Moved]) -> Moved:
    """The random removal with the same generator and K."""
    at = (removal.generator, RANDOM, removal.k)
    return next(
        candidate
        for candidate in moved
        if (candidate.generator, candidate.valuer, candidate.k) == at
    )


def draw_movement(figure: Figure, moved: Sequence[Moved]) -> None:
    """Movement of pixels relative to random removal over K, one panel per generator."""
    ks = sorted({removal.k for removal in moved})
    panels: dict[str, dict[str, list[float]]] = {}
    for removal in moved:
        lines = panels.setdefault(removal.generator, {})
        chance = _chance(removal, moved)
        ratio = ratio_interval(removal.own[PIXELS], chance.own[PIXELS]).mean
        lines.setdefault(removal.valuer, []).append(ratio)
    dotted = {RANDOM: {"color": "black", "linestyle": ":", "marker": ""}}
    axes = curves(
        figure,
        {
            generator: [Line(name, ks, ys, dotted.get(name, {})) for name, ys in lines.items()]
            for generator, lines in panels.items()
        },
        "training images removed",
        "movement (pixels), × random",
        log="x",
    )
    for panel in axes:
        panel.set_xticks(ks, [str(k) for k in ks])
        panel.set_xticks([], minor=True)
