"""Appendix D: do images on which a generator was trained get higher values than other images?

The training images are split at random into two halves of the same classes. A generator is trained
on one half. Both halves are valued together by the generator's images (Table 6, Figure 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.certainty.tables import StudyResult
from gmvaluator.errors import InputError
from gmvaluator.evaluation.layout import table, titled_panels
from gmvaluator.evaluation.metrics import auroc, welch_test
from gmvaluator.evaluation.named import NamedValuer
from gmvaluator.evaluation.study import Context, FittedValuer, Piece, Pieces
from gmvaluator.evaluation.subjects.recipes import Job, Recipe, trained
from gmvaluator.images import ImageSet
from gmvaluator.images.pixels import load_pixels
from gmvaluator.samplers import draw, load_sampler

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TSNE_IMAGES = 300
MEASURES = {
    "mean value, used": "used",
    "unused": "unused",
    "Cohen's d": "effect",
    "AUROC": "auroc",
}


@dataclass(frozen=True)
class Split:
    """A training set of which a generator saw the used half.

    Attributes:
        images: used and unused images, in the order of the whole set.
        used: (n,) bool.
    """

    images: ImageSet
    used: NDArray[np.bool_]


def split_in_two(train: ImageSet, n: int, seed: int) -> Split:
    """`n` random images used and `n` others unused.

    Raises:
        InputError: fewer than 2 n images.
    """
    if not 2 <= 2 * n <= len(train):
        raise InputError(f"two subsets of {n} out of {len(train)} images; pass 1 ≤ n ≤ a half")
    rows = np.random.default_rng([seed, n]).permutation(len(train))[: 2 * n]
    order = np.sort(rows)
    return Split(train.select(order), np.isin(order, rows[:n]))


def two_subsets(
    context: Context,
    recipes: Mapping[str, Recipe],
    n: int,
    k: int = 50,
    *,
    name: str = "two_subsets",
) -> StudyResult:
    """The two-subset test. Each seed has its own split and its own generator.

    Args:
        context: its training set is split. Its subjects are not used.
        recipes: name → recipe of the generator that is trained on the used half.
        n: number of images per half.
        k: number of contributors per generated image.
        name: name of the result.
    """
    # missing generators are trained side by side
    jobs = [
        _job(split_in_two(context.train, n, seed), family, recipe, n, seed)
        for seed in range(context.seeds)
        for family, recipe in recipes.items()
    ]
    trained(jobs, context.work, context.progress)
    pieces = Pieces()
    total = len(recipes) * context.seeds
    with context.progress.stage("evaluate two subsets", total) as advance:
        for family, recipe in recipes.items():
            for seed in range(context.seeds):
                pieces += _compared(context, family, recipe, n, k, seed)
                advance(1)
    rows = (
        [family, valuer.name]
        + [pieces.mean(valuer.name, family, what) for what in MEASURES.values()]
        + [f"1e{max(result['log10_p'] for result in pieces.results(valuer.name, family)):.0f}"]
        for family in recipes
        for valuer in context.valuers
    )
    columns = ("generator", "valuer", *MEASURES, "largest p of the seeds")
    title = f"{context.train_name}, {n} used and {n} unused images, m = {context.m}, k = {k}"
    return StudyResult(
        name=name,
        title="Two-subset test (Appendix D)",
        tables=(table(title, columns, rows),),
        parameters=context.parameters()
        | {"recipes": {name: asdict(recipe) for name, recipe in recipes.items()}, "n": n, "k": k},
        notes=(
            "Welch's t-test of the values of both halves. AUROC: probability that a used image "
            "is valued higher than an unused one.",
        ),
        details=pieces.details(),
        plots={f"tsne-{f}": partial(_draw, context, f, recipe, n) for f, recipe in recipes.items()},
    )


def _compared(
    context: Context, family: str, recipe: Recipe, n: int, k: int, seed: int
) -> Iterator[Piece]:
    split = split_in_two(context.train, n, seed)
    for valuer in context.valuers:
        key = {
            **context.key(valuer),
            "family": family,
            "recipe": asdict(recipe),
            "n": n,
            "m": context.m,
            "k": k,
            "seed": seed,
        }

        def compute(valuer: NamedValuer = valuer) -> dict[str, Any]:
            drawn = _drawn(context, split, family, recipe, n, seed)
            values = FittedValuer(valuer, split.images, k).value(drawn).values
            test = welch_test(values[split.used], values[~split.used])
            return {
                "t": test.t,
                "log10_p": test.log10_p,
                "effect": test.effect,
                "used": test.means[0],
                "unused": test.means[1],
                "auroc": auroc(values, split.used),
            }

        result = context.work.piece("two_subsets", key, compute)
        yield Piece(valuer.name, family, seed, result)


def _job(split: Split, family: str, recipe: Recipe, n: int, seed: int) -> Job:
    """The generator of this family on the used half."""
    used = split.images.select(np.flatnonzero(split.used))
    return Job(f"{family}-used{n}", recipe, used, seed)


def _drawn(
    context: Context, split: Split, family: str, recipe: Recipe, n: int, seed: int
) -> ImageSet:
    """Images of a generator that was trained on the used half."""
    job = _job(split, family, recipe, n, seed)
    (file,) = trained([job], context.work, context.progress)
    folder = context.work.path("samples", f"{file.stem}-m{context.m}")
    draw(load_sampler(file), context.m, folder, seed=seed, progress=context.progress)
    return ImageSet.open(folder)


def _draw(context: Context, family: str, recipe: Recipe, n: int, figure: Figure) -> None:
    """Figure 1: used, unused and generated images in the plane, by t-SNE of their pixels."""
    from sklearn.manifold import TSNE

    split = split_in_two(context.train, n, 0)
    drawn = _drawn(context, split, family, recipe, n, 0)
    rows = np.random.default_rng(0).permutation(n)[:TSNE_IMAGES]
    groups = {
        "used": split.images.select(np.sort(np.flatnonzero(split.used)[rows])),
        "unused": split.images.select(np.sort(np.flatnonzero(~split.used)[rows])),
        "generated": drawn.select(np.arange(min(TSNE_IMAGES, len(drawn)))),
    }
    stacks = [load_pixels(images, 28).reshape(len(images), -1) for images in groups.values()]
    whole = np.concatenate(stacks) / 255
    reduction = TSNE(random_state=0, init="pca", perplexity=min(30, len(whole) / 4))
    ends = np.cumsum([len(stack) for stack in stacks])[:-1]
    points = np.split(reduction.fit_transform(whole), ends)
    (panel,) = titled_panels(figure, [f"{family}, pixels, t-SNE"])
    for label, plane, marker in zip(groups, points, "o^x", strict=True):
        panel.scatter(plane[:, 0], plane[:, 1], s=9, marker=marker, alpha=0.6, label=label)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.legend()
