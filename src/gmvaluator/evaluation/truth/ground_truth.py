"""Counterfactual ground truth: what models trained on random subsets say of generated images.

Ilyas et al. 2022 (arXiv 2202.00622) and Park et al. 2023 (arXiv 2303.14186): train on many random
halves of the training set, and ask of a score whether its sum over a half foretells the loss.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.evaluation.subjects.recipes import Recipe, trained
from gmvaluator.evaluation.truth.losses import losses
from gmvaluator.evaluation.truth.retraining import outcomes, whole_job
from gmvaluator.evaluation.truth.snapshots import keep_snapshots
from gmvaluator.files.pieces import Workspace
from gmvaluator.images import ImageSet
from gmvaluator.progress import Progress
from gmvaluator.samplers import draw, load_sampler

SHARE = 0.5  # of the training images in a subset


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Retrained models' losses at the generated images of the model of all training images.

    Attributes:
        name: of the generator.
        generated: m images drawn by the model that all n training images trained.
        generator: that model's file.
        subsets: (s, n) bool, the training images of each subset.
        losses: by name of the loss, (s, r, m): of the model trained on subset s with seed r.
    """

    name: str
    generated: ImageSet
    generator: Path
    subsets: NDArray[np.bool_]
    losses: dict[str, NDArray[np.float64]]


def random_subsets(n: int, count: int, seed: int = 0) -> NDArray[np.bool_]:
    """(count, n) bool: random halves; a smaller count gives the first of them.

    Raises:
        InputError: fewer than two images, or no subset.
    """
    if n < 2 or count < 1:
        raise InputError(f"{count} halves of {n} images; pass at least 1 of at least 2")
    subsets = np.zeros((count, n), dtype=bool)
    for number, row in enumerate(subsets):
        chosen = np.random.default_rng([seed, number]).permutation(n)[: round(n * SHARE)]
        row[chosen] = True
    return subsets


def ground_truth(
    name: str,
    recipe: Recipe,
    train: ImageSet,
    *,
    train_name: str,
    m: int,
    subsets: int,
    seeds: int,
    work: Workspace,
    progress: Progress,
    keep: int = 0,
) -> GroundTruth:
    """Train on all and on random halves, and measure; what a run before has done is kept.

    Args:
        name: of the generator, in tables and file names.
        recipe: unconditional; it trains every model.
        train: the n training images.
        train_name: in file names.
        m: generated images.
        subsets: halves.
        seeds: trainings of each half; seeds are 0, 1, … and the same for every half.
        work: keeps models and losses.
        progress: hears how far it is.
        keep: snapshots of the training on all images, for valuers that look at them.

    Raises:
        InputError: a conditional recipe, or numbers too small.
        RunError: snapshots that cannot be had; see `keep_snapshots`.
    """
    if seeds < 1 or m < 1:
        raise InputError(f"{seeds} seeds and {m} generated images; pass at least 1 of each")
    job = whole_job(name, recipe, train, train_name)
    chosen = random_subsets(len(train), subsets)
    (whole,) = trained([job], work, progress)
    keep_snapshots(job, keep, work, progress)
    folder = work.path("samples", f"{whole.stem}-m{m}-unlabelled")
    draw(load_sampler(whole), m, folder, seed=0, progress=progress)
    generated = ImageSet.open(folder)
    tag = hashlib.sha256("".join(generated.ids).encode() + whole.read_bytes()).hexdigest()[:8]
    jobs = [
        replace(job, name=f"half{number}-{job.name}", train=half, seed=seed)
        for number, half in enumerate(train.select(np.flatnonzero(each)) for each in chosen)
        for seed in range(seeds)
    ]
    kept = outcomes(
        jobs,
        partial(losses, images=generated),
        folder="losses",
        tail=f"m{m}-{tag}",
        stage=f"retrain {name}",
        work=work,
        progress=progress,
    )
    found = {
        loss: np.stack([each[loss] for each in kept]).reshape(subsets, seeds, m) for loss in kept[0]
    }
    return GroundTruth(name, generated, whole, chosen, found)
