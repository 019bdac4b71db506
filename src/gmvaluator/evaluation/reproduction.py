"""Every study of the paper with one call, for `docs/reproduction.md`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from gmvaluator.certainty.tables import StudyResult, Table, grid
from gmvaluator.errors import InputError
from gmvaluator.evaluation.checks import check_study
from gmvaluator.evaluation.planted.noise import N_NOISED, SIGMA, NoisedSet
from gmvaluator.evaluation.setup import Setup
from gmvaluator.evaluation.studies import two_subsets as two_subsets_study
from gmvaluator.evaluation.studies.calibration import calibration
from gmvaluator.evaluation.studies.efficiency import efficiency, growth, usual_sizes
from gmvaluator.evaluation.studies.identical_class import KS, UNCONDITIONAL, identical_class
from gmvaluator.evaluation.studies.images_needed import images_needed, ladder
from gmvaluator.evaluation.studies.index_choice import INDEXES, index_choice
from gmvaluator.evaluation.studies.out_of_distribution import out_of_distribution
from gmvaluator.evaluation.studies.temperature import temperature
from gmvaluator.evaluation.study import Context
from gmvaluator.evaluation.subjects.recipes import Recipe
from gmvaluator.evaluation.valuers import (
    distance_valuers,
    encoder_valuers,
    judged_by,
    named_valuer,
    usable,
    variant,
)

# The generators of the paper on MNIST. Labels of their images are known by construction.
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "beta-vae": Recipe("beta-vae", 8_000, {"beta": 4, "latent": 32}, conditional=True),
        "gan": Recipe("gan", 20_000, {"ema": 0.999, "truncation": 1}, conditional=True),
        "ddpm": Recipe("ddpm", 8_000, {"guidance": 2}, conditional=True),
    }
)
# for studies that draw thousands of images: a diffusion model needs minutes for each thousand
QUICK_GENERATORS = ("beta-vae", "gan")
CLASS_VALUERS = (
    "default",
    "no-rerank",
    "l2",
    "st-lpips",
    "low-pass",
    "low-pass-mix",
    "nearest-pixel",
    "random",
)
COSTED_VALUERS = ("no-rerank", "l2", "st-lpips", "default", "low-pass")
NOISED_VALUERS = ("no-rerank", "l2", "default", "low-pass", "low-pass-mix")
MANY = 10_000
CANDIDATES = 1_000
NOISED_KS = (50, 200, 1_000)
SOME = 2_000
# of noised generated images: Figure 8's many, and so few that noised training images can rank low
MIXED_SHARES = (0.2, 0.005)
FEW = 1_000
HALF = 300
# the test needs memorising: small halves, seen hundreds of times, and no guidance
SUBSET_RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "ddpm": Recipe("ddpm", 3_000, {"guidance": 1, "warmup": 100}, conditional=True),
        "beta-vae": Recipe(
            "beta-vae", 8_000, {"beta": 1, "latent": 16, "hidden": "512,512"}, conditional=True
        ),
    }
)
SUBSET_K = 5


def reproduce(setup: Setup, only: Sequence[str] = ()) -> Iterator[StudyResult]:
    """Run the studies one after the other. A run of all studies ends with a table of minutes.

    Args:
        setup: training set, generators and held-out images. Each study has its own valuers.
        only: names of studies. Default: all.

    Raises:
        InputError: a study is unknown, or its inputs cannot be used (`checks`).
    """
    if unknown := set(only) - set(STUDIES):
        raise InputError(f"no study {unknown.pop()}; choose from {', '.join(STUDIES)}")
    for name, checked, options in _inputs(setup):
        if not only or name in only:
            check_study(name.replace("_", "-"), checked, options)
    n_kept = setup.work.pieces()
    minutes: dict[str, float] = {}
    for name, study in STUDIES.items():
        if not only or name in only:
            start = time.perf_counter()
            result = study(setup)
            minutes[name] = (time.perf_counter() - start) / 60
            yield replace(result, name=f"{name}_{setup.train_name}")
    if not only:
        yield _times(setup, minutes, n_kept)


def _inputs(setup: Setup) -> Iterator[tuple[str, Setup, dict[str, Any]]]:
    """By study, the setup and the options that it works with, for checks."""
    noised = {"noised": N_NOISED, "sigma": SIGMA}
    yield from ((name, setup, {"k": KS}) for name in ("c1", "encoders", "distances"))
    yield "c3", _quick(setup, MANY), noised | {"k": NOISED_KS}
    for share in MIXED_SHARES:
        yield "calibration", _quick(setup, SOME), noised | {"k": 50, "share": share}
    yield "temperature", _quick(setup, SOME), noised | {"k": 100}
    halves = replace(setup, m=SOME, generated={})
    yield "two_subsets", halves, {"k": SUBSET_K, "half": HALF, "steps": None}
    yield "images_needed", _quick(setup, MANY), {"k": 50, "ms": ladder(MANY)}
    yield "pq", _quick(setup, FEW), {"k": 50, "indexes": INDEXES}
    yield "c4", replace(_quick(setup, MANY), seeds=1), {"k": 50}
    yield "growth", replace(_quick(setup, FEW), seeds=1), {"k": 50, "sizes": ()}


def _times(setup: Setup, minutes: Mapping[str, float], n_kept: int) -> StudyResult:
    total = sum(minutes.values())
    rows = [*minutes.items(), ("all", total)]
    note = (
        "From an empty working folder; training the generators is part of the study that first "
        "asks for them."
        if not n_kept
        else f"Not from the start: {n_kept} pieces were kept from an earlier run."
    )
    return StudyResult(
        name=f"all_{setup.train_name}",
        title="What the studies took",
        tables=(Table("Minutes", ("study", "minutes"), grid(rows), digits=1),),
        parameters={"train": setup.train_name, "n_train": len(setup.train), "kept_pieces": n_kept},
        notes=(note,),
    )


def _classes(setup: Setup) -> StudyResult:
    valuers = [named_valuer(name) for name in CLASS_VALUERS]
    return identical_class(_both_kinds(setup).context(valuers=valuers))


def _encoders(setup: Setup) -> StudyResult:
    able, notes = usable(encoder_valuers())
    context = setup.context(valuers=able)
    return identical_class(context, title="Encoders (Appendix G)", notes=notes)


def _distances(setup: Setup) -> StudyResult:
    able, notes = usable(distance_valuers())
    context = setup.context(valuers=able)
    return identical_class(context, title="Distances (Appendix H)", notes=notes)


def _noised(setup: Setup) -> StudyResult:
    context, planted = _planted(setup, MANY)
    return out_of_distribution(context, planted, NOISED_KS)


def _calibration(setup: Setup) -> StudyResult:
    quick = _varied(_quick(setup, SOME))
    planted = quick.plant(N_NOISED, SIGMA)
    valuers = [named_valuer(name) for name in ("default", "no-rerank", "low-pass")]
    if setup.held_out is not None:
        named = [named_valuer(name) for name in ("default", "low-pass")]
        valuers += [judged_by(valuer, setup.held_out) for valuer in named]
    results = []
    for share in MIXED_SHARES:
        context, mixed = quick.mixed(planted, share, SIGMA)
        results.append(calibration(replace(context, valuers=valuers), mixed, planted))
    tables = tuple(table for result in results for table in result.tables)
    return replace(
        results[0],
        tables=tables,
        parameters=results[0].parameters
        | {"noised_generated": [result.parameters["noised_generated"] for result in results]},
        details={"shares": [result.details for result in results]},
    )


def _temperature(setup: Setup) -> StudyResult:
    context, planted = _planted(setup, SOME)
    return temperature(context, planted)


def _efficiency(setup: Setup) -> StudyResult:
    quick = replace(_first(_quick(setup, MANY)), seeds=1)
    return efficiency(quick.context(valuers=[named_valuer(name) for name in COSTED_VALUERS]))


def _two_subsets(setup: Setup) -> StudyResult:
    quick = replace(setup, m=SOME)
    valuers = [named_valuer(name) for name in ("default", "no-rerank", "nearest-pixel")]
    context = quick.context(subjects=False, valuers=valuers)
    return two_subsets_study.two_subsets(context, SUBSET_RECIPES, HALF, SUBSET_K)


def _images_needed(setup: Setup) -> StudyResult:
    context = _quick(setup, MANY).context(valuers=[named_valuer("default")])
    return images_needed(context, ladder(MANY))


def _growth(setup: Setup) -> StudyResult:
    quick = replace(_first(_quick(setup, FEW)), seeds=1)
    context = quick.context(valuers=[named_valuer(name) for name in COSTED_VALUERS[:3]])
    return growth(context, usual_sizes(len(context.train)))


def _pq(setup: Setup) -> StudyResult:
    return index_choice(_quick(setup, FEW).context(valuers=[named_valuer("default")]))


def _quick(setup: Setup, m: int) -> Setup:
    """The setup with its generators among `QUICK_GENERATORS`, and with another m."""
    quick = {n: recipe for n, recipe in setup.generators.items() if n in QUICK_GENERATORS}
    generated = {} if setup.generators else setup.generated
    return replace(setup, generators=quick or setup.generators, generated=generated, m=m)


def _varied(setup: Setup) -> Setup:
    """The setup with recipes of ours that draw from untruncated codes.

    Truncation draws typical images. A test of used against unused training images needs drawings
    of all variety.
    """
    varied = {}
    for name, recipe in RECIPES.items():
        if setup.generators.get(name) == recipe:
            settings = {key: v for key, v in recipe.settings.items() if key != "truncation"}
            varied[name] = replace(recipe, settings=settings)
    return replace(setup, generators={**setup.generators, **varied})


def _both_kinds(setup: Setup) -> Setup:
    """The setup with unconditional forms of our own quick recipes added."""
    added = {
        f"{name}{UNCONDITIONAL}": replace(RECIPES[name], conditional=False)
        for name in QUICK_GENERATORS
        if setup.generators.get(name) == RECIPES[name]
    }
    return replace(setup, generators={**setup.generators, **added})


def _first(setup: Setup) -> Setup:
    """The setup with its first generator only."""
    return replace(setup, generators=dict(list(setup.generators.items())[:1]))


def _planted(setup: Setup, m: int) -> tuple[Context, NoisedSet]:
    """A training set with noised images, generators trained on it, variants."""
    quick = _varied(_quick(setup, m))
    planted = quick.plant(N_NOISED, SIGMA)
    valuers = [
        variant(name, {**named_valuer(name).settings, "candidates": CANDIDATES})
        for name in NOISED_VALUERS
    ]
    return quick.context(planted, valuers=valuers), planted


STUDIES: Mapping[str, Callable[[Setup], StudyResult]] = MappingProxyType(
    {
        "c1": _classes,
        "encoders": _encoders,
        "distances": _distances,
        "c3": _noised,
        "calibration": _calibration,
        "temperature": _temperature,
        "two_subsets": _two_subsets,
        "images_needed": _images_needed,
        "pq": _pq,
        "c4": _efficiency,
        "growth": _growth,
    }
)
