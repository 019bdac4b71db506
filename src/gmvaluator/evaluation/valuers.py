"""Valuers by name: variants of GMValuator, baselines, and valuers of a user's TOML file."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError, MissingPackageError, MissingWeightsError
from gmvaluator.evaluation.gradient_valuers import trak, vae_tracin
from gmvaluator.evaluation.named import (
    SCORES,
    TRACIN,
    TRIVIAL,
    NamedValuer,
    Valuer,
    check_settings,
)
from gmvaluator.evaluation.scores_file import scores_valuer
from gmvaluator.images import ImageSet
from gmvaluator.settings import PRESETS, SETTING_NAMES

FIRST: Mapping[str, Any] = PRESETS["offline-1"]
PIXELS: Mapping[str, Any] = MappingProxyType(
    {**FIRST, "encoder": "pixels@28", "rerank": "none", "quality": "none"}
)
# The paper's four variants differ in the re-rank (its Tables 2 and 4), and weigh by Eq. 6. The
# low-pass ones recall by pixels at 14 px: drawn digits differ from written ones in texture, which
# features see first.
VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "offline-1": FIRST,
        "no-rerank": {**FIRST, "rerank": "none"},
        "l2": {**FIRST, "rerank": "l2@28"},
        "st-lpips": {**FIRST, "rerank": "st-lpips:alex@32"},
        "lpips": {**FIRST, "rerank": "lpips:alex@64"},
        "dreamsim": {**FIRST, "rerank": "dreamsim"},
        "low-pass": {**FIRST, "encoder": "pixels@14", "rerank": "none"},
        "low-pass-mix": {
            **FIRST,
            "encoder": "pixels@14",
            "rerank": {"efficientnet-lite0": 1.0, "pixels@14": 1.0},
        },
        "robust": dict(PRESETS["robust"]),
        "paper": dict(PRESETS["paper"]),
        "nearest-pixel": PIXELS,
        "pixel-shapley": {**PIXELS, "weighting": "shapley"},
        "pixel-ridge": {**PIXELS, "weighting": "ridge"},
        "global-ridge": dict(PRESETS["counterfactual"]),
    }
)
# studies remove, own and label training images one by one: a copy is no part of another there
EACH_BY_ITSELF: Mapping[str, Any] = MappingProxyType({"dedup": "none"})
TRAK = "trak"
D_TRAK = "d-trak"
NDA = "nda"
VARIANT_SETTINGS = (
    *sorted(SETTING_NAMES),
    *("backend", "cache", "device", "memory", "weights"),
)
NDA_SETTINGS = ("size", "t", "patch", "topk", "scales", "alpha", "candidates", "memory")
IF4GAN = "if4gan"  # made by `traced_gan` from a study's inputs
# Appendix G asks the encoder, Appendix H the distance of the re-rank; quality plays no part
ENCODERS = (
    "efficientnet-lite0@96",
    "efficientnet-lite0@160",
    "efficientnet-lite0:plain@160",
    "st-lpips:alex@32",
    "st-lpips:vgg@32",
    "pixels@28",
    "alexnet",
    "densenet121",
    "clip",
    "dreamsim",
)
DISTANCES = ("none", "l2@28", "st-lpips:alex@32", "st-lpips:vgg@32", "lpips:alex@64", "dreamsim")


def named_valuer(name: str) -> NamedValuer:
    """One of `VARIANTS`, `TRIVIAL` or `RIVALS`, or the scores of a file (`scores_file`).

    Raises:
        InputError: unknown name, or a file that holds no scores.
    """
    if name.endswith((".npy", ".npz")):
        return scores_valuer(Path(name).stem, {"file": name})
    if name in TRIVIAL:
        return NamedValuer(name, lambda k, seed: _trivial(name, k, seed), {"valuer": name})
    if name in RIVALS and name != SCORES:
        return RIVALS[name](name, {})
    if name not in VARIANTS:
        raise InputError(
            f"unknown valuer {name!r}; choose one of {', '.join((*VARIANTS, *TRIVIAL, *RIVALS))}, "
            "name a file of scores (scores.npy), or describe your own in a file (--valuers)"
        )
    return variant(name, VARIANTS[name])


def variant(name: str, settings: Mapping[str, Any]) -> NamedValuer:
    """A `GMValuator` with these settings, as a study's valuer.

    Raises:
        InputError: GMValuator has no such setting.
    """
    check_settings(name, settings, VARIANT_SETTINGS)

    def make(k: int, seed: int) -> Valuer:
        from gmvaluator.valuator import GMValuator

        return GMValuator(**{"k": k, "seed": seed, "null": "off", **EACH_BY_ITSELF, **settings})

    return NamedValuer(name, make, dict(settings))


def anew(valuer: NamedValuer) -> NamedValuer:
    """The same valuer that keeps nothing and finds nothing kept, for honest seconds."""
    if valuer.baseline:
        return valuer
    return variant(valuer.name, {**valuer.settings, "cache": False})


def judged_by(valuer: NamedValuer, trusted: ImageSet) -> NamedValuer:
    """A variant of GMValuator whose quality is the realism among trusted images.

    The realism is computed in the default encoder's space, whatever the variant's encoder. Realism
    among the training images would rate noise as real if the training images contain noise.
    """
    listed = repr((trusted.ids, trusted.origin))
    settings = {**valuer.settings, "quality": f"realism among {len(trusted)} trusted images"}
    key = {**settings, "trusted": hashlib.blake2b(listed.encode(), digest_size=8).hexdigest()}

    def make(k: int, seed: int) -> Valuer:
        from gmvaluator.valuator import GMValuator

        @cache
        def judge() -> GMValuator:
            return GMValuator(
                rerank="none", quality="realism", k=1, candidates=1, null="off", **EACH_BY_ITSELF
            ).fit(trusted)

        def quality(images: ImageSet) -> NDArray[np.float64]:
            return judge().value(images).quality

        arguments = {**EACH_BY_ITSELF, **valuer.settings, "quality": quality}
        return GMValuator(**{"k": k, "seed": seed, "null": "off", **arguments})

    return NamedValuer(f"{valuer.name}, trusted", make, key)


def nda(name: str, settings: Mapping[str, Any]) -> NamedValuer:
    """NDA with these settings, as a study's valuer.

    Raises:
        InputError: a setting outside `NDA_SETTINGS`.
    """
    check_settings(name, settings, NDA_SETTINGS)

    def make(k: int, seed: int) -> Valuer:
        from gmvaluator.baselines.nda import NDA

        return NDA(k=k, seed=seed, **settings)

    return NamedValuer(name, make, {"valuer": NDA, **settings})


# methods that are no variant of GMValuator, by the text of `valuer = …` in a file
RIVALS: Mapping[str, Callable[[str, Mapping[str, Any]], NamedValuer]] = MappingProxyType(
    {
        TRACIN: vae_tracin,
        NDA: nda,
        TRAK: partial(trak, functional="loss"),
        D_TRAK: partial(trak, functional="square"),
        SCORES: scores_valuer,
    }
)


def encoder_valuers() -> list[NamedValuer]:
    """One valuer an encoder, without re-rank (Appendix G, Table 9)."""
    return [
        variant(name, {"encoder": name, "rerank": "none", "quality": "none"}) for name in ENCODERS
    ]


def distance_valuers() -> list[NamedValuer]:
    """One valuer a re-rank distance, the default encoder recalling (Appendix H)."""
    return [variant(name, {"rerank": name, "quality": "none"}) for name in DISTANCES]


def usable(valuers: Sequence[NamedValuer]) -> tuple[list[NamedValuer], list[str]]:
    """The valuers whose packages and weights are installed, and a note on each other valuer."""
    able, notes = [], []
    for valuer in valuers:
        try:
            made = valuer.make(1, 0)
            require = getattr(made, "require", None)
            if require is not None:
                require()
            able.append(valuer)
        except MissingPackageError:
            notes.append(f"{valuer.name} is left out: a package that it needs is not installed.")
        except MissingWeightsError:
            # the error names files on this machine, which a published table should not
            notes.append(f"{valuer.name} is left out: its weights are not on this machine.")
    return able, notes


def read_valuers(file: Path) -> list[NamedValuer]:
    """Valuers of a TOML file, one table per valuer. The keys are settings of `GMValuator`.

    In a table with `valuer = "nda"`, or another name of `RIVALS`, the keys are settings of that
    method.

    Raises:
        InputError: the file is missing, is not TOML, or a table has unknown settings.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"{file} cannot be read as TOML ({error}); pass a table a valuer"
        ) from None
    if wrong := [name for name, table in content.items() if not isinstance(table, dict)]:
        raise InputError(f"{file}: {wrong[0]} is no table; write [{wrong[0]}] above its settings")
    return [_described(name, table) for name, table in content.items()]


def _described(name: str, table: dict[str, Any]) -> NamedValuer:
    kind = table.pop("valuer", None)
    if kind is None:
        return variant(name, table)
    if kind not in RIVALS:
        wanted = " or ".join(repr(rival) for rival in RIVALS)
        raise InputError(f"valuer {name} is a {kind!r}; write valuer = {wanted}, or leave it out")
    return RIVALS[kind](name, table)


def choose_valuers(
    names: Sequence[str],
    file: Path | None,
    made: Mapping[str, Callable[[], NamedValuer]] = MappingProxyType({}),
) -> list[NamedValuer]:
    """Named valuers, then the valuers of a file.

    Args:
        names: names for `named_valuer`, or keys of `made`.
        file: see `read_valuers`.
        made: functions that make valuers from a study's inputs, by name.

    Raises:
        InputError: there is no valuer, a name is unknown, or a name occurs twice.
    """
    valuers = [made[name]() if name in made else named_valuer(name) for name in names]
    valuers += read_valuers(file) if file else []
    names = [valuer.name for valuer in valuers]
    if not names:
        raise InputError("no valuer was named; pass one, such as default")
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"valuer {twice.pop()} is named twice; rename or drop one")
    return valuers


def _trivial(name: str, k: int, seed: int) -> Valuer:
    from gmvaluator.baselines import RandomValuer, SameClassValuer

    return RandomValuer(k=k, seed=seed) if name == "random" else SameClassValuer(k=k, seed=seed)
