"""Generators that a study trains: recipes, jobs and files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

from gmvaluator.evaluation.workers import side_by_side
from gmvaluator.files.pieces import Workspace
from gmvaluator.generators.training import train_generator
from gmvaluator.images import ImageSet
from gmvaluator.progress import Progress


@dataclass(frozen=True)
class Recipe:
    """The training settings of a study's generator.

    Attributes:
        family: name of the family; see `gmvaluator train-generator`.
        steps: number of updates. None: the family's default.
        settings: fields of the family's config.
        conditional: train a class-conditional generator, whose images have known labels.
    """

    family: str
    steps: int | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    conditional: bool = False

    @property
    def tag(self) -> str:
        """A short name that differs between recipes."""
        text = json.dumps(asdict(self), sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


# Small enough to be trained hundreds of times, unconditional, and as good as that allows. All
# labels of a diffusion model hidden and no guidance: a model without classes.
_FREE = {"label_dropout": 1, "guidance": 0}
_MLP = {
    "network": "mlp",
    "predicts": "image",
    "batch_size": 128,
    "ema": 0.99,
    "warmup": 100,
    **_FREE,
}
QUICK_RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "beta-vae": Recipe("beta-vae", 1_200, {"hidden": "256,256", "latent": 16}),
        "beta-vae-z32": Recipe("beta-vae", 1_200, {"hidden": "256,256", "latent": 32}),
        "gan": Recipe(
            "gan", 3_000, {"hidden": "128,256,512", "critic_hidden": "256,128", "ema": 0.99}
        ),
        "ddpm": Recipe("ddpm", 2_500, {"width": 24, "batch_size": 32, **_FREE}),
        "mlp-ddpm": Recipe("ddpm", 2_500, _MLP),
        # for colour images of 32 pixels a side, in the seconds of the one above on digits
        "mlp-ddpm-256": Recipe("ddpm", 1_800, {**_MLP, "hidden": "256,256,256"}),
    }
)


@dataclass(frozen=True)
class Job:
    """One generator to train: a recipe on a training set.

    Attributes:
        name: name of the file. Two training sets in one working folder need different names.
        recipe: recipe of the generator.
        train: the training images.
        seed: seed of the training.
        without: rows of the removed training images, ascending; see `train_generator`.
    """

    name: str
    recipe: Recipe
    train: ImageSet
    seed: int = 0
    without: tuple[int, ...] = ()

    def file(self, work: Workspace) -> Path:
        """Where the generator is, or will be."""
        name = f"{self.name}-{self.recipe.tag}-seed{self.seed}{self._removal}.safetensors"
        return work.path("generators", name)

    @property
    def _removal(self) -> str:
        """Part of the file's name that differs between removals; none for the whole set."""
        if not self.without:
            return ""
        digest = hashlib.blake2b(repr(self.without).encode(), digest_size=6).hexdigest()
        return f"-without{len(self.without)}-{digest}"


def trained(jobs: Sequence[Job], work: Workspace, progress: Progress) -> list[Path]:
    """The generator files of all jobs. Missing generators are trained side by side.

    The weights do not depend on the number of processors. An interrupted training goes on from its
    checkpoint.
    """
    files = [job.file(work) for job in jobs]
    missing = {str(f): job for f, job in zip(files, jobs, strict=True) if not f.is_file()}
    tasks = [partial(train_job, job, file) for file, job in missing.items()]
    side_by_side(tasks, "train generators", progress)
    return files


def train_job(job: Job, file: str | Path, keep: int = 0) -> None:
    """Train one generator in this process, with one thread. `keep` as in `train_generator`.

    The number of snapshots does not change the weights.
    """
    train_generator(
        job.recipe.family,
        job.train,
        file,
        steps=job.recipe.steps,
        seed=job.seed,
        settings=job.recipe.settings,
        conditional=job.recipe.conditional or None,
        keep=keep,
        threads=1,
        without=job.without,
    )
