"""From a user's names of sets, generators and valuers to the context of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gmvaluator.errors import InputError
from gmvaluator.evaluation.named import NamedValuer
from gmvaluator.evaluation.planted.noise import NoisedSet, plant_noised
from gmvaluator.evaluation.studies.calibration import MixedSubject
from gmvaluator.evaluation.study import Context
from gmvaluator.evaluation.subjects.recipes import Job, Recipe, trained
from gmvaluator.evaluation.subjects.subject import Classifiers, DrawnSubject, SetSubject, Subject
from gmvaluator.evaluation.valuers import IF4GAN, choose_valuers
from gmvaluator.files.pieces import Workspace
from gmvaluator.generators import FAMILIES
from gmvaluator.generators.data import common_side
from gmvaluator.images import ImageSet
from gmvaluator.images.pixels import random_subset
from gmvaluator.memory import once
from gmvaluator.progress import Progress, Silent

CLASSIFIER_SIDE = 32


@dataclass(frozen=True)
class Setup:
    """A study's inputs as a user names them. `context` trains the generators.

    Attributes:
        train: labelled training images.
        train_name: name of the training set in tables and keys.
        generators: name → recipe to train, or generator file.
        generated: name → labelled set of generated images.
        held_out: labelled images that measure the classifier's accuracy.
        valuers: the valuers to evaluate.
        seeds: number of repetitions.
        m: number of generated images per repetition.
        work: working folder.
        progress: receives the progress.
    """

    train: ImageSet
    train_name: str
    generators: Mapping[str, Recipe | Path]
    generated: Mapping[str, ImageSet]
    held_out: ImageSet | None
    valuers: Sequence[NamedValuer]
    seeds: int
    m: int
    work: Workspace
    progress: Progress

    @staticmethod
    def open(
        *,
        train: Any,
        generators: Sequence[str] | Mapping[str, Recipe] = (),
        recipes: Mapping[str, Recipe] = MappingProxyType({}),
        conditional: bool = False,
        generated: Mapping[str, Any] | None = None,
        held_out: Any = None,
        valuers: Sequence[str] = ("default",),
        valuers_file: Path | None = None,
        seeds: int = 3,
        m: int = 100,
        n: int | None = None,
        work: str | Path,
        train_name: str | None = None,
        attributed: bool = True,
        progress: Progress | None = None,
    ) -> Setup:
        """Open the sets and check the arguments, without long work.

        Args:
            train, held_out: any source of `ImageSet`.
            generators: names of families to train on `train`, generator files, or recipes by name.
            recipes: further names for `generators`. A family's name here replaces its recipe.
            conditional: train named families and recipes as class-conditional generators.
            generated: name → labelled source.
            valuers, valuers_file: see `choose_valuers`. Empty for studies with their own valuers.
            n: size of a random subset of the training images.
            work: see `Workspace`.
            train_name: name of the training set. Default: the name of its file or folder.
            attributed: False for studies that make the generated images themselves. Such studies
                need neither generators nor sets.

        Raises:
            InputError: there is nothing to attribute, a name is unknown, a number is out of range,
                or a source cannot be opened.
        """
        if attributed and not generators and not generated:
            raise InputError("nothing to attribute; pass --generator NAME or --generated NAME=SET")
        for what, number in (("seeds", seeds), ("m", m)):
            if number < 1:
                raise InputError(f"{what}={number}; pass {what} ≥ 1")
        images = ImageSet.open(train)
        location = Path(images.location) if images.location else Path("memory")
        if n is not None:
            if not 1 <= n <= len(images):
                raise InputError(f"n={n} of {len(images)} training images; pass 1 to {len(images)}")
            images = random_subset(images, n)
        held_out = None if held_out is None else ImageSet.open(held_out)
        workspace, listener = Workspace(work), progress or Silent()
        made = {IF4GAN: partial(_if4gan, held_out, workspace, listener)}
        return Setup(
            train=images,
            train_name=train_name or location.stem,
            generators=_recipes(generators, recipes, conditional),
            generated={name: ImageSet.open(source) for name, source in (generated or {}).items()},
            held_out=held_out,
            valuers=choose_valuers(valuers, valuers_file, made) if valuers or valuers_file else (),
            seeds=seeds,
            m=m,
            work=workspace,
            progress=listener,
        )

    @property
    @once
    def size(self) -> int:
        """Side in pixels of classifiers and planted sets: the images' own side if it is usable."""
        side = common_side(self.train)
        return side if side is not None and side % 4 == 0 and 8 <= side <= 64 else CLASSIFIER_SIDE

    @property
    @once
    def classifiers(self) -> Classifiers:
        """Of the training set."""
        return Classifiers(
            self.train,
            self.held_out,
            self.work,
            size=self.size,
            tag=f"{self.train_name}-n{len(self.train)}",
            progress=self.progress,
        )

    def recipes(self) -> dict[str, Recipe]:
        """The generators, where all of them are still to be trained.

        Raises:
            InputError: a file among them.
        """
        recipes = {}
        for name, generator in self.generators.items():
            if isinstance(generator, Path):
                raise InputError(
                    f"{generator} is trained already; pass a family: {', '.join(FAMILIES)}"
                )
            recipes[name] = generator
        return recipes

    def files(self, what: str) -> list[Path]:
        """The generators, where all of them are files.

        Args:
            what: names the wanted file in the error.

        Raises:
            InputError: a family among them.
        """
        files = [path for path in self.generators.values() if isinstance(path, Path)]
        if len(files) < len(self.generators):
            family = next(name for name, made in self.generators.items() if made not in files)
            raise InputError(
                f"--generator {family} is a family to train; pass the file of {what}, or leave it "
                "out"
            )
        return files

    def plant(self, n_noised: int, sigma: float) -> NoisedSet:
        """The training set with noised images added."""
        return plant_noised(self.train, self.work, size=self.size, n_noised=n_noised, sigma=sigma)

    def context(
        self,
        planted: NoisedSet | None = None,
        *,
        subjects: bool = True,
        valuers: Sequence[NamedValuer] | None = None,
    ) -> Context:
        """The context of a study. Missing generators are trained.

        Args:
            planted: a training set that replaces `train`, also for the generators.
            subjects: False for studies that make their own subjects.
            valuers: valuers that replace the valuers of the setup.
        """
        train = self.train if planted is None else planted.images
        return Context(
            train=train,
            subjects=self._subjects(train, planted) if subjects else (),
            valuers=self.valuers if valuers is None else valuers,
            seeds=self.seeds,
            m=self.m,
            work=self.work,
            train_name=self.train_name,
            progress=self.progress,
        )

    def mixed(
        self, planted: NoisedSet, share: float, sigma: float
    ) -> tuple[Context, list[MixedSubject]]:
        """A context in which part of the generated images is noised."""
        plain = self.context(planted)
        mixed = [
            MixedSubject(subject, share, self.work, size=self.size, sigma=sigma)
            for subject in plain.subjects
        ]
        return replace(plain, subjects=mixed), mixed

    def _subjects(self, train: ImageSet, planted: NoisedSet | None) -> list[Subject]:
        suffix = f"-n{len(self.train)}" + (f"-{planted.tag}" if planted else "")
        jobs = {
            name: Job(f"{name}{suffix}", generator, train)
            for name, generator in self.generators.items()
            if isinstance(generator, Recipe)
        }
        files = dict(zip(jobs, trained(list(jobs.values()), self.work, self.progress), strict=True))
        subjects: list[Subject] = [
            DrawnSubject(
                name,
                generator if isinstance(generator, Path) else files[name],
                self.work,
                self.classifiers,
                self.progress,
            )
            for name, generator in self.generators.items()
        ]
        subjects += [
            SetSubject(name, images, self.classifiers) for name, images in self.generated.items()
        ]
        return subjects


def _if4gan(held_out: ImageSet | None, work: Workspace, progress: Progress) -> NamedValuer:
    from gmvaluator.evaluation.traced_gan import if4gan

    return if4gan(held_out, work, progress)


def _recipes(
    generators: Sequence[str] | Mapping[str, Recipe],
    recipes: Mapping[str, Recipe],
    conditional: bool,
) -> dict[str, Recipe | Path]:
    """Recipes and generator files by their names in tables."""
    if isinstance(generators, Mapping):
        return dict(generators)
    recipe_of = {name: Recipe(name) for name in FAMILIES} | dict(recipes)
    generators_by_label: dict[str, Recipe | Path] = {}
    for name in generators:
        path = Path(name)
        if name not in recipe_of and not path.is_file():
            raise InputError(
                f"{name} is neither a generator file nor a family; the families are "
                f"{', '.join(recipe_of)}"
            )
        label = name if name in recipe_of else path.stem
        if label in generators_by_label:
            raise InputError(f"two generators are called {label}; rename a file or drop one")
        generators_by_label[label] = (
            replace(recipe_of[name], conditional=conditional) if name in recipe_of else path
        )
    return generators_by_label
