"""Models retrained without some training images, and what they draw from the same noise."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.evaluation.gradient_valuers import snapshots_wanted
from gmvaluator.evaluation.study import Context, FittedValuer
from gmvaluator.evaluation.subjects.recipes import Job
from gmvaluator.evaluation.truth.retraining import outcomes
from gmvaluator.evaluation.truth.snapshots import keep_snapshots
from gmvaluator.evaluation.valuers import NamedValuer
from gmvaluator.files.pieces import Workspace
from gmvaluator.files.seals import hash_file
from gmvaluator.generators.base import GeneratorModel
from gmvaluator.images import ImageSet
from gmvaluator.progress import Progress
from gmvaluator.runs.valuation import Valuation

Images = NDArray[np.uint8]
Way = TypeVar("Way", bound=Hashable)
Outcome = TypeVar("Outcome")
SEED = 0  # of the training and of what is drawn; every model has the same

NEAREST_PIXEL, RANDOM = "nearest-pixel", "random"


def without(job: Job, rows: Iterable[int] | NDArray[np.int64]) -> Job:
    """The same training without these rows."""
    return replace(job, without=tuple(np.sort(np.asarray(rows, dtype=np.int64)).tolist()))


def random_order(n: int, seed: int) -> NDArray[np.int64]:
    """(n,) rows in the order in which a draw of random images removes them."""
    return np.random.default_rng([seed, n]).permutation(n)


def drawn_by(jobs: Sequence[Job], m: int, work: Workspace, progress: Progress) -> list[Images]:
    """What the models of all jobs draw, (m, H, W[, 3]) each; the missing are trained side by side.

    Image i has its own noise, the same for every model.
    """
    kept = outcomes(
        jobs,
        partial(_drawn, m=m),
        folder="drawn",
        tail=f"m{m}",
        stage="retrain",
        work=work,
        progress=progress,
    )
    return [each["images"] for each in kept]


def by_way(
    ways: Mapping[Way, Sequence[Job]], run: Callable[[Sequence[Job]], Sequence[Outcome]]
) -> dict[Way, list[Outcome]]:
    """What `run` gives for the jobs of each way to remove images, all jobs in one call."""
    outcomes = iter(run([job for jobs in ways.values() for job in jobs]))
    return {way: [next(outcomes) for _ in jobs] for way, jobs in ways.items()}


def _drawn(model: GeneratorModel, m: int) -> dict[str, Images]:
    return {"images": model.sample(m, seed=SEED)}


def as_set(images: Images) -> ImageSet:
    """Drawn images as an image set."""
    return ImageSet.open(list(images))


class Valued:
    """Valuations of what the model of all images draws.

    Args:
        context: the study's.
        job: of that model; it is trained already.
        k: contributors a generated image.
    """

    def __init__(self, context: Context, job: Job, k: int) -> None:
        self._context = context
        self._job = job
        self._k = k
        self._model = job.file(context.work)

    def suited(self) -> list[NamedValuer]:
        """The study's valuers that can value this model's images."""
        context = self._context
        count = snapshots_wanted(context.valuers, self._job.recipe.family)
        keep_snapshots(self._job, count, context.work, context.progress)
        found = [each.suited(self._model) for each in context.valuers]
        return [each for each in found if each is not None]

    def key(self, valuer: NamedValuer, m: int) -> dict[str, object]:
        """What decides a valuation."""
        return {
            **self._context.key(valuer),
            "generator": hash_file(self._model),
            "m": m,
            "k": self._k,
        }

    def value(self, valuer: NamedValuer, images: Images) -> Valuation:
        """Raises `InputError` if a training image cannot be read: rows would name others."""
        train = self._context.train
        valuation = FittedValuer(valuer, train, self._k).value(as_set(images), SEED)
        if tuple(valuation.train_ids) != tuple(train.ids):
            raise InputError(
                f"{len(train) - len(valuation.train_ids)} training images cannot be read; leave "
                "them out of the set"
            )
        return valuation
