"""Snapshots of the training of a generator that a study keeps, for valuers that look into it."""

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
    """Put snapshots beside a generator that is trained already; nothing if some are there.

    It is trained once more, elsewhere, with the same seed: the kept file and its name stay as they
    are whoever asks for snapshots, and the new weights must equal its own bit by bit.

    Args:
        job: of the generator.
        count: evenly spaced snapshots, at most one a step, the last of the final weights; 0: none
            are needed.
        work: where it is.
        progress: hears how far it is.

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
