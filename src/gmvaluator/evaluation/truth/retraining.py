"""Models trained again and again, and what is measured of each: kept one file a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.evaluation.subjects.recipes import Job, Recipe, train_job
from gmvaluator.evaluation.workers import side_by_side
from gmvaluator.files.atomic import publish_file
from gmvaluator.files.pieces import Workspace
from gmvaluator.generators import load_generator
from gmvaluator.generators.base import GeneratorModel
from gmvaluator.generators.training import torch_threads
from gmvaluator.images import ImageSet
from gmvaluator.progress import Progress

Arrays = dict[str, NDArray[Any]]
Measure = Callable[[GeneratorModel], Mapping[str, Any]]


def whole_job(name: str, recipe: Recipe, train: ImageSet, train_name: str) -> Job:
    """The training of a generator on all images.

    Raises:
        InputError: a conditional recipe.
    """
    if recipe.conditional:
        raise InputError(f"{name} is conditional; a class would tell what images cannot")
    return Job(f"{name}-{train_name}-n{len(train)}", recipe, train)


def outcomes(
    jobs: Sequence[Job],
    measure: Measure,
    *,
    folder: str,
    tail: str,
    stage: str,
    work: Workspace,
    progress: Progress,
) -> list[Arrays]:
    """What `measure` finds of the model of each job, by name.

    Missing models are trained, and the missing measured, side by side with one thread each; what
    an earlier run has finished is read.

    Args:
        jobs: the same one may come several times.
        measure: model → arrays or numbers by name; must be picklable.
        folder: of the working folder, that keeps them.
        tail: of the files' names: everything that decides what is measured, beside the model.
        stage: what the progress calls it.
    """
    files = [work.path(folder, f"{job.file(work).stem}-{tail}.npz") for job in jobs]
    missing = {file: job for file, job in zip(files, jobs, strict=True) if not file.is_file()}
    tasks = [partial(_keep, job, job.file(work), measure, file) for file, job in missing.items()]
    side_by_side(tasks, stage, progress)
    return [_read(file) for file in files]


def _keep(job: Job, model: Path, measure: Measure, file: Path) -> None:
    """Train one model unless it is there, and keep what is measured of it."""
    if not model.is_file():
        train_job(job, model)
    with torch_threads(1):
        found = measure(load_generator(model))
    with publish_file(file) as part, part.open("wb") as handle:
        np.savez_compressed(handle, **dict(found))


def _read(file: Path) -> Arrays:
    with np.load(file, allow_pickle=False) as kept:
        return dict(kept)
