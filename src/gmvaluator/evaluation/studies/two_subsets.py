"""Appendix D: are images that a generator was trained on valued higher than its siblings?

The training images are split at random into two halves of the same classes; a generator sees one
half; both halves are valued together by what it draws (Table 6, Figure 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError, MissingPackageError
from gmvaluator.evaluation.metrics import auroc, mean_interval, welch_test
from gmvaluator.evaluation.results import Cell, StudyResult, Table, grid
from gmvaluator.evaluation.study import Context, FittedValuer, Piece
from gmvaluator.evaluation.subjects.recipes import Job, Recipe, trained
from gmvaluator.images import ImageSet
from gmvaluator.images.pixels import load_pixels
from gmvaluator.samplers import draw, load_sampler

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TSNE_IMAGES = 300


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
    """The two-subset test; each seed splits anew and trains a generator of its own.

    Args:
        context: its training set is split; its subjects are not used.
        recipes: name → generator to train on the used half.
        n: images in each half.
        k: contributors a generated image.
        name: of the result.
    """
    _train_all(context, recipes, n)
    pieces: list[Piece] = []
    total = len(recipes) * context.seeds
    with context.progress.stage("evaluate two subsets", total) as advance:
        for family, recipe in recipes.items():
            for seed in range(context.seeds):
                pieces += _one(context, family, recipe, n, k, seed)
                advance(1)
    rows: list[list[Cell]] = []
    for family in recipes:
        for valuer in context.valuers:
            own = [p.result for p in pieces if (p.subject, p.valuer) == (family, valuer.name)]
            rows.append(
                [
                    family,
                    valuer.name,
                    mean_interval([each["used"] for each in own]),
                    mean_interval([each["unused"] for each in own]),
                    mean_interval([each["effect"] for each in own]),
                    mean_interval([each["auroc"] for each in own]),
                    f"1e{max(each['log10_p'] for each in own):.0f}",
                ]
            )
    columns = (
        "generator",
        "valuer",
        "mean value, used",
        "unused",
        "Cohen's d",
        "AUROC",
        "largest p of the seeds",
    )
    title = f"{context.train_name}, {n} used and {n} unused images, m = {context.m}, k = {k}"
    return StudyResult(
        name=name,
        title="Two-subset test (Appendix D)",
        tables=(Table(title, columns, grid(rows)),),
        parameters=context.parameters()
        | {"recipes": {name: asdict(each) for name, each in recipes.items()}, "n": n, "k": k},
        notes=(
            "Welch's t-test of the values of both halves. AUROC: probability that a used image "
            "is valued higher than an unused one.",
        ),
        details={"pieces": [vars(piece) for piece in pieces]},
        plots={f"tsne-{f}": _plotter(context, f, recipe, n) for f, recipe in recipes.items()},
    )


def _one(context: Context, family: str, recipe: Recipe, n: int, k: int, seed: int) -> list[Piece]:
    split = split_in_two(context.train, n, seed)
    pieces = []
    for valuer in context.valuers:
        key = {
            "valuer": dict(valuer.settings),
            "train": context.train_name,
            "n_train": len(context.train),
            "family": family,
            "recipe": asdict(recipe),
            "n": n,
            "m": context.m,
            "k": k,
            "seed": seed,
        }

        def compute(valuer: Any = valuer) -> dict[str, Any]:
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
        pieces.append(Piece(valuer.name, family, seed, result))
    return pieces


def _train_all(context: Context, recipes: Mapping[str, Recipe], n: int) -> None:
    """Train what is missing side by side, before it is asked for one by one."""
    jobs = [
        _job(split_in_two(context.train, n, seed), family, recipe, n, seed)
        for seed in range(context.seeds)
        for family, recipe in recipes.items()
    ]
    trained(jobs, context.work, context.progress)


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


def _plotter(context: Context, family: str, recipe: Recipe, n: int) -> Callable[[Figure], None]:
    def plot(figure: Figure) -> None:
        split = split_in_two(context.train, n, 0)
        drawn = _drawn(context, split, family, recipe, n, 0)
        rows = np.random.default_rng(0).permutation(n)[:TSNE_IMAGES]
        groups = {
            "used": split.images.select(np.sort(np.flatnonzero(split.used)[rows])),
            "unused": split.images.select(np.sort(np.flatnonzero(~split.used)[rows])),
            "generated": drawn.select(np.arange(min(TSNE_IMAGES, len(drawn)))),
        }
        _scatter(figure, groups, f"{family}, pixels, t-SNE")

    return plot


def _scatter(figure: Figure, groups: Mapping[str, ImageSet], title: str) -> None:
    """Figure 1: used, unused and generated images in the plane."""
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise MissingPackageError(
            "the t-SNE picture needs scikit-learn: pip install 'gmvaluator[evaluate]'"
        ) from error
    stacks = [load_pixels(images, 28).reshape(len(images), -1) for images in groups.values()]
    whole = np.concatenate(stacks) / 255
    reduction = TSNE(random_state=0, init="pca", perplexity=min(30, len(whole) / 4))
    plane = reduction.fit_transform(whole)
    panel = figure.subplots()
    start = 0
    for (label, images), marker in zip(groups.items(), "o^x", strict=True):
        points = plane[start : start + len(images)]
        panel.scatter(points[:, 0], points[:, 1], s=9, marker=marker, alpha=0.6, label=label)
        start += len(images)
    panel.set_title(title)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.legend()
