"""What can be known before a study works: a study that must fail fails at once.

`CHECKS` has the checks of each study. A check reads the opened sets, the valuers and the options,
and raises before anything is trained, drawn or embedded. The functions of `studies` check what
they take as well, since they are called from Python too.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gmvaluator.audit.calibration import LEAST_TRAIN
from gmvaluator.audit.near_copies import CopySettings
from gmvaluator.errors import InputError, MissingPackageError
from gmvaluator.evaluation.named import SAME_CLASS, SCORES, NamedValuer
from gmvaluator.evaluation.planted.makers import check_owners, n_in_style
from gmvaluator.evaluation.planted.noise import check_noised
from gmvaluator.evaluation.representations import Space, at_hand, default_spaces
from gmvaluator.evaluation.scores_file import ScoresValuer
from gmvaluator.evaluation.setup import Setup
from gmvaluator.evaluation.studies.audit import check_innocents
from gmvaluator.evaluation.studies.calibration import check_share
from gmvaluator.evaluation.studies.counterfactual_image import check_removals
from gmvaluator.evaluation.studies.counterfactual_model import check_shares
from gmvaluator.evaluation.studies.efficiency import check_sizes, usual_sizes
from gmvaluator.evaluation.studies.identical_attributes import attribute_groups
from gmvaluator.evaluation.studies.images_needed import check_numbers, ladder
from gmvaluator.evaluation.studies.index_choice import check_indexes
from gmvaluator.evaluation.studies.lds import check_readers, check_saving, labels_of, models_of
from gmvaluator.evaluation.studies.planted import check_planted
from gmvaluator.evaluation.studies.strangers import check_held_out
from gmvaluator.evaluation.studies.two_subsets import split_in_two
from gmvaluator.evaluation.study import (
    check_ks,
    check_seeds,
    check_temperature,
    check_weighted,
)
from gmvaluator.evaluation.subjects.attributes import carried_attributes, known_attributes
from gmvaluator.evaluation.subjects.recipes import Recipe
from gmvaluator.evaluation.truth.datamodeling import check_repetitions
from gmvaluator.evaluation.truth.groups import groups_of
from gmvaluator.evaluation.truth.likeness import check_numbers as check_compared
from gmvaluator.evaluation.truth.retraining import check_unconditional
from gmvaluator.evaluation.truth.truth_file import TruthFile
from gmvaluator.evaluation.valuers import IF4GAN
from gmvaluator.generators import generator_class
from gmvaluator.images.pixels import known_labels
from gmvaluator.samplers import load_sampler
from gmvaluator.versions import how_to_install

Options = Mapping[str, Any]
"""Options of the study's command by the names of its parameters: `k`, `subsets`, `noised`, …"""
Check = Callable[[Setup, Options], None]


def check_study(study: str, setup: Setup, options: Options) -> None:
    """Raise an error that the study would raise later.

    Args:
        study: name in `studies.STUDIES`.
        setup: the opened inputs.
        options: of the study's command.

    Raises:
        InputError: an input or an option cannot be used.
        MissingPackageError, MissingWeightsError: of a valuer, or of the study itself.
        RunError: a generator file is damaged.
    """
    for check in CHECKS[study]:
        check(setup, options)


def check_truths(
    setup: Setup, truths: Sequence[TruthFile], models: Sequence[Path], options: Options
) -> None:
    """Raise an error that `studies.lds.lds_of_truths` would raise later.

    Args:
        setup: the opened inputs. Its training images are those of the truths, in their order.
        truths: loaded truths.
        models: files of the truths' models.
        options: of the study's command.

    Raises:
        InputError: an input or an option cannot be used.
        MissingPackageError, MissingWeightsError: of a valuer.
    """
    labels_of(truths)
    _no_labels(setup)
    _judged(setup)
    models_of(truths, models)
    check_readers(setup.valuers, models)
    for valuer in _of_files(setup.valuers):
        if len(truths) != 1:
            raise InputError(
                f"{valuer.file} has the scores of one generator's images; pass one --truth"
            )
        valuer.check(setup.train, len(truths[0].images), truths[0].image_ids)
    _contributors(setup, options)


def _classes(setup: Setup, options: Options) -> None:
    """Every image has a class, which studies compare or a classifier learns."""
    del options
    sets = {"training images": setup.train}
    sets |= {f"images of {name}": images for name, images in setup.generated.items()}
    if setup.held_out is not None:
        sets["held-out images"] = setup.held_out
    classes = len({str(label) for label in known_labels(setup.train, "training images")})
    for what, images in sets.items():
        known_labels(images, what)
    if classes < 2:
        raise InputError("the training images are of one class; pass images of two classes or more")


def _drawn(setup: Setup, options: Options) -> None:
    """Each set has m images, each generator file opens, each recipe has the labels it needs."""
    del options
    for name, images in setup.generated.items():
        if setup.m > len(images):
            raise InputError(
                f"m={setup.m} exceeds the {len(images)} images of {name}; pass --m {len(images)} "
                "or less"
            )
    for generator in setup.generators.values():
        if isinstance(generator, Path):
            load_sampler(generator)
        elif generator.conditional or _always_conditional(generator):
            known_labels(setup.train, "training images")


def _retrained(setup: Setup, options: Options) -> None:
    """Generators that are trained again and again, and what valuers can say of their images."""
    for name, recipe in setup.recipes().items():
        check_unconditional(name, recipe)
        # a diffusion model whose labels are all hidden has no classes
        if _always_conditional(recipe) and recipe.settings.get("label_dropout") != 1:
            raise InputError(f"{name} learns classes, which would tell what images cannot")
    _drawn(setup, options)
    _no_labels(setup)


def _no_labels(setup: Setup) -> None:
    if any(valuer.settings.get("valuer") == SAME_CLASS for valuer in setup.valuers):
        raise InputError(
            "same-class goes by labels, which these generated images have none of; leave it out"
        )


def _always_conditional(recipe: Recipe) -> bool:
    return generator_class(recipe.family).config_class.always_conditional


def _contributors(setup: Setup, options: Options, n: int | None = None) -> None:
    """k is within the n training images, and what the valuers need is on this machine."""
    ks = (options["k"],) if isinstance(options["k"], int) else tuple(options["k"])
    n = len(setup.train) if n is None else n
    check_ks(ks)
    if max(ks) > n:
        raise InputError(f"k={max(ks)} exceeds the {n} training images; pass k ≤ {n} (--k)")
    for valuer in setup.valuers:
        if valuer.bind is None:
            made: Any = valuer.make(max(ks), 0)
            if hasattr(made, "require"):
                made.require()
        if valuer.settings.get("valuer") == SAME_CLASS and setup.train.labels is not None:
            label, fewest = Counter(setup.train.labels).most_common()[-1]
            if fewest < max(ks):
                raise InputError(
                    f"same-class draws {max(ks)} images of a class, and class {label} has "
                    f"{fewest}; pass a smaller --k or more training images"
                )


def _readers(setup: Setup, options: Options) -> None:
    """A valuer that reads generators can read one of them."""
    del options
    for valuer in setup.valuers:
        if valuer.bind and not any(_reads(valuer, g) for g in setup.generators.values()):
            valuer.make(1, 0)  # raises an error that names the right generators


def _reads(valuer: NamedValuer, generator: Recipe | Path) -> bool:
    if isinstance(generator, Path):
        return valuer.suited(generator) is not None
    return generator.family in valuer.families and not valuer.by_snapshots


def _own_scores(setup: Setup, options: Options) -> None:
    """A file of scores is of the study's only generated images, in their order."""
    del options
    for valuer in _of_files(setup.valuers):
        if setup.generators or len(setup.generated) != 1:
            raise InputError(
                f"{valuer.file} has the scores of one set of images; pass one --generated "
                "NAME=SET and no --generator"
            )
        (images,) = setup.generated.values()
        if setup.m != len(images):
            raise InputError(
                f"{valuer.file} has the scores of all {len(images)} generated images, and the "
                f"study draws {setup.m} of them; pass --m {len(images)}"
            )
        valuer.check(setup.train, setup.m, images.ids)


def _own_scores_of_drawings(setup: Setup, options: Options) -> None:
    """A file of scores is of the m images that the only generator will have drawn."""
    del options
    for valuer in _of_files(setup.valuers):
        if len(setup.generators) != 1:
            raise InputError(
                f"{valuer.file} has the scores of one generator's images; pass one --generator"
            )
        valuer.check(setup.train, setup.m)


def _no_own_scores(setup: Setup, options: Options) -> None:
    del options
    for valuer in _of_files(setup.valuers):
        raise InputError(
            f"{valuer.file} has the scores of certain images, and this study makes its images; "
            "files of scores are for c1, c2, images-needed and lds"
        )


def _of_files(valuers: Iterable[NamedValuer]) -> list[ScoresValuer]:
    made = [v.make(1, 0) for v in valuers if v.settings.get("valuer") == SCORES]
    return [valuer for valuer in made if isinstance(valuer, ScoresValuer)]


def _attributes(setup: Setup, options: Options) -> None:
    attributes = options["attributes"]
    combined = [text.split("+") for text in options["combinations"]] or None
    attribute_groups(attributes, combined)
    known_attributes(setup.train, attributes, "training images")
    for images in setup.generated.values():
        carried_attributes(images, setup.train, attributes)


def _noised(setup: Setup, options: Options) -> None:
    n, noised = len(setup.train), options["noised"]
    check_noised(n, noised, options["sigma"])
    _contributors(setup, options, n + noised)


def _calibration(setup: Setup, options: Options) -> None:
    check_share(options["share"])
    check_weighted(setup, "quality")
    check_temperature(setup)


def _temperature(setup: Setup, options: Options) -> None:
    del options
    check_weighted(setup, "temperature")
    check_temperature(setup)


def _halves(setup: Setup, options: Options) -> None:
    split_in_two(setup.train, options["half"], 0)
    _contributors(setup, options, 2 * options["half"])
    setup.recipes()
    if options["half"] < 2:
        raise InputError("--half 1 leaves a t-test without a spread; pass 2 or more")
    if options["steps"] is not None and options["steps"] < 1:
        raise InputError(f"steps={options['steps']}; pass steps ≥ 1")
    if importlib.util.find_spec("sklearn") is None:
        raise MissingPackageError(
            f"two-subsets draws a picture with scikit-learn: {how_to_install('evaluate')}"
        )


def _draws(setup: Setup, options: Options) -> None:
    check_seeds(setup, 2, "values are compared between draws")
    check_numbers(sorted(options["ms"]) or ladder(setup.m), setup.m)


def _sizes(setup: Setup, options: Options) -> None:
    sizes = sorted(options["sizes"]) or usual_sizes(len(setup.train))
    check_sizes(sizes, len(setup.train))
    _contributors(setup, options, sizes[0])


def _indexes(setup: Setup, options: Options) -> None:
    check_indexes(setup, options["indexes"])


def _lds(setup: Setup, options: Options) -> None:
    by, file = options["by"], options["save_truth"]
    groups = None if by is None else groups_of(setup.train, by)
    check_repetitions(setup, options["subsets"], groups)
    if file is not None:
        check_saving(file, setup.recipes())
    judged = _judged(setup)
    if all(valuer.bind for valuer in judged):
        _readers(replace(setup, valuers=[_with_snapshots(valuer) for valuer in judged]), options)


def _judged(setup: Setup) -> list[NamedValuer]:
    judged = [valuer for valuer in setup.valuers if valuer.settings.get("valuer") != IF4GAN]
    if not judged:
        raise InputError("if4gan does not score single images; pass another --valuer to judge")
    return judged


def _with_snapshots(valuer: NamedValuer) -> NamedValuer:
    """The valuer as it is where the study keeps the snapshots of its trainings."""
    return replace(valuer, by_snapshots=False)


def _spaces(setup: Setup, options: Options) -> None:
    check_repetitions(setup, options["subsets"])
    names = options["names"] or default_spaces(setup.size, len(setup.train))
    able, missing = at_hand([Space.parse(text) for text in dict.fromkeys(names)])
    if not able:
        raise InputError(f"no space is left. {' '.join(missing)}")
    families = {recipe.family for recipe in setup.recipes().values()}
    if not any(space.suits(family) for space in able for family in families):
        raise InputError(
            f"no generator has the layers of {', '.join(space.name for space in able)}; pass "
            "other spaces"
        )


def _removals(setup: Setup, options: Options) -> None:
    n = len(setup.train)
    if "image" in options["parts"]:
        check_removals(n, sorted(options["ks"]), options["images"])
        _contributors(setup, {"k": options["ks"]})
    if "model" in options["parts"]:
        check_shares(n, sorted(options["shares"]))
        real = setup.train if setup.held_out is None else setup.held_out
        check_compared(len(real), setup.m)


def _sources(setup: Setup, options: Options) -> None:
    n, owners = len(setup.train), options["owners"]
    check_planted(setup, options["k"])
    check_owners(n, owners)
    if 2 * setup.m > n:
        raise InputError(
            f"m={setup.m} mixtures are of {2 * setup.m} training images, and there are {n}; pass "
            f"--m {n // 2} or less"
        )
    _contributors(setup, options, n_in_style(n, setup.m, owners))


def _audited(setup: Setup, options: Options) -> None:
    false_alarms = CopySettings(options["false_alarms"]).false_alarms
    if setup.held_out is None:
        raise InputError("audit needs innocent images; pass --held-out SET")
    check_innocents(options["innocents"], len(setup.held_out), false_alarms)
    n = len(setup.train)
    if n < max(LEAST_TRAIN, setup.m):
        raise InputError(
            f"m={setup.m} copies are made of {n} training images; pass --m {n} or less, and at "
            f"least {LEAST_TRAIN} training images"
        )


def _strangers(setup: Setup, options: Options) -> None:
    check_held_out(setup, setup.held_out, options["level"])
    for valuer in setup.valuers:
        valuer.make(1, 0).require()  # type: ignore[attr-defined]  # of GMValuator: no baseline


_LABELLED: tuple[Check, ...] = (_classes, _drawn, _readers)
_GIVEN = (*_LABELLED, _contributors, _own_scores)
_PLANTED_NOISE = (*_LABELLED, _no_own_scores, _noised)
CHECKS: Mapping[str, Sequence[Check]] = MappingProxyType(
    {
        "c1": _GIVEN,
        "c2": (*_GIVEN, _attributes),
        "c3": _PLANTED_NOISE,
        "c4": (*_LABELLED, _no_own_scores, _contributors),
        "encoders": (*_LABELLED, _contributors),
        "distances": (*_LABELLED, _contributors),
        "two-subsets": (_drawn, _readers, _no_own_scores, _halves),
        "images-needed": (*_GIVEN, _draws),
        "calibration": (*_PLANTED_NOISE, _calibration),
        "temperature": (*_PLANTED_NOISE, _temperature),
        "growth": (*_LABELLED, _no_own_scores, _sizes),
        "pq": (*_LABELLED, _indexes, _contributors),
        "lds": (_retrained, _contributors, _own_scores_of_drawings, _lds),
        "spaces": (_retrained, _contributors, _spaces),
        "counterfactual": (_retrained, _no_own_scores, _contributors, _removals),
        "planted": (_no_own_scores, _sources),
        "audit": (_audited,),
        "strangers": (_strangers,),
    }
)
"""Checks by study, in their order."""
