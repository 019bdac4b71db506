"""How do a model's drawings change when images of the lowest or highest value are removed?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.certainty.tables import Cell, Table
from gmvaluator.errors import InputError
from gmvaluator.evaluation.layout import Line, curves, table
from gmvaluator.evaluation.metrics import Interval, mean_interval
from gmvaluator.evaluation.named import NamedValuer
from gmvaluator.evaluation.study import Context
from gmvaluator.evaluation.subjects.recipes import Job, Recipe
from gmvaluator.evaluation.truth.likeness import ENCODER, Likeness, image_features, likeness
from gmvaluator.evaluation.truth.removal import (
    RANDOM,
    SEED,
    Images,
    Valued,
    as_set,
    by_way,
    drawn_by,
    random_order,
    without,
)
from gmvaluator.evaluation.truth.retraining import outcomes, whole_job
from gmvaluator.files.atomic import publish_file
from gmvaluator.generators.base import GeneratorModel
from gmvaluator.images import ImageSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOWEST, HIGHEST = "lowest", "highest"
MEASURES = tuple(field.name for field in fields(Likeness))


@dataclass(frozen=True, eq=False)
class Curve:
    """How a model's drawings change as more of its training images are removed.

    Attributes:
        generator: name of the generator.
        valuer: name of the valuer, or `random` for random training images.
        end: `lowest` or `highest` values are removed. Empty for `random`.
        shares: shares of the training images that are removed, ascending from 0.
        measured: by measure, one list over the shares per random draw. A valuer has one list.
    """

    generator: str
    valuer: str
    end: str
    shares: list[float]
    measured: dict[str, list[list[float]]]

    def area(self, measure: str) -> Interval:
        """Area under the curve divided by its width: the mean height."""
        heights = np.array(self.measured[measure])
        trapezoids = (heights[:, 1:] + heights[:, :-1]) / 2 * np.diff(self.shares)
        return mean_interval(trapezoids.sum(axis=1) / self.shares[-1])


def removal_by_value(
    context: Context, recipes: Mapping[str, Recipe], shares: Sequence[float], k: int, real: ImageSet
) -> list[Curve]:
    """Remove the images of the lowest or highest total value over m generated images, and retrain.

    Args:
        context: m images are valued, and m images are drawn from every retrained model. The seeds
            are the draws of random images.
        recipes: name → recipe of an unconditional generator.
        shares: shares of the training images to remove, ascending, between 0 and 1.
        k: number of contributors per generated image.
        real: real images to which drawn images are compared.

    Raises:
        InputError: the shares are not ascending between 0 and 1, or a recipe is conditional.
    """
    check_shares(len(context.train), shares)
    reference = _reference(context, real)
    return [
        curve
        for name, recipe in recipes.items()
        for curve in _of_generator(context, name, recipe, shares, k, reference)
    ]


def _of_generator(
    context: Context,
    generator: str,
    recipe: Recipe,
    shares: Sequence[float],
    k: int,
    reference: Path,
) -> list[Curve]:
    whole = whole_job(generator, recipe, context.train, context.train_name)
    (originals,) = drawn_by([whole], context.m, context.work, context.progress)
    # (valuer, end) → orders in which training images are removed
    orders: dict[tuple[str, str], list[NDArray[np.int64]]] = {}
    for valuer, values in _values(context, whole, originals, k).items():
        ascending = ascending_rows(values)
        orders |= {(valuer, LOWEST): [ascending], (valuer, HIGHEST): [ascending[::-1]]}
    orders[RANDOM, ""] = [random_order(len(context.train), seed) for seed in range(context.seeds)]
    counts = [0, *(round(share * len(context.train)) for share in shares)]
    ways = {
        way: [without(whole, order[:count]) for order in rows for count in counts]
        for way, rows in orders.items()
    }
    likenesses = by_way(ways, lambda jobs: _measured(context, jobs, reference))
    return [
        Curve(
            generator,
            valuer,
            end,
            [0.0, *shares],
            {
                name: np.reshape([of_job[name] for of_job in by_job], (-1, len(counts))).tolist()
                for name in MEASURES
            },
        )
        for (valuer, end), by_job in likenesses.items()
    ]


def check_shares(n: int, shares: Sequence[float]) -> None:
    """Raises `InputError` unless the shares of n training images ascend between 0 and 1."""
    counts = [round(share * n) for share in shares]
    if not counts or counts != sorted(set(counts)) or not 1 <= counts[0] <= counts[-1] < n:
        raise InputError(
            f"shares {list(shares)} of {n} training images; pass ascending ones between 0 and 1"
        )


def ascending_rows(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) rows from the lowest value to the highest. Equal values come in a random, fixed order.

    All images without a score have value 0, and the order of the set may not be random.
    """
    chance = np.random.default_rng(0).permutation(len(values))
    return np.asarray(np.lexsort((chance, values)), dtype=np.int64)


def _values(
    context: Context, whole: Job, originals: Images, k: int
) -> dict[str, NDArray[np.float64]]:
    """(n,) values by valuer."""
    valued = Valued(context, whole, k)

    def compute(valuer: NamedValuer) -> dict[str, Any]:
        return {"values": valued.value(valuer, originals).values.tolist()}

    return {
        valuer.name: np.array(
            context.work.piece(
                "counterfactual-values", valued.key(valuer, context.m), partial(compute, valuer)
            )["values"]
        )
        for valuer in valued.suited()
    }


def _reference(context: Context, real: ImageSet) -> Path:
    """File of the features of real images."""
    listed = repr((real.ids, real.location, ENCODER))
    tag = hashlib.blake2b(listed.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    file = context.work.path("features", f"{tag}.npy")
    if not file.is_file():
        features = image_features(real, context.progress)
        with publish_file(file) as part, part.open("wb") as handle:
            np.save(handle, features)
    return file


def _measured(
    context: Context, jobs: Sequence[Job], reference: Path
) -> list[dict[str, NDArray[Any]]]:
    """Likeness of the drawings of each job's model. Missing models are trained side by side."""
    return outcomes(
        jobs,
        partial(_measure, m=context.m, reference=reference),
        folder="likeness",
        tail=f"m{context.m}-{reference.stem}",
        stage="retrain and measure",
        work=context.work,
        progress=context.progress,
    )


def _measure(model: GeneratorModel, m: int, reference: Path) -> dict[str, float]:
    """FID, precision and recall of a model's drawings against the real images."""
    features = image_features(as_set(model.sample(m, seed=SEED)))
    return asdict(likeness(np.load(reference), features))


def curve_tables(context: Context, removals: Sequence[Curve]) -> list[Table]:
    """One table per generator and measure, and one table of the areas."""
    shares = [f"{100 * share:g} %" for share in removals[0].shares[1:]]
    areas: list[list[Cell]] = []
    places = {(curve.generator, curve.valuer, curve.end): curve for curve in removals}
    for generator, valuer, end in places:
        for measure in MEASURES if end == LOWEST else ():
            low, high = (places[generator, valuer, e].area(measure).mean for e in (LOWEST, HIGHEST))
            chance = places[generator, RANDOM, ""].area(measure)
            areas.append([generator, valuer, measure, low, chance, high, high - low])
    return [
        *(
            table(
                f"{context.train_name}, images of {generator}, {measure} without a share of the "
                "training images",
                ("valuer", "removed first", "none", *shares),
                (
                    [
                        curve.valuer,
                        curve.end,
                        *map(mean_interval, np.transpose(curve.measured[measure])),
                    ]
                    for curve in removals
                    if curve.generator == generator
                ),
            )
            for generator in dict.fromkeys(curve.generator for curve in removals)
            for measure in MEASURES
        ),
        table(
            f"{context.train_name}, mean height of the curves (area / width)",
            ("images of", "valuer", "measure", "lowest", RANDOM, "highest", "highest − lowest"),
            areas,
        ),
    ]


def draw_curves(figure: Figure, removals: Sequence[Curve], measure: str) -> None:
    """One panel per generator. Solid lines: highest values removed; dashed: lowest values."""
    valuers = [name for name in dict.fromkeys(curve.valuer for curve in removals) if name != RANDOM]
    colours = {RANDOM: "black"} | {name: f"C{place}" for place, name in enumerate(valuers)}
    styles = {HIGHEST: "-", LOWEST: "--", "": ":"}
    panels: dict[str, list[Line]] = {}
    for curve in removals:
        style = {"color": colours[curve.valuer], "linestyle": styles[curve.end], "marker": "."}
        percent = [100 * share for share in curve.shares]
        heights = np.mean(curve.measured[measure], axis=0).tolist()
        line = Line(f"{curve.valuer} {curve.end}".strip(), percent, heights, style)
        panels.setdefault(curve.generator, []).append(line)
    curves(figure, panels, "training images removed, %", measure, share_y=False)
