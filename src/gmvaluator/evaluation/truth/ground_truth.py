"""Counterfactual ground truth: losses at generated images of models trained on random halves.

Ilyas et al. 2022 (arXiv 2202.00622) and Park et al. 2023 (arXiv 2303.14186) train models on many
random halves of the training set. A score is good if its sum over a half foretells the loss.
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
    """Losses of retrained models at images that the model of all training images drew.

    Attributes:
        name: name of the generator.
        generated: m images drawn by the model of all n training images.
        generator: file of that model.
        subsets: (s, n) bool, the training images of each subset.
        losses: by name of the loss, (s, r, m) losses of the model of subset s and seed r.
    """

    name: str
    generated: ImageSet
    generator: Path
    subsets: NDArray[np.bool_]
    losses: dict[str, NDArray[np.float64]]


def random_subsets(n: int, count: int, seed: int = 0) -> NDArray[np.bool_]:
    """(count, n) bool random halves. A smaller count gives the first halves of a larger one.

    Raises:
        InputError: fewer than two images, or a count below 1.
    """
    if n < 2 or count < 1:
        raise InputError(f"{count} halves of {n} images; pass at least 1 of at least 2")
    subsets = np.zeros((count, n), dtype=bool)
    for number, row in enumerate(subsets):
        half = np.random.default_rng([seed, number]).permutation(n)[: round(n * SHARE)]
        row[half] = True
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
    """Train a model on all images and models on random halves, and measure their losses.

    Models and losses of an earlier run in the same working folder are read, not computed again.

    Args:
        name: name of the generator in tables and file names.
        recipe: recipe of every model, unconditional.
        train: the n training images.
        train_name: name of the training set in file names.
        m: number of generated images.
        subsets: number of halves.
        seeds: number of trainings per half. The seeds 0, 1, … are the same for every half.
        work: working folder that stores models and losses.
        progress: receives the progress.
        keep: number of snapshots of the training on all images, for valuers that need them.

    Raises:
        InputError: the recipe is conditional, or a number is too small.
        RunError: snapshots cannot be made; see `keep_snapshots`.
    """
    if seeds < 1 or m < 1:
        raise InputError(f"{seeds} seeds and {m} generated images; pass at least 1 of each")
    job = whole_job(name, recipe, train, train_name)
    halves = random_subsets(len(train), subsets)
    (whole,) = trained([job], work, progress)
    keep_snapshots(job, keep, work, progress)
    folder = work.path("samples", f"{whole.stem}-m{m}-unlabelled")
    draw(load_sampler(whole), m, folder, seed=0, progress=progress)
    generated = ImageSet.open(folder)
    tag = hashlib.sha256("".join(generated.ids).encode() + whole.read_bytes()).hexdigest()[:8]
    jobs = [
        replace(job, name=f"half{number}-{job.name}", train=half, seed=seed)
        for number, half in enumerate(train.select(np.flatnonzero(members)) for members in halves)
        for seed in range(seeds)
    ]
    losses_of_jobs = outcomes(
        jobs,
        partial(losses, images=generated),
        folder="losses",
        tail=f"m{m}-{tag}",
        stage=f"retrain {name}",
        work=work,
        progress=progress,
    )
    by_loss = {
        loss: np.stack([of_job[loss] for of_job in losses_of_jobs]).reshape(subsets, seeds, m)
        for loss in losses_of_jobs[0]
    }
    return GroundTruth(name, generated, whole, halves, by_loss)
