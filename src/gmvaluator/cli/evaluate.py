"""`gmvaluator evaluate`: one sub-command a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from gmvaluator.cli.options import PRINTING, Command, Option, options, out
from gmvaluator.errors import InputError

if TYPE_CHECKING:
    from gmvaluator.evaluation.results import StudyResult
    from gmvaluator.evaluation.setup import Setup
    from gmvaluator.evaluation.subjects.recipes import Recipe
    from gmvaluator.evaluation.valuers import NamedValuer

SHARED: tuple[Option[Any], ...] = (
    click.argument("train"),
    out("Folder of the results.", default=Path("evaluation"), show_default=True),
    click.option(
        "--generator",
        "generators",
        multiple=True,
        metavar="NAME|FILE",
        help="What is attributed: a family to train on TRAIN, or a trained file. Repeatable.",
    ),
    click.option(
        "--conditional", is_flag=True, help="Train families as class-conditional where they can."
    ),
    click.option(
        "--generated",
        multiple=True,
        metavar="NAME=SET",
        help="A labelled set to draw from instead, such as real test images. Repeatable.",
    ),
    click.option("--held-out", help="Labelled images to measure the classifier on."),
    click.option(
        "--valuer",
        "valuers",
        multiple=True,
        metavar="NAME",
        help="default, no-rerank, l2, st-lpips, nearest-pixel, nda, trak, random, … Repeatable.",
    ),
    click.option(
        "--valuers",
        "valuers_file",
        type=click.Path(path_type=Path),
        help="More valuers, described in a TOML file: a table a valuer.",
    ),
    click.option("--seeds", type=int, default=3, show_default=True, help="Repetitions."),
    click.option("--n", type=int, help="Training images, a random subset (all)."),
    click.option(
        "--work",
        type=click.Path(path_type=Path),
        default=Path("evaluation-work"),
        show_default=True,
        help="Folder for generators, samples and finished pieces; the next run goes on from it.",
    ),
    click.option("--name", help="Name of the result files (the study's)."),
    click.option("--train-name", help="What tables call TRAIN (its file or folder name)."),
)
PLANTED = (
    click.option(
        "--noised", type=int, default=100, show_default=True, help="Noised training images added."
    ),
    click.option("--sigma", type=float, default=0.8, show_default=True, help="Their noise."),
)


def _shared(m: int) -> Callable[[Command], Command]:
    """What every study takes, with its number of generated images a repetition."""
    images = click.option(
        "--m", type=int, default=m, show_default=True, help="Generated images a repetition."
    )
    return options(*SHARED, images)


def _k(default: int) -> Option[Any]:
    return click.option(
        "--k", type=int, default=default, show_default=True, help="Contributors an image."
    )


def _several_k(*defaults: int) -> Option[Any]:
    return click.option(
        "--k",
        "ks",
        type=int,
        multiple=True,
        default=defaults,
        show_default=True,
        help="Contributors an image. Repeatable.",
    )


@click.group()
def evaluate() -> None:
    """Run the studies of the paper on any labelled training set.

    Each prints its tables and writes them as JSON and Markdown, with plots. A study that was
    interrupted goes on where it stopped when it is started again with the same --work.
    """


@evaluate.command()
@_shared(100)
@options(_several_k(30, 50, 100), *PRINTING)
def c1(ks: tuple[int, ...], **options: Any) -> None:
    """Identical class test: do contributors have the class of the generated image?"""
    from gmvaluator.evaluation.studies.identical_class import identical_class

    setup = _setup(options)
    _finish(identical_class(setup.context(), ks, name=options["name"] or "c1"), options)


@evaluate.command()
@_shared(100)
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    required=True,
    metavar="COLUMN",
    help="Column of the manifest TRAIN. Repeatable.",
)
@click.option(
    "--combination",
    "combinations",
    multiple=True,
    metavar="A+B",
    help="Attributes that must agree together (every pair, and all). Repeatable.",
)
@options(_several_k(5, 10, 15), *PRINTING)
def c2(
    attributes: tuple[str, ...], combinations: tuple[str, ...], ks: tuple[int, ...], **options: Any
) -> None:
    """Identical attributes test: do contributors share the generated image's attributes?"""
    from gmvaluator.evaluation.studies.identical_attributes import identical_attributes

    context = _setup(options).context()
    chosen = [text.split("+") for text in combinations] or None
    name = options["name"] or "c2"
    _finish(identical_attributes(context, attributes, ks, chosen, name=name), options)


@evaluate.command()
@_shared(10_000)
@options(_several_k(50), *PLANTED, *PRINTING)
def c3(ks: tuple[int, ...], noised: int, sigma: float, **options: Any) -> None:
    """Out-of-distribution detection: do noised training images rank low?"""
    from gmvaluator.evaluation.studies.out_of_distribution import out_of_distribution

    setup = _setup(options)
    planted = setup.plant(noised, sigma)
    context = setup.context(planted)
    _finish(out_of_distribution(context, planted, ks, name=options["name"] or "c3"), options)


@evaluate.command()
@_shared(100)
@options(_several_k(30, 50, 100), *PRINTING)
def encoders(ks: tuple[int, ...], **options: Any) -> None:
    """Appendix G: the identical class test, an encoder a row, without re-rank."""
    from gmvaluator.evaluation.valuers import encoder_valuers

    _compare_classes(encoder_valuers(), ks, "Encoders (Appendix G)", "encoders", options)


@evaluate.command()
@_shared(100)
@options(_several_k(30, 50, 100), *PRINTING)
def distances(ks: tuple[int, ...], **options: Any) -> None:
    """Appendix H: the identical class test, a re-rank distance a row."""
    from gmvaluator.evaluation.valuers import distance_valuers

    _compare_classes(distance_valuers(), ks, "Distances (Appendix H)", "distances", options)


@evaluate.command()
@_shared(100)
@options(_k(50), *PRINTING)
def c4(k: int, **options: Any) -> None:
    """Efficiency: seconds by stage, everything computed anew."""
    from gmvaluator.evaluation.studies.efficiency import efficiency

    _finish(efficiency(_setup(options).context(), k, name=options["name"] or "c4"), options)


@evaluate.command("two-subsets")
@_shared(1_000)
@click.option("--half", type=int, default=500, show_default=True, help="Images in each half.")
@click.option("--steps", type=int, help="Training steps of the generators (their own).")
@options(_k(50), *PRINTING)
def two_subsets(half: int, steps: int | None, k: int, **options: Any) -> None:
    """Appendix D: are images that the generator saw valued higher than others?

    Each --generator is a family; it is trained anew on the used half for each seed.
    """
    from gmvaluator.evaluation.studies import two_subsets as study

    if options["generated"]:
        raise InputError("two-subsets trains its generators; pass --generator NAME, no --generated")
    setup = _setup(options)
    recipes = {name: replace(each, steps=steps) for name, each in setup.recipes().items()}
    context = setup.context(subjects=False)
    name = options["name"] or "two_subsets"
    _finish(study.two_subsets(context, recipes, half, k, name=name), options)


@evaluate.command("images-needed")
@_shared(10_000)
@click.option("--at", "ms", type=int, multiple=True, help="Numbers to look at (10 … m).")
@options(_k(50), *PRINTING)
def images_needed(ms: tuple[int, ...], k: int, **options: Any) -> None:
    """Appendix F: how values settle as more images are generated."""
    from gmvaluator.evaluation.studies import images_needed as study

    chosen = sorted(ms) or study.ladder(options["m"])
    context = _setup(options).context()
    name = options["name"] or "images_needed"
    _finish(study.images_needed(context, chosen, k, name=name), options)


@evaluate.command()
@_shared(2_000)
@click.option("--share", type=float, default=0.2, show_default=True, help="Noised generated.")
@options(*PLANTED, _k(50), *PRINTING)
def calibration(share: float, noised: int, sigma: float, k: int, **options: Any) -> None:
    """Appendix I: what the quality of generated images changes when some are bad."""
    from gmvaluator.evaluation.studies import calibration as study

    setup = _setup(options)
    planted = setup.plant(noised, sigma)
    context, mixed = setup.mixed(planted, share, sigma)
    name = options["name"] or "calibration"
    _finish(study.calibration(context, mixed, planted, k, name=name), options)


@evaluate.command()
@_shared(2_000)
@options(*PLANTED, _k(100), *PRINTING)
def temperature(noised: int, sigma: float, k: int, **options: Any) -> None:
    """How every criterion moves with the temperature of the softmax."""
    from gmvaluator.evaluation.studies import temperature as study

    setup = _setup(options)
    planted = setup.plant(noised, sigma)
    name = options["name"] or "temperature"
    _finish(study.temperature(setup.context(planted), planted, k, name=name), options)


@evaluate.command()
@_shared(1_000)
@click.option("--size", "sizes", type=int, multiple=True, help="Training images (1,000 … all).")
@options(_k(50), *PRINTING)
def growth(sizes: tuple[int, ...], k: int, **options: Any) -> None:
    """Appendix O: seconds by stage as the training set grows."""
    from gmvaluator.evaluation.studies import efficiency as study

    context = _setup(options).context()
    n = len(context.train)
    chosen = sorted(sizes) or [*(size for size in (1_000, 5_000, 20_000) if size < n), n]
    _finish(study.growth(context, chosen, k, name=options["name"] or "growth_n"), options)


@evaluate.command()
@_shared(1_000)
@click.option(
    "--index",
    "indexes",
    multiple=True,
    default=("exact", "pq", "ivfpq"),
    show_default=True,
    help="An index to compare. Repeatable.",
)
@options(_k(50), *PRINTING)
def pq(indexes: tuple[str, ...], k: int, **options: Any) -> None:
    """Appendix P: product quantization against exact search, in time and in result."""
    from gmvaluator.evaluation.studies.index_choice import index_choice

    context = _setup(options).context()
    _finish(index_choice(context, indexes, k, name=options["name"] or "pq"), options)


@evaluate.command()
@_shared(100)
@click.option("--subsets", type=int, default=64, show_default=True, help="Random halves of TRAIN.")
@options(_k(200), *PRINTING)
def lds(subsets: int, k: int, **options: Any) -> None:
    """Counterfactual truth: do scores foretell what retraining on random halves does?

    Each --generator is a family; it is trained anew, small and unconditional, --seeds times on each
    of the halves, single-threaded and side by side. Needs no labels.
    """
    from gmvaluator.evaluation.studies import lds as study

    setup, recipes = _retrained(options, "lds")
    context = setup.context(subjects=False)
    _finish(study.lds(context, recipes, subsets, k, name=options["name"] or "lds"), options)


@evaluate.command()
@_shared(100)
@click.option("--subsets", type=int, default=64, show_default=True, help="Random halves of TRAIN.")
@options(_k(200))
@click.option(
    "--space",
    "names",
    multiple=True,
    metavar="SPACE",
    help="An encoder's name, pca:64@28, pca:64:whitened@28, generator#code or another layer, or a "
    "mixture, 'pixels@28 + 0.5 * generator#code'. Repeatable (two dozen of them).",
)
@options(*PRINTING)
def spaces(subsets: int, k: int, names: tuple[str, ...], **options: Any) -> None:
    """The right space: which representations foretell what retraining does?

    As lds, on the same retrained models where they are in --work: each space with the weights of
    Eq. 6 and with global-ridge.
    """
    from gmvaluator.evaluation.representations import default_spaces
    from gmvaluator.evaluation.studies import spaces as study

    if options["valuers"] or options["valuers_file"]:
        raise InputError("spaces brings its own valuers; leave --valuer and --valuers out")
    setup, recipes = _retrained(options, "spaces")
    context = setup.context(subjects=False, valuers=())
    chosen = names or default_spaces(setup.size, len(context.train))
    named = options["name"] or "spaces"
    _finish(study.spaces(context, recipes, chosen, subsets, k, name=named), options)


@evaluate.command()
@_shared(2_000)
@click.option(
    "--remove",
    "ks",
    type=int,
    multiple=True,
    default=(10, 50, 100, 500),
    show_default=True,
    help="Training images removed for a generated image. Repeatable.",
)
@click.option(
    "--images", type=int, default=10, show_default=True, help="Generated images removed for."
)
@click.option(
    "--share",
    "shares",
    type=float,
    multiple=True,
    default=(0.1, 0.3, 0.5, 0.7),
    show_default=True,
    help="Part of all training images removed by value. Repeatable.",
)
@click.option(
    "--part",
    "parts",
    type=click.Choice(["image", "model"]),
    multiple=True,
    default=("image", "model"),
    show_default=True,
    help="Remove for single generated images, or by value for the whole model. Repeatable.",
)
@click.option("--k", type=int, default=50, show_default=True, help="Contributors to sum values of.")
@options(*PRINTING)
def counterfactual(
    ks: tuple[int, ...],
    images: int,
    shares: tuple[float, ...],
    parts: tuple[str, ...],
    k: int,
    **options: Any,
) -> None:
    """Does it change the model when its most valuable training images are removed?

    Each --generator is a family; it is trained anew, small and unconditional, without the images
    that each valuer names, without random ones and without the nearest pixels. --seeds counts the
    draws of random images.
    """
    from gmvaluator.evaluation.studies import counterfactual as study

    setup, recipes = _retrained(options, "counterfactual")
    result = study.counterfactual(
        setup.context(subjects=False),
        recipes,
        ks=ks,
        images=images,
        shares=shares,
        k=k,
        real=setup.held_out,
        parts=parts,
        name=options["name"] or "counterfactual",
    )
    _finish(result, options)


@evaluate.command()
@_shared(200)
@options(_k(50))
@click.option("--owners", type=int, default=5, show_default=True, help="TRAIN is dealt among.")
@options(*PRINTING)
def planted(k: int, owners: int, **options: Any) -> None:
    """Known sources: are they found, and do scores and owners' shares tell the truth?

    Generated images are made of TRAIN, which needs no labels: copies under graded transformations,
    mixtures of two, and sets of which each owner has a known share. No --generator is needed.
    """
    from gmvaluator.evaluation.studies import planted as study

    _refuse(options, ("generators", "conditional", "generated", "held_out"))
    context = _setup(options, attributed=False).context(subjects=False)
    _finish(study.planted(context, k, owners, name=options["name"] or "planted"), options)


@evaluate.command()
@_shared(100)
@click.option("--innocents", type=int, default=500, show_default=True, help="Of --held-out.")
@click.option(
    "--false-alarms", type=float, default=0.01, show_default=True, help="That the audit asks for."
)
@options(*PRINTING)
def audit(innocents: int, false_alarms: float, **options: Any) -> None:
    """Near copies: does an audit find altered copies, and leave real held-out images alone?

    Copies are made of TRAIN, which needs no labels; --held-out names real images that are not in
    it. No --generator is needed.
    """
    from gmvaluator.audit.near_copies import CopySettings
    from gmvaluator.evaluation.studies import audit as study

    _refuse(options, ("generators", "conditional", "generated", "valuers", "valuers_file"))
    setup = _setup(options, attributed=False)
    if setup.held_out is None:
        raise InputError("audit needs innocent images; pass --held-out SET")
    context = setup.context(subjects=False, valuers=())
    result = study.audit(
        context,
        setup.held_out,
        innocents=innocents,
        settings=CopySettings(false_alarms),
        name=options["name"] or "audit",
    )
    _finish(result, options)


@evaluate.command()
@_shared(1_000)
@click.option("--level", type=float, default=0.02, show_default=True, help="Error rate allowed.")
@options(*PRINTING)
def strangers(level: float, **options: Any) -> None:
    """Images without a contributor: are strangers told, and real new images not?

    --held-out are images of TRAIN's kind that are not in it, each --generated NAME=SET is of
    another domain; noise and TRAIN's own images are tested as well. Labels are not needed.
    """
    from gmvaluator.evaluation.studies import strangers as study

    if options["generators"] or options["conditional"]:
        raise InputError("this study trains no generator; leave --generator and --conditional out")
    setup = _setup(options, attributed=False)
    context = setup.context(subjects=False)
    name = options["name"] or "strangers"
    result = study.strangers(
        context, setup.held_out, setup.generated, setup.size, level=level, name=name
    )
    _finish(result, options)


@evaluate.command("all")
@_shared(100)
@click.option("--only", multiple=True, metavar="STUDY", help="Just these studies. Repeatable.")
@options(*PRINTING)
def everything(only: tuple[str, ...], **options: Any) -> None:
    """Every study of the paper on TRAIN, with the settings of docs/reproduction.md.

    Without --generator: conditional beta-vae, gan and ddpm. Results are named STUDY_TRAIN-NAME; an
    interrupted run goes on where it stopped.
    """
    from gmvaluator.cli.printing import print_result
    from gmvaluator.evaluation.reproduction import RECIPES, reproduce

    setup = _setup(options | {"generators": options["generators"] or RECIPES, "valuers": ()})
    for result in reproduce(setup, only):
        result.save(options["out"])
        print_result(result.as_json(), result.as_text() + "\n", as_json=options["as_json"])


def _compare_classes(
    valuers: list[NamedValuer],
    ks: tuple[int, ...],
    title: str,
    name: str,
    options: dict[str, Any],
) -> None:
    from gmvaluator.evaluation.studies.identical_class import identical_class
    from gmvaluator.evaluation.valuers import usable

    if options["valuers"] or options["valuers_file"]:
        raise InputError(f"{name} brings its own valuers; leave --valuer and --valuers out")
    able, notes = usable(valuers)
    setup = _setup(options)
    context = setup.context(valuers=able)
    named = options["name"] or name
    _finish(identical_class(context, ks, name=named, title=title, notes=notes), options)


def _retrained(options: dict[str, Any], study: str) -> tuple[Setup, dict[str, Recipe]]:
    """The setup of a study that trains its generators again and again, and their recipes."""
    from gmvaluator.evaluation.subjects.recipes import QUICK_RECIPES

    if options["generated"]:
        raise InputError(f"{study} trains its generators; pass --generator NAME, no --generated")
    setup = _setup(options, recipes=QUICK_RECIPES)
    return setup, setup.recipes()


def _refuse(options: dict[str, Any], names: Sequence[str]) -> None:
    """Raise InputError for an option of what is attributed, in a study that makes that itself."""
    flags = {"generators": "--generator", "valuers": "--valuer", "valuers_file": "--valuers"}
    for name in names:
        if options[name]:
            flag = flags.get(name, f"--{name.replace('_', '-')}")
            raise InputError(f"this study makes its generated images of TRAIN; leave {flag} out")


def _setup(
    options: dict[str, Any],
    *,
    attributed: bool = True,
    recipes: Mapping[str, Recipe] = MappingProxyType({}),
) -> Setup:
    """What the shared options ask for; nothing is trained yet."""
    from gmvaluator.evaluation.setup import Setup
    from gmvaluator.progress import as_progress

    return Setup.open(
        train=options["train"],
        generators=options["generators"],
        recipes=recipes,
        conditional=options["conditional"],
        generated=dict(_named(text) for text in options["generated"]),
        held_out=options["held_out"],
        valuers=options["valuers"] or (() if options["valuers_file"] else ("default",)),
        valuers_file=options["valuers_file"],
        seeds=options["seeds"],
        m=options["m"],
        n=options["n"],
        work=options["work"],
        train_name=options["train_name"],
        attributed=attributed,
        progress=as_progress(not options["quiet"] and not options["as_json"]),
    )


def _named(text: str) -> tuple[str, str]:
    name, separator, source = text.partition("=")
    if not (name and separator and source):
        raise InputError(f"--generated {text!r} cannot be read; write --generated NAME=SET")
    return name, source


def _finish(result: StudyResult, options: dict[str, Any]) -> None:
    from gmvaluator.cli.printing import print_result

    files = result.save(options["out"])
    text = f"{result.as_text()}\n\nsaved in {', '.join(str(file) for file in files)}"
    print_result(result.as_json(), text, as_json=options["as_json"])
