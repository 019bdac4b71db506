"""Models retrained without some training images, and their drawings from the same noise."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.evaluation.gradient_valuers import snapshots_wanted
from gmvaluator.evaluation.named import NamedValuer
from gmvaluator.evaluation.study import Context, FittedValuer
from gmvaluator.evaluation.subjects.recipes import Job
from gmvaluator.evaluation.truth.retraining import outcomes
from gmvaluator.evaluation.truth.snapshots import keep_snapshots
from gmvaluator.files.pieces import Workspace
from gmvaluator.files.seals import hash_file
from gmvaluator.generators.base import GeneratorModel
from gmvaluator.images import ImageSet
from gmvaluator.progress import Progress
from gmvaluator.runs.valuation import Valuation

Images = NDArray[np.uint8]
Way = TypeVar("Way", bound=Hashable)
Outcome = TypeVar("Outcome")
SEED = 0  # of the training and the drawing of every model

NEAREST_PIXEL, RANDOM = "nearest-pixel", "random"


def without(job: Job, rows: Iterable[int] | NDArray[np.int64]) -> Job:
    """The same training without these rows."""
    return replace(job, without=tuple(np.sort(np.asarray(rows, dtype=np.int64)).tolist()))


def random_order(n: int, seed: int) -> NDArray[np.int64]:
    """(n,) rows in the order in which a draw of random images removes them."""
    return np.random.default_rng([seed, n]).permutation(n)


def drawn_by(jobs: Sequence[Job], m: int, work: Workspace, progress: Progress) -> list[Images]:
    """(m, H, W[, 3]) drawings of the model of each job. Missing models are trained side by side.

    Image i is drawn from the same noise by every model.
    """
    drawings = outcomes(
        jobs,
        partial(_drawn, m=m),
        folder="drawn",
        tail=f"m{m}",
        stage="retrain",
        work=work,
        progress=progress,
    )
    return [drawing["images"] for drawing in drawings]


def by_way(
    ways: Mapping[Way, Sequence[Job]], run: Callable[[Sequence[Job]], Sequence[Outcome]]
) -> dict[Way, list[Outcome]]:
    """The outcomes of the jobs of each way to remove images, from a single call of `run`."""
    outcomes = iter(run([job for jobs in ways.values() for job in jobs]))
    return {way: [next(outcomes) for _ in jobs] for way, jobs in ways.items()}


def _drawn(model: GeneratorModel, m: int) -> dict[str, Images]:
    return {"images": model.sample(m, seed=SEED)}


def as_set(images: Images) -> ImageSet:
    """Drawn images as an image set."""
    return ImageSet.open(list(images))


class Valued:
    """Valuations of the drawings of the model of all training images.

    Args:
        context: context of the study.
        job: job of that model. The model must be trained.
        k: number of contributors per generated image.
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
        bound = [valuer.suited(self._model) for valuer in context.valuers]
        return [valuer for valuer in bound if valuer is not None]

    def key(self, valuer: NamedValuer, m: int) -> dict[str, object]:
        """Key of a valuation's piece: everything that the valuation depends on."""
        return {
            **self._context.key(valuer),
            "generator": hash_file(self._model),
            "m": m,
            "k": self._k,
        }

    def value(self, valuer: NamedValuer, images: Images) -> Valuation:
        """The valuation of images. InputError if a training image cannot be read.

        Rows of such a valuation would name other training images than rows of the set.
        """
        train = self._context.train
        valuation = FittedValuer(valuer, train, self._k).value(as_set(images), SEED)
        if tuple(valuation.train_ids) != tuple(train.ids):
            raise InputError(
                f"{len(train) - len(valuation.train_ids)} training images cannot be read; leave "
                "them out of the set"
            )
        return valuation
