"""Settings of a valuation, their checks, and the named presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

import numpy as np

from gmvaluator.arguments import proper_share, real_number, truth_value, whole_number
from gmvaluator.encoders import canonical_name, is_name, parse_name
from gmvaluator.encoders.base import Encoder
from gmvaluator.errors import InputError, either
from gmvaluator.matching.duplicates.clusters import DEDUPS
from gmvaluator.matching.rerank import MIXINGS, Mixing
from gmvaluator.matching.search.build import check_index_name
from gmvaluator.scoring.conformal import DEFAULT_LEVEL
from gmvaluator.scoring.scores import check_weighting
from gmvaluator.scoring.weightings import Weighting
from gmvaluator.scoring.weightings.softmax import (
    WANTED_TEMPERATURE,
    AnyTemperature,
    check_temperature,
    spacing_share,
)

DEFAULT_ENCODER = "efficientnet-lite0"
DEFAULT_SECOND_ENCODER = "pixels@14"
DEFAULT_RERANK: Mapping[str, float] = MappingProxyType({DEFAULT_ENCODER: 1.0, "pixels@14": 2.0})
DEFAULT_WEIGHTING = "expected-rank"
DEFAULT_K = 50
DEFAULT_CANDIDATES = 200
MOST = (1 << 31) - 1
"""The largest whole number that a setting may be: faiss counts and seeds in 32 bits."""

Rerank = str | Encoder | Sequence[str | Encoder] | Mapping[str, float] | None
"""What a user may pass as re-rank: names, encoders, weights by name, or none."""
NullChoice = Literal["report", "withhold", "off"]
"""What the test for images without a contributor does: it reports these images, it withholds their
quality from all contributors, or it is left out."""
NULL_CHOICES: tuple[NullChoice, ...] = get_args(NullChoice)
NullMeasure = Literal["neighbours", "domain"]
"""How strange an image is: by how far from its neighbours it lies among them
(`engine.strangeness`), or by how far beyond the domain of the training images (`engine.domain`)."""
NULL_MEASURES: tuple[NullMeasure, ...] = get_args(NullMeasure)
DOMAIN_ENCODER = "pixels@14"
"""Encoder of the pictures that `domain` looks at."""


@dataclass(frozen=True)
class Settings:
    """Every choice that decides a value; `run.json` records it.

    `k` and `candidates` left None mean 50 and 200, or the whole training set where it is smaller.
    """

    encoder: str
    index: str
    rerank: tuple[tuple[str, float], ...]
    quality: str
    k: int | None
    candidates: int | None
    weighting: str
    temperature: AnyTemperature
    seed: int
    second_encoder: str | None
    mirror: bool
    dedup: str
    null: NullChoice
    null_level: float
    mixing: Mixing
    null_measure: NullMeasure

    def as_json(self) -> dict[str, Any]:
        """Plain types, as in `run.json`; `rerank` maps names to weights."""
        return asdict(self) | {"rerank": dict(self.rerank)}

    @property
    def counts(self) -> tuple[int, int]:
        """(k, candidates) of settings that `resolve_counts` returned."""
        if self.k is None or self.candidates is None:
            raise ValueError("k and candidates depend on the training set; see resolve_counts")
        return self.k, self.candidates

    @property
    def scale_candidates(self) -> int:
        """Candidates among which the scales of a mixed re-rank are learned."""
        return self.candidates or max(DEFAULT_CANDIDATES, self.k or 0)

    def fitting(self) -> dict[str, Any]:
        """The settings that fitting reads: two valuators with the same ones fit alike.

        A setting that fitting does not read beside the others is left out.
        """
        choices: dict[str, Any] = {
            "encoder": canonical(self.encoder),
            "second_encoder": self.second_encoder and canonical(self.second_encoder),
            "rerank": [canonical(name) for name, _ in self.rerank],
            "dedup": self.dedup,
        }
        if len(self.rerank) > 1:
            choices["mixing"] = self.mixing
            if self.mixing == "fixed":
                choices["candidates"] = self.scale_candidates
        if self.dedup == "near":
            choices["rerank weights"] = [weight for _, weight in self.rerank]
            choices["seed"] = self.seed
        return choices


SETTING_NAMES = tuple(field.name for field in fields(Settings))
LATER_SETTINGS: Mapping[str, Any] = {
    "second_encoder": None,
    "mirror": False,
    "dedup": "none",
    "null": "report",
    "null_level": DEFAULT_LEVEL,
    "mixing": "fixed",
    "null_measure": "neighbours",
}
"""Settings that runs and indexes of earlier versions do not record, with values that give the same
values of training images."""

# what the default was before version 1: everything that the default now chooses otherwise
_BEFORE: Mapping[str, Any] = {
    "second_encoder": None,
    "rerank": {"efficientnet-lite0": 1.0, "l2": 0.5},
    "quality": "realism",
    "weighting": "softmax",
    "temperature": 1.0,
    "mirror": False,
    "mixing": "fixed",
    "null_measure": "neighbours",
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "offline": {},
    "paper": {
        **_BEFORE,
        "encoder": "clip",
        "index": "pq",
        "rerank": ["dreamsim"],
        "quality": "maniqa",
        # the paper assumes that there are no copies, and does nothing about them
        "dedup": "none",
    },
    "offline-1": _BEFORE,
    "robust": {
        **_BEFORE,
        "second_encoder": "pixels@14",
        "mirror": True,
        "rerank": {"efficientnet-lite0": 1.0, "pixels@14": 2.0},
        "temperature": "spacing",
    },
    "counterfactual": {
        **_BEFORE,
        "encoder": "pixels@28",
        "rerank": "none",
        "quality": "none",
        "weighting": "global-ridge",
    },
}


def default_parts(
    encoder: str, rerank: Rerank, weighting: Weighting
) -> tuple[str | None, Rerank, bool]:
    """Second encoder, re-rank and mirror where the user passes none: what goes with the rest.

    Args:
        encoder: name of the first encoder.
        rerank: of the user, or `auto`.
        weighting: of the user.
    """
    if rerank == "auto":
        ranks = weighting.conflict(reranked=True, mirror=False) is None
        rerank = DEFAULT_RERANK if ranks else "none"
    reranked = bool(rerank_terms(rerank))
    mirror = weighting.conflict(reranked=reranked, mirror=True) is None
    second = DEFAULT_SECOND_ENCODER if reranked else None
    return None if canonical(encoder) == second else second, rerank, mirror


def preset_settings(name: str) -> dict[str, Any]:
    """Arguments of `GMValuator` for a preset.

    Raises:
        InputError: unknown preset.
    """
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    return dict(PRESETS[name])


def null_choice(recorded: bool | str | None) -> NullChoice:
    """The choice that a run or an index records: by name, or as earlier versions did.

    Earlier versions recorded true (withhold), false (report) and null (off).
    """
    if recorded is None:
        return "off"
    if isinstance(recorded, bool):
        return "withhold" if recorded else "report"
    return cast("NullChoice", recorded)


def read_temperature(text: str) -> AnyTemperature:
    """A temperature as written on the command line.

    Raises:
        InputError: neither a number nor a name; `check_settings` refuses numbers that cannot be.
    """
    if text == "auto" or spacing_share(text) is not None:
        return text
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"--temperature {text!r} is no number; pass {WANTED_TEMPERATURE}"
        ) from None


def rerank_terms(rerank: Rerank) -> tuple[tuple[str | Encoder, float], ...]:
    """(encoder or its name, weight) of each re-rank distance.

    Raises:
        InputError: unknown encoder, a repeated encoder, or a weight that is not positive.
    """
    terms: tuple[tuple[str | Encoder, float], ...]
    if rerank is None:
        return ()
    if isinstance(rerank, Mapping):
        terms = tuple(
            (name, float(real_number(f"rerank {name}: weight", weight, "a number above 0")))
            for name, weight in rerank.items()
        )
    elif isinstance(rerank, str) or not isinstance(rerank, Sequence):
        terms = ((rerank, 1.0),)
    else:
        terms = tuple((encoder, 1.0) for encoder in rerank)
    names = [name_of(encoder) for encoder, _ in terms]
    if names == ["none"]:
        return ()
    for (encoder, weight), name in zip(terms, names, strict=True):
        if name == "none":
            raise InputError("rerank 'none' stands alone; leave the other distances or it out")
        if isinstance(encoder, str):
            parse_name(encoder)
        if not (np.isfinite(weight) and weight > 0):
            raise InputError(f"rerank {name} has weight {weight}; pass a number above 0")
    if len({canonical(name) for name in names}) < len(names):
        raise InputError(f"rerank names a distance twice ({', '.join(names)}); give it a weight")
    return terms


def name_of(encoder: str | Encoder) -> str:
    """The name that settings record for an encoder.

    Raises:
        InputError: neither a name nor an encoder.
    """
    if not isinstance(encoder, str | Encoder):
        raise InputError(
            f"{encoder!r} is no encoder; pass a name or an encoder, such as the result of "
            "gmvaluator.encoders.custom.wrap"
        )
    return encoder if isinstance(encoder, str) else encoder.name


def canonical(name: str) -> str:
    """The one spelling of an encoder's name; the name of a user's own encoder as it is."""
    return canonical_name(name) if name != "none" and is_name(name) else name


def check_settings(settings: Settings) -> Settings:
    """The settings with numbers of any library as plain ones; refuses those that cannot work.

    Raises:
        InputError: naming the setting, what is wanted and what to do.
    """
    k, candidates = (
        None if number is None else whole_number(name, number, 1, MOST)
        for name, number in (("k", settings.k), ("candidates", settings.candidates))
    )
    settings = replace(
        settings,
        k=k,
        candidates=candidates,
        seed=whole_number("seed", settings.seed, 0, MOST),
        temperature=check_temperature(settings.temperature),
        mirror=truth_value("mirror", settings.mirror),
        null_level=proper_share("null_level", settings.null_level, DEFAULT_LEVEL),
    )
    check_index_name(settings.index)
    weighting = check_weighting(settings.weighting, settings.temperature)
    if settings.dedup not in DEDUPS:
        raise InputError(f"unknown dedup {settings.dedup!r}; choose one of {', '.join(DEDUPS)}")
    if settings.mixing not in MIXINGS:
        raise InputError(f"unknown mixing {settings.mixing!r}; choose one of {', '.join(MIXINGS)}")
    if settings.null not in NULL_CHOICES:
        raise InputError(f"unknown null {settings.null!r}; choose one of {', '.join(NULL_CHOICES)}")
    if settings.null_measure not in NULL_MEASURES:
        raise InputError(
            f"unknown null_measure {settings.null_measure!r}; choose one of "
            f"{', '.join(NULL_MEASURES)}"
        )
    conflict = weighting.conflict(reranked=bool(settings.rerank), mirror=settings.mirror)
    if conflict:
        raise InputError(conflict)
    if settings.second_encoder is not None and not settings.rerank:
        raise InputError(
            "distances of two recall spaces do not compare; pass a rerank that orders the "
            "candidates of both, or leave " + either("second_encoder out", "--second-encoder out")
        )
    if k is not None and candidates is not None and k > candidates:
        raise InputError(
            f"k={k} exceeds the {candidates} candidates; pass k ≤ {candidates} or more candidates"
        )
    return settings


def resolve_counts(settings: Settings, n_train: int, *, copies: int = 0) -> Settings:
    """The settings with `k` and `candidates` for a training set of `n_train` readable images.

    Args:
        settings: of the valuation.
        n_train: images that count: one of each cluster of copies.
        copies: images that another image stands for.

    Raises:
        InputError: an explicit k or candidates exceeds the training set.
    """
    for name, number in (("k", settings.k), ("candidates", settings.candidates)):
        if number is not None and number > n_train:
            counted, advice = f"{n_train} training images", ""
            if copies:
                counted = f"{n_train} different ones of {n_train + copies} training images"
                advice = ", or " + either("dedup='none'", "--dedup none") + " to count their copies"
            raise InputError(
                f"{name}={number} exceeds the {counted}; pass {name} ≤ {n_train}{advice}"
            )
    k = settings.k or min(DEFAULT_K, settings.candidates or n_train, n_train)
    candidates = settings.candidates or min(max(DEFAULT_CANDIDATES, k), n_train)
    return replace(settings, k=k, candidates=candidates)
