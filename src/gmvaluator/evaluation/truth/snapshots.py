"""Snapshots of a generator's training, for valuers that read the generator's weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from gmvaluator.errors import RunError
from gmvaluator.evaluation.subjects.recipes import Job, train_job
from gmvaluator.evaluation.workers import side_by_side
from gmvaluator.files.pieces import Workspace
from gmvaluator.generators.files import list_snapshots, snapshot_folder
from gmvaluator.progress import Progress


def keep_snapshots(job: Job, count: int, work: Workspace, progress: Progress) -> None:
    """Put snapshots beside a trained generator. Existing snapshots are left as they are.

    The generator is trained once more in another folder, with the same seed. The generator's file
    does not change. The weights of both trainings must be equal bit by bit.

    Args:
        job: the training of the generator.
        count: number of evenly spaced snapshots, at most one per step, the last one with the final
            weights. 0: no snapshots.
        work: working folder of the generator.
        progress: receives the progress.

    Raises:
        RunError: the second training gives other weights, as on another machine.
    """
    file, count = job.file(work), min(count, job.recipe.steps or count)
    if not count or list_snapshots(file):
        return
    again = work.path("snapshots", file.name)
    if not again.is_file():
        side_by_side([partial(train_job, job, again, count)], "keep snapshots", progress)
    if not _equal(file, again):
        raise RunError(
            f"{file} was trained on another machine: here the same training gives other weights, "
            "so that its snapshots would be another model's. Delete it and what follows from it "
            "(another working folder), or leave out valuers that need snapshots"
        )
    snapshot_folder(again).replace(snapshot_folder(file))
    again.unlink()


def _equal(first: Path, second: Path) -> bool:
    """Whether two generator files hold the same numbers under the same names."""
    import torch
    from safetensors.torch import load_file

    ours, theirs = load_file(first), load_file(second)
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name], theirs[name]) for name in ours
    )
