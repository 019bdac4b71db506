"""`gmvaluator evaluate`: a table of studies, and the sub-commands that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from gmvaluator.cli.claims import claim
from gmvaluator.cli.help import Purposes, Verb, example
from gmvaluator.cli.options import (
    FALSE_ALARMS,
    PATH,
    PRINTING,
    Option,
    flag,
    option,
    options,
    out,
    pair,
)
from gmvaluator.cli.printing import chosen_progress, print_result
from gmvaluator.errors import InputError
from gmvaluator.evaluation.studies import STUDIES

if TYPE_CHECKING:
    from gmvaluator.certainty.tables import StudyResult
    from gmvaluator.evaluation.setup import Setup
    from gmvaluator.evaluation.study import Context
    from gmvaluator.evaluation.subjects.recipes import Recipe

SHARED: tuple[Option[Any], ...] = (
    click.argument("train"),
    out("Folder to write the results to.", default=Path("evaluation")),
    option(
        "--generator NAME|FILE",
        "Generative model whose images are attributed: a family to train on TRAIN, such as gan, "
        "or a trained file. Default: none.",
        to="generators",
        multiple=True,
    ),
    flag("--conditional", "Train families on classes, where they can."),
    option(
        "--generated NAME=SET",
        "Labelled images to attribute in place of a generator's, such as real test images; NAME "
        "is what tables call them. Default: none.",
        multiple=True,
    ),
    option(
        "--held-out SET", "Labelled images of the same kind that are not in TRAIN. Default: none."
    ),
    option(
        "--valuer NAME",
        "Method to evaluate: default, no-rerank, l2, st-lpips, nearest-pixel, nda, trak, random "
        "and others, or a file of your own scores (scores.npy). Default: default.",
        to="valuers",
        multiple=True,
    ),
    option(
        "--valuers",
        "TOML file that describes more methods, one table for each; docs/howto/evaluate.md has "
        "every key. Default: none.",
        to="valuers_file",
        type=PATH,
    ),
    option("--seeds", "Number of repetitions.", default=3),
    option("--n", "Number of training images, drawn at random from TRAIN. Default: all.", type=int),
    option(
        "--work",
        "Folder for generators, samples and finished parts; an interrupted study resumes from it.",
        type=PATH,
        default=Path("evaluation-work"),
    ),
    option("--name", "Name of the result files. Default: the study's name."),
    option("--train-name", "Name of TRAIN in tables. Default: name of its file or folder."),
)
PLANTED = (
    option("--noised", "Number of noised training images to add.", default=100),
    option("--sigma", "Standard deviation of the noise.", default=0.8),
)
SUBSETS = option("--subsets", "Number of random halves of TRAIN.", default=64)
TRUTH = (
    option(
        "--by COLUMN",
        "Draw halves of the groups of this column of TRAIN's table, such as owners, or of `label`: "
        "the images of a group stay or leave together. Default: halves of single images.",
    ),
    option(
        "--save-truth FILE",
        "File (.npz) to write the truth of the one --generator to: halves, losses and generated "
        "images, for --truth. Default: none.",
        type=PATH,
    ),
    option(
        "--truth FILE",
        "File of --save-truth to judge by in place of training. TRAIN must hold its training "
        "images. --subsets, --seeds and --m then take the first of its halves, trainings and "
        "generated images, and all of them where they are left out; --generator takes the file of "
        "its model, for methods that read it. Default: none.",
        to="truths",
        type=PATH,
        multiple=True,
    ),
)


def _count(default: int) -> Option[Any]:
    text = "Number of generated images per repetition."
    return option("--m", text, default=default)


def _k(default: int | tuple[int, ...]) -> Option[Any]:
    """One number of contributors, or several where the study compares several."""
    text = "Number of contributors per generated image."
    return option("--k", text, multiple=isinstance(default, tuple), default=default)


class Request:
    """The options of one call of a study, as attributes, and what they stand for."""

    def __init__(self, study: Study, arguments: Mapping[str, Any]) -> None:
        self.study = study
        self.options = arguments

    def __getattr__(self, name: str) -> Any:
        return self.options[name]

    @property
    def result_name(self) -> str:
        """Name of the result files."""
        return str(self.name or self.study.result_name)

    def setup(
        self,
        *,
        attributed: bool = True,
        own_valuers: bool = False,
        recipes: Mapping[str, Recipe] = MappingProxyType({}),
    ) -> Setup:
        """The ingredients of the study, all of them checked; nothing is trained yet.

        Args:
            attributed, recipes: see `Setup.open`.
            own_valuers: the study brings its own valuers and takes none.
        """
        from gmvaluator.evaluation.checks import CHECKS, check_study

        setup = self.opened(attributed=attributed, own_valuers=own_valuers, recipes=recipes)
        if self.study.name in CHECKS:
            check_study(self.study.name, setup, self.options)
        return setup

    def opened(
        self,
        *,
        attributed: bool = True,
        own_valuers: bool = False,
        recipes: Mapping[str, Recipe] = MappingProxyType({}),
    ) -> Setup:
        """The ingredients of the study, opened but not checked. Arguments: see `setup`."""
        from gmvaluator.evaluation.setup import Setup
        from gmvaluator.files.atomic import check_place

        check_place(self.out)
        if self.name and Path(self.name).name != self.name:
            raise InputError(f"--name {self.name} is no file name; pass a name without folders")
        claim(self.work)
        claim(self.out / self.result_name)
        return Setup.open(
            train=self.train,
            generators=self.generators,
            recipes=recipes,
            conditional=self.conditional,
            generated=dict(pair(text, "--generated NAME=SET", str) for text in self.generated),
            held_out=self.held_out,
            valuers=self.valuers or (() if self.valuers_file or own_valuers else ("default",)),
            valuers_file=self.valuers_file,
            seeds=self.seeds,
            m=self.m,
            n=self.n,
            work=self.work,
            train_name=self.train_name,
            attributed=attributed,
            progress=chosen_progress(),
        )

    def given(self, *names: str) -> dict[str, Any]:
        """The options of these names that are not at their defaults because nobody gave them."""
        context = click.get_current_context()
        default = click.core.ParameterSource.DEFAULT
        return {
            name: self.options[name]
            for name in names
            if context.get_parameter_source(name) is not default
        }

    def retrained(self, *, own_valuers: bool = False) -> tuple[Setup, dict[str, Recipe]]:
        """The setup of a study that trains its generators again and again, and their recipes."""
        from gmvaluator.evaluation.subjects.recipes import QUICK_RECIPES

        self.refuse(generated="it trains its generators; pass --generator NAME")
        setup = self.setup(recipes=QUICK_RECIPES, own_valuers=own_valuers)
        return setup, setup.recipes()

    def unattributed(self) -> Context:
        """The context of a study that makes its generated images of TRAIN."""
        return self.setup(attributed=False).context(subjects=False)

    def run(self, *arguments: Any, **settings: Any) -> StudyResult:
        """The study's function of `gmvaluator.evaluation.studies`, called."""
        return STUDIES[self.study.name].load()(*arguments, name=self.result_name, **settings)

    def refuse(self, **reasons: str) -> None:
        """Raise InputError where an option of this name was given, saying why it is refused."""
        flags = {"generators": "--generator", "valuers": "--valuer", "valuers_file": "--valuers"}
        for name, reason in reasons.items():
            if self.options[name]:
                refused = flags.get(name, f"--{name.replace('_', '-')}")
                raise InputError(
                    f"{self.study.name} does not take {refused}: {reason}; leave {refused} out"
                )


@dataclass(frozen=True)
class Study:
    """A sub-command of `evaluate`.

    Attributes:
        name: of the sub-command, in the table `gmvaluator.evaluation.studies.STUDIES`.
        more: help after the sentence that the table has.
        call: prepares the study from its options and runs it.
        m: default number of generated images.
        options: beside those of every study.
        words: after the name, in the example.
        default_name: of the result files; "": the sub-command's name.
    """

    name: str
    call: Callable[[Request], StudyResult]
    m: int = 100
    options: Sequence[Option[Any]] = ()
    words: str = "train/ --generator gan --conditional"
    default_name: str = ""
    more: str = ""

    @property
    def result_name(self) -> str:
        return self.default_name or self.name.replace("-", "_")

    def command(self) -> click.Command:
        """The sub-command."""

        def run(**arguments: Any) -> None:
            result = self.call(Request(self, arguments))
            files = result.save(arguments["out"])
            text = f"{result.as_text()}\n\nsaved in {', '.join(str(file) for file in files)}"
            print_result(result.as_json(), text, as_json=arguments["as_json"])

        decorate = options(*SHARED, _count(self.m), *self.options, *PRINTING)
        ending = example(f"evaluate {self.name} {self.words}")
        text = f"{STUDIES[self.name].about}\n\n{self.more}"
        return click.command(self.name, cls=Verb, help=text, epilog=ending)(decorate(run))


OWN_VALUERS = "it brings its own methods"
TRAINS_NOTHING = "it trains no generator"
MAKES_IMAGES = "it makes its generated images of TRAIN"


def _simple(request: Request) -> StudyResult:
    return request.run(request.setup().context(), request.k)


def _attributes(request: Request) -> StudyResult:
    context = request.setup().context()
    combined = [text.split("+") for text in request.combinations] or None
    return request.run(context, request.attributes, request.k, combined)


def _with_noised(request: Request) -> StudyResult:
    setup = request.setup()
    planted = setup.plant(request.noised, request.sigma)
    return request.run(setup.context(planted), planted, request.k)


def _calibration(request: Request) -> StudyResult:
    setup = request.setup()
    planted = setup.plant(request.noised, request.sigma)
    context, mixed = setup.mixed(planted, request.share, request.sigma)
    return request.run(context, mixed, planted, request.k)


def _compared_classes(request: Request, kind: str, title: str) -> StudyResult:
    from gmvaluator.evaluation import valuers

    request.refuse(valuers=OWN_VALUERS, valuers_file=OWN_VALUERS)
    setup = request.setup(own_valuers=True)
    usable, notes = valuers.usable(getattr(valuers, f"{kind}_valuers")())
    context = setup.context(valuers=usable)
    return request.run(context, request.k, title=title, notes=notes)


def _two_subsets(request: Request) -> StudyResult:
    request.refuse(generated="it trains its generators; pass --generator NAME")
    setup = request.setup()
    recipes = {
        name: replace(recipe, steps=request.steps) for name, recipe in setup.recipes().items()
    }
    return request.run(setup.context(subjects=False), recipes, request.half, request.k)


def _images_needed(request: Request) -> StudyResult:
    from gmvaluator.evaluation.studies.images_needed import ladder

    numbers = sorted(request.ms) or ladder(request.m)
    return request.run(request.setup().context(), numbers, request.k)


def _growth(request: Request) -> StudyResult:
    from gmvaluator.evaluation.studies.efficiency import usual_sizes

    context = request.setup().context()
    sizes = sorted(request.sizes) or usual_sizes(len(context.train))
    return request.run(context, sizes, request.k)


def _lds(request: Request) -> StudyResult:
    if request.truths:
        return _lds_of_truths(request)
    setup, recipes = request.retrained()
    return request.run(
        setup.context(subjects=False),
        recipes,
        request.subsets,
        request.k,
        by=request.by,
        save_truth=request.save_truth,
    )


def _lds_of_truths(request: Request) -> StudyResult:
    from gmvaluator.evaluation.checks import check_truths
    from gmvaluator.evaluation.studies.lds import lds_of_truths, training_images_of
    from gmvaluator.evaluation.truth.truth_file import TruthFile

    names = ("conditional", "generated", "by", "save_truth")
    request.refuse(**dict.fromkeys(names, "a truth is trained already (--truth)"))
    sizes = request.given("subsets", "seeds", "m")
    truths = [TruthFile.load(file).part(**sizes) for file in request.truths]
    setup = request.opened(attributed=False)
    setup = replace(
        setup,
        train=training_images_of(truths, setup.train),
        train_name=request.train_name or truths[0].train_name,
    )
    models = setup.files("the truth's model")
    check_truths(setup, truths, models, request.options)
    context = setup.context(subjects=False)
    return lds_of_truths(context, truths, request.k, models=models, name=request.result_name)


def _spaces(request: Request) -> StudyResult:
    from gmvaluator.evaluation.representations import default_spaces

    request.refuse(valuers=OWN_VALUERS, valuers_file=OWN_VALUERS)
    setup, recipes = request.retrained(own_valuers=True)
    context = setup.context(subjects=False, valuers=())
    names = request.names or default_spaces(setup.size, len(context.train))
    return request.run(context, recipes, names, request.subsets, request.k)


def _counterfactual(request: Request) -> StudyResult:
    setup, recipes = request.retrained()
    return request.run(
        setup.context(subjects=False),
        recipes,
        ks=request.ks,
        images=request.images,
        shares=request.shares,
        k=request.k,
        real=setup.held_out,
        parts=request.parts,
    )


def _planted(request: Request) -> StudyResult:
    names = ("generators", "conditional", "generated", "held_out")
    request.refuse(**dict.fromkeys(names, MAKES_IMAGES))
    return request.run(request.unattributed(), request.k, request.owners)


def _audit(request: Request) -> StudyResult:
    from gmvaluator.audit.near_copies import CopySettings

    names = ("generators", "conditional", "generated", "valuers", "valuers_file")
    request.refuse(**dict.fromkeys(names, MAKES_IMAGES))
    setup = request.setup(attributed=False, own_valuers=True)
    return request.run(
        setup.context(subjects=False, valuers=()),
        setup.held_out,
        innocents=request.innocents,
        settings=CopySettings(request.false_alarms),
    )


def _strangers(request: Request) -> StudyResult:
    request.refuse(generators=TRAINS_NOTHING, conditional=TRAINS_NOTHING)
    setup = request.setup(attributed=False)
    context = setup.context(subjects=False)
    return request.run(context, setup.held_out, setup.generated, setup.size, level=request.level)


RETRAINS = (
    "Each --generator is a family that is trained many times: small, without classes, on one "
    "thread, several side by side. TRAIN needs no labels."
)
ROWS = (
    Study(
        "c1",
        _simple,
        options=(_k((30, 50, 100)),),
    ),
    Study(
        "c2",
        _attributes,
        options=(
            option(
                "--attribute COLUMN",
                "Column of the table TRAIN to compare.",
                to="attributes",
                multiple=True,
                required=True,
            ),
            option(
                "--combination A+B",
                "Attributes that must agree together. Default: every pair, and all together.",
                to="combinations",
                multiple=True,
            ),
            _k((5, 10, 15)),
        ),
        words="faces.csv --generated real=test.csv --attribute hair --attribute glasses",
    ),
    Study(
        "c3",
        _with_noised,
        m=10_000,
        options=(_k((50,)), *PLANTED),
    ),
    Study(
        "encoders",
        partial(_compared_classes, kind="encoder", title="Encoders (Appendix G)"),
        options=(_k((30, 50, 100)),),
    ),
    Study(
        "distances",
        partial(_compared_classes, kind="distance", title="Distances (Appendix H)"),
        options=(_k((30, 50, 100)),),
    ),
    Study(
        "c4",
        _simple,
        options=(_k(50),),
    ),
    Study(
        "two-subsets",
        _two_subsets,
        m=1_000,
        options=(
            option("--half", "Number of images in each half.", default=500),
            option("--steps", "Training steps. Default: the family's own number.", type=int),
            _k(50),
        ),
        words="train/ --generator gan",
        more="The study trains each --generator, a family, on half of TRAIN, once per seed.",
    ),
    Study(
        "images-needed",
        _images_needed,
        m=10_000,
        options=(
            option(
                "--at",
                "Number of generated images to compare at. Default: a ladder from 10 to --m.",
                to="ms",
                type=int,
                multiple=True,
            ),
            _k(50),
        ),
    ),
    Study(
        "calibration",
        _calibration,
        m=2_000,
        options=(
            option("--share", "Share of noised generated images.", default=0.2),
            *PLANTED,
            _k(50),
        ),
    ),
    Study(
        "temperature",
        _with_noised,
        m=2_000,
        options=(*PLANTED, _k(100)),
    ),
    Study(
        "growth",
        _growth,
        m=1_000,
        options=(
            option(
                "--size",
                "Number of training images to compare at. Default: 1,000, 5,000, 20,000 and all.",
                to="sizes",
                type=int,
                multiple=True,
            ),
            _k(50),
        ),
        default_name="growth_n",
    ),
    Study(
        "pq",
        lambda request: request.run(request.setup().context(), request.indexes, request.k),
        m=1_000,
        options=(
            option(
                "--index NAME",
                "Search index to compare.",
                to="indexes",
                multiple=True,
                default=("exact", "pq", "ivfpq"),
            ),
            _k(50),
        ),
    ),
    Study(
        "lds",
        _lds,
        options=(SUBSETS, _k(200), *TRUTH),
        words="train/ --generator beta-vae --n 5000",
        more=f"The study retrains on random halves of TRAIN. {RETRAINS} With --truth it trains "
        "nothing: it judges methods by losses that --save-truth wrote.",
    ),
    Study(
        "spaces",
        _spaces,
        options=(
            SUBSETS,
            _k(200),
            option(
                "--space SPACE",
                "An encoder, pca:64@28, pca:64:whitened@28, generator#code or another layer, or a "
                "mixture such as 'pixels@28 + 0.5 * generator#code'. Default: two dozen spaces.",
                to="names",
                multiple=True,
            ),
        ),
        words="train/ --generator beta-vae --n 5000",
        more="The study compares scores as lds does, and takes the models that lds trained from "
        "--work. It tries each space with the softmax of Eq. 6 and with global-ridge.",
    ),
    Study(
        "counterfactual",
        _counterfactual,
        m=2_000,
        options=(
            option(
                "--remove",
                "Number of training images to remove for one generated image.",
                to="ks",
                multiple=True,
                default=(10, 50, 100, 500),
            ),
            option("--images", "Number of generated images to remove contributors of.", default=10),
            option(
                "--share",
                "Share of all training images to remove by value.",
                to="shares",
                multiple=True,
                default=(0.1, 0.3, 0.5, 0.7),
            ),
            option(
                "--part",
                "Remove for single generated images (image), or by value for the whole model.",
                to="parts",
                type=click.Choice(["image", "model"]),
                multiple=True,
                default=("image", "model"),
            ),
            _k(50),
        ),
        words="train/ --generator beta-vae --n 5000",
        more=f"{RETRAINS} "
        "The study leaves out the images that each method names, random images, or the nearest "
        "pixels. --seeds counts the draws of random images.",
    ),
    Study(
        "planted",
        _planted,
        m=200,
        options=(_k(50), option("--owners", "Number of owners that share TRAIN.", default=5)),
        words="train/ --n 5000",
        more="The study makes its generated images of TRAIN: altered copies, mixtures of two "
        "images, and sets of which each owner has a known share. TRAIN needs no labels.",
    ),
    Study(
        "audit",
        _audit,
        options=(
            option("--innocents", "Number of images of --held-out to audit.", default=500),
            FALSE_ALARMS,
        ),
        words="train/ --held-out test/",
        more="The study makes copies of TRAIN; the images of --held-out are no copies. TRAIN "
        "needs no labels.",
    ),
    Study(
        "strangers",
        _strangers,
        m=1_000,
        options=(option("--level", "Error rate of the test.", default=0.02),),
        words="train/ --held-out test/ --generated photos=photos/",
        more="The study tests noise, images of other kinds or drawn by a generator (--generated), "
        "images of TRAIN, and images of TRAIN's kind that are not in it (--held-out). No labels "
        "are needed.",
    ),
)


PURPOSES = {
    "All of the paper": ("all",),
    "Criteria of the paper": ("c1", "c2", "c3", "c4"),
    "Appendices D to I": ("two-subsets", "images-needed", "encoders", "distances", "calibration"),
    "Appendices O and P": ("growth", "pq"),
    "Truth": ("lds", "spaces", "counterfactual", "planted"),
    "Parts of this program": ("temperature", "audit", "strangers"),
}


@click.group(
    cls=Purposes,
    purposes=PURPOSES,
    epilog=example("evaluate c1 train/ --generator gan --conditional"),
)
def evaluate() -> None:
    """Run the studies of the paper on a labelled training set.

    Each study prints its tables and writes them as JSON and Markdown, with plots. The same command,
    given again with the same --work, resumes an interrupted study.
    """


for _study in ROWS:
    evaluate.add_command(_study.command())


@evaluate.command(
    "all",
    epilog=example("evaluate all train/ --held-out test/"),
)
@options(*SHARED, _count(100))
@options(option("--only STUDY", "A study to run. Default: all studies.", multiple=True), *PRINTING)
def everything(only: tuple[str, ...], **arguments: Any) -> None:
    """Run every study of the paper.

    The settings are those of docs/reproduction.md. Without --generator the command trains a
    conditional beta-vae, gan and ddpm. Results are named STUDY_TRAIN-NAME.
    """
    from gmvaluator.evaluation.reproduction import RECIPES, reproduce

    data = arguments["train_name"] or Path(arguments["train"]).name
    study = Study("all", _simple, default_name=f"all_{data}")
    defaults = {"generators": arguments["generators"] or RECIPES, "valuers": ()}
    for result in reproduce(Request(study, arguments | defaults).setup(), only):
        result.save(arguments["out"])
        print_result(result.as_json(), result.as_text() + "\n", as_json=arguments["as_json"])
