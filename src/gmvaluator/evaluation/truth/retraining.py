"""Retrained models and their measurements, one file per model."""

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
        InputError: the recipe is conditional.
    """
    check_unconditional(name, recipe)
    return Job(f"{name}-{train_name}-n{len(train)}", recipe, train)


def check_unconditional(name: str, recipe: Recipe) -> None:
    """Raises `InputError` if the generator learns classes."""
    if recipe.conditional:
        raise InputError(f"{name} is conditional; a class would tell what images cannot")


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
    """The results of `measure` for the model of each job.

    Missing models are trained and measured side by side, with one thread each. Results of an
    earlier run are read.

    Args:
        jobs: a job may occur several times.
        measure: model → arrays or numbers by name. Must be picklable.
        folder: folder of the results in the working folder.
        tail: end of the files' names: every setting of `measure`.
        stage: name of the stage in the progress.
        work: working folder.
        progress: receives the progress.
    """
    files = [work.path(folder, f"{job.file(work).stem}-{tail}.npz") for job in jobs]
    missing = {file: job for file, job in zip(files, jobs, strict=True) if not file.is_file()}
    tasks = [partial(_keep, job, job.file(work), measure, file) for file, job in missing.items()]
    side_by_side(tasks, stage, progress)
    return [_read(file) for file in files]


def _keep(job: Job, model: Path, measure: Measure, file: Path) -> None:
    """Train one model unless its file exists, and write its measurements."""
    if not model.is_file():
        train_job(job, model)
    with torch_threads(1):
        arrays = measure(load_generator(model))
    with publish_file(file) as part, part.open("wb") as handle:
        np.savez_compressed(handle, **dict(arrays))


def _read(file: Path) -> Arrays:
    with np.load(file, allow_pickle=False) as archive:
        return dict(archive)
