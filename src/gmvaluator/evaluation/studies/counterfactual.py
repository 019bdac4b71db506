"""Is it true? Training images are removed, models retrained, and their drawings compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial

from gmvaluator.certainty.tables import Draw, StudyResult, Table
from gmvaluator.errors import InputError
from gmvaluator.evaluation.named import NamedValuer
from gmvaluator.evaluation.studies.counterfactual_image import (
    Moved,
    draw_movement,
    movement_tables,
    removal_for_images,
)
from gmvaluator.evaluation.studies.counterfactual_model import (
    MEASURES,
    Curve,
    curve_tables,
    draw_curves,
    removal_by_value,
)
from gmvaluator.evaluation.study import Context
from gmvaluator.evaluation.subjects.recipes import Recipe
from gmvaluator.evaluation.truth.likeness import ENCODER, NEIGHBOURS
from gmvaluator.evaluation.truth.removal import NEAREST_PIXEL, RANDOM
from gmvaluator.evaluation.valuers import named_valuer
from gmvaluator.images import ImageSet

KS = (10, 50, 100, 500)
IMAGES = 10
SHARES = (0.1, 0.3, 0.5, 0.7)
PARTS = ("image", "model")

_SAME = (
    "Every model has the same seed and sees the same batches and noise; only the places of removed "
    "images are taken by others, drawn at random. With nothing removed the model is the same bit "
    "for bit."
)


def counterfactual(
    context: Context,
    recipes: Mapping[str, Recipe],
    *,
    ks: Sequence[int] = KS,
    images: int = IMAGES,
    shares: Sequence[float] = SHARES,
    k: int = 50,
    real: ImageSet | None = None,
    parts: Sequence[str] = PARTS,
    name: str = "counterfactual",
) -> StudyResult:
    """Remove the training images that valuers call important, retrain, and compare the drawings.

    The study adds two removals to those of the valuers: nearest pixels, and random images.

    Args:
        context: its seeds are the draws of random images. Its subjects are not used.
        recipes: name → recipe of an unconditional generator.
        ks: part `image`: numbers of training images removed per generated image.
        images: part `image`: number of generated images.
        shares: part `model`: shares of the training images removed by value.
        k: part `model`: number of contributors per generated image. Values are sums over the
            context's m images.
        real: part `model`: real images to which drawn images are compared. Default: the training
            images.
        parts: `image` (remove for one image), `model` (remove by total value), or both.
        name: name of the result.

    Raises:
        InputError: a part is unknown, there is no recipe, or a number is out of range.
    """
    if not recipes or not parts or (unknown := set(parts) - set(PARTS)):
        problem = f"part {unknown.pop()}" if recipes and parts else "no generator or part"
        raise InputError(f"{problem}; pass a generator to train, and {' or '.join(PARTS)}")
    context = replace(context, valuers=_compared(context.valuers))
    tables: list[Table] = []
    notes, details, plots = [_SAME], {}, dict[str, Draw]()
    if "image" in parts:
        moved = removal_for_images(context, recipes, sorted(ks), images)
        tables += movement_tables(context, moved)
        notes += [_moved_note(context), *_left_out(context, moved, "single images")]
        details["image"] = [vars(removal) for removal in moved]
        plots["moved"] = partial(draw_movement, moved=moved)
    if "model" in parts:
        reference = context.train if real is None else real
        curves = removal_by_value(context, recipes, sorted(shares), k, reference)
        tables += curve_tables(context, curves)
        notes.append(_model_note(context, reference, held_out=real is not None))
        notes += _left_out(context, curves, "what the model draws")
        details["model"] = [vars(curve) for curve in curves]
        plots |= {
            measure: partial(draw_curves, removals=curves, measure=measure) for measure in MEASURES
        }
    numbers = {"ks": sorted(ks), "images": images, "shares": sorted(shares), "k": k}
    return StudyResult(
        name=name,
        title="Counterfactuals: training images removed, models retrained",
        tables=tuple(tables),
        parameters=context.parameters()
        | {"recipes": {generator: asdict(recipe) for generator, recipe in recipes.items()}}
        | {**numbers, "parts": list(parts)},
        notes=tuple(notes),
        details=details,
        plots=plots,
    )


def _compared(valuers: Sequence[NamedValuer]) -> list[NamedValuer]:
    """The valuers with `nearest-pixel` and without `random`, which the study draws by itself."""
    compared = [valuer for valuer in valuers if valuer.settings.get("valuer") != RANDOM]
    if all(valuer.name != NEAREST_PIXEL for valuer in compared):
        compared.append(named_valuer(NEAREST_PIXEL))
    return compared


def _left_out(context: Context, measured: Sequence[Moved | Curve], what: str) -> list[str]:
    """A sentence on each valuer that could not value a generator's images."""
    judged = {(removal.generator, removal.valuer) for removal in measured}
    return [
        f"{valuer.name} is left out of {generator}: it does not value {what} of this generator."
        for generator in dict.fromkeys(removal.generator for removal in measured)
        for valuer in context.valuers
        if (generator, valuer.name) not in judged
    ]


def _moved_note(context: Context) -> str:
    return (
        "moved: mean distance of a generated image from itself, drawn again from the same noise by "
        "the model without its K contributors of the highest score; pixels: root of the mean "
        "squared difference in [0, 1], else the encoder's distance. × random: ratio to the mean "
        f"over {context.seeds} removals of K random images, of the same generated images; the "
        "share counts images that moved farther than that mean. The last column tells how far the "
        "m − 1 images moved for which nothing was removed. Intervals: 95 % over images."
    )


def _model_note(context: Context, reference: ImageSet, *, held_out: bool) -> str:
    kind = "held-out" if held_out else "training"
    return (
        f"FID, precision and recall (k = {NEIGHBOURS}) of {context.m} drawn images against "
        f"{len(reference)} {kind} ones, on features of {ENCODER}. Values are sums over "
        f"{context.m} images of the model of all training images; images of equal value are in "
        f"random order. random: mean and 95 % interval of {context.seeds} draws."
    )
