"""Counterfactual ground truth: losses at generated images of models trained on random halves.

Ilyas et al. 2022 (arXiv 2202.00622) and Park et al. 2023 (arXiv 2303.14186) train models on many
random halves of the training set. A score is good if its sum over a half foretells the loss.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator import versions
from gmvaluator.errors import InputError
from gmvaluator.evaluation.subjects.recipes import Recipe, trained
from gmvaluator.evaluation.truth.groups import Groups
from gmvaluator.evaluation.truth.losses import WHAT, losses
from gmvaluator.evaluation.truth.retraining import outcomes, whole_job
from gmvaluator.evaluation.truth.snapshots import keep_snapshots
from gmvaluator.evaluation.truth.truth_file import TruthFile, key_array
from gmvaluator.files.pieces import Workspace
from gmvaluator.files.seals import hash_file
from gmvaluator.images import ImageSet
from gmvaluator.images.pixels import DRAW_SEED
from gmvaluator.progress import Progress
from gmvaluator.samplers import draw, load_sampler

SHARE = 0.5  # of the training images in a subset
SUBSET_SEED = 0


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Losses of retrained models at images that the model of all training images drew.

    Attributes:
        name: name of the generator.
        generated: m images drawn by the model of all n training images.
        generator: file of that model. None: the truth was loaded, and the model is not at hand.
        subsets: (s, n) bool, the training images of each subset.
        losses: by name of the loss, (s, r, m) losses of the model of subset s and seed r.
        what: a description of each loss, by its name.
        groups: that subsets are halves of; None: they are halves of the images.
        key: what identifies the truth in the keys of stored results.
    """

    name: str
    generated: ImageSet
    generator: Path | None
    subsets: NDArray[np.bool_]
    losses: dict[str, NDArray[np.float64]]
    what: Mapping[str, str]
    groups: Groups | None
    key: Mapping[str, Any]


def random_subsets(n: int, count: int, seed: int = SUBSET_SEED) -> NDArray[np.bool_]:
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
    groups: Groups | None = None,
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
        groups: of the training images. Subsets are then halves of the groups.

    Raises:
        InputError: the recipe is conditional, a number is too small, or there are fewer different
            halves of the groups.
        RunError: snapshots cannot be made; see `keep_snapshots`.
    """
    if seeds < 1 or m < 1:
        raise InputError(f"{seeds} seeds and {m} generated images; pass at least 1 of each")
    job = whole_job(name, recipe, train, train_name)
    if groups is None:
        halves, tail = random_subsets(len(train), subsets), ""
    else:
        halves, tail = groups.subsets(subsets, SUBSET_SEED), f"-by{groups.digest}"
    (whole,) = trained([job], work, progress)
    keep_snapshots(job, keep, work, progress)
    folder = work.path("samples", f"{whole.stem}-m{m}-unlabelled")
    draw(load_sampler(whole), m, folder, seed=0, progress=progress)
    generated = ImageSet.open(folder)
    tag = hashlib.sha256("".join(generated.ids).encode() + whole.read_bytes()).hexdigest()[:8]
    jobs = [
        replace(job, name=f"half{number}{tail}-{job.name}", train=half, seed=seed)
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
    return GroundTruth(
        name=name,
        generated=generated,
        generator=whole,
        subsets=halves,
        losses=by_loss,
        what={loss: WHAT[loss] for loss in by_loss},
        groups=groups,
        key={"generator": whole.name} | ({"groups": groups.digest} if groups else {}),
    )


def as_data(truth: GroundTruth, recipe: Recipe, train: ImageSet, train_name: str) -> TruthFile:
    """A trained truth as data, to save.

    Args:
        truth: of models that were trained here.
        recipe: recipe of every model.
        train: the n training images.
        train_name: name of the training set in tables.

    Raises:
        InputError: a training image cannot be read, or there is a single training or subset.
    """
    if truth.generator is None:
        raise InputError("the truth was loaded from a file; save the file's own TruthFile")
    images = np.stack(list(truth.generated))
    grey = (images == images[..., :1]).all()
    trainings = next(iter(truth.losses.values())).shape[1]
    return TruthFile(
        model=truth.name,
        train_name=train_name,
        train_keys=key_array(train),
        subsets=truth.subsets,
        losses={loss: numbers.astype(np.float32) for loss, numbers in truth.losses.items()},
        what=truth.what,
        images=images[..., 0] if grey else images,
        image_ids=truth.generated.ids,
        groups=truth.groups,
        record={
            "train": {
                "source": Path(train.origin).name if train.origin else None,
                "draw_seed": DRAW_SEED,
            },
            "recipe": asdict(recipe),
            "seeds": list(range(trainings)),
            "subset_seed": SUBSET_SEED,
            "generator": hash_file(truth.generator),
            "versions": versions.installed(),
        },
    )


def loaded(truth: TruthFile, generator: Path | None = None) -> GroundTruth:
    """The truth of a file, as studies take it, with the file of its model if that is at hand.

    Raises:
        InputError: the truth was not loaded: no hash of a file tells its results from others.
    """
    if truth.sha256 is None:
        raise InputError(f"the truth of {truth.model} is of no file; save it, and load the file")
    return GroundTruth(
        name=truth.model,
        generated=truth.generated,
        generator=generator,
        subsets=truth.subsets,
        losses={loss: numbers.astype(np.float64) for loss, numbers in truth.losses.items()},
        what=truth.what,
        groups=truth.groups,
        key={"truth": truth.sha256},
    )
