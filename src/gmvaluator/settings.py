"""What a valuation is asked to do: settings with their defaults, and the named presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from gmvaluator.encoders import parse_name
from gmvaluator.encoders.base import Encoder
from gmvaluator.errors import InputError
from gmvaluator.matching.duplicates.clusters import DEDUPS
from gmvaluator.matching.recall import check_index_name
from gmvaluator.scoring.conformal import DEFAULT_LEVEL, check_level
from gmvaluator.scoring.scores import RIDGES, AnyTemperature, check_weighting

DEFAULT_K = 50
DEFAULT_CANDIDATES = 200

NullChoice = Literal["report", "withhold", "off"]
NULL_CHOICES: tuple[NullChoice, ...] = ("report", "withhold", "off")

Rerank = str | Encoder | Sequence[str | Encoder] | Mapping[str, float] | None


@dataclass(frozen=True)
class RerankTerm:
    """One distance of the re-rank: an encoder (or its name) and its weight in the mean."""

    encoder: str | Encoder
    weight: float = 1.0

    @property
    def name(self) -> str:
        return self.encoder if isinstance(self.encoder, str) else self.encoder.name


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
    second_encoder: str | None = None
    mirror: bool = False
    dedup: str = "exact"
    null: NullChoice = "report"
    null_level: float = DEFAULT_LEVEL

    def as_json(self) -> dict[str, Any]:
        """Plain types, as in `run.json`; `rerank` maps names to weights."""
        return asdict(self) | {"rerank": dict(self.rerank)}


SETTING_NAMES = tuple(field.name for field in fields(Settings))
LATER_SETTINGS: Mapping[str, Any] = {
    "second_encoder": None,
    "mirror": False,
    "dedup": "none",
    "null": "report",
    "null_level": DEFAULT_LEVEL,
}
"""Settings that runs and indexes of earlier versions do not record, and what changes nothing."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "offline": {},
    "paper": {
        "encoder": "clip",
        "index": "pq",
        "rerank": ["dreamsim"],
        "quality": "maniqa",
        "weighting": "softmax",
        "temperature": 1.0,
        # the paper assumes that there are no copies, and does nothing about them
        "dedup": "none",
    },
    "robust": {
        "second_encoder": "pixels@14",
        "mirror": True,
        "rerank": {"efficientnet-lite0": 1.0, "pixels@14": 2.0},
        "temperature": "spacing",
    },
    "counterfactual": {
        "encoder": "pixels@28",
        "rerank": "none",
        "quality": "none",
        "weighting": "global-ridge",
    },
}


def null_choice(recorded: object) -> object:
    """The setting `null` of a saved run or index, by its name.

    Earlier versions recorded true for `withhold`, false for `report` and null for `off`.
    `check_settings` refuses a value that is neither such a flag nor a name.
    """
    if recorded is None:
        return "off"
    if isinstance(recorded, bool):
        return "withhold" if recorded else "report"
    return recorded


def preset_settings(name: str) -> dict[str, Any]:
    """Arguments of `GMValuator` for a preset.

    Raises:
        InputError: unknown preset.
    """
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    return dict(PRESETS[name])


def read_temperature(text: str) -> AnyTemperature:
    """A temperature as written on the command line.

    Raises:
        InputError: neither a number nor a name; `check_settings` refuses numbers that cannot be.
    """
    if text == "auto":
        return "auto"
    if text == "spacing":
        return "spacing"
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"--temperature {text!r} is no number; pass one above 0, auto or spacing"
        ) from None


def rerank_terms(rerank: Rerank) -> tuple[RerankTerm, ...]:
    """Normalise what a user passes as `rerank`: names, encoders, weights by name, or none.

    Raises:
        InputError: unknown encoder, a repeated one, or a weight that is not positive.
    """
    if rerank is None:
        return ()
    if isinstance(rerank, Mapping):
        terms = tuple(RerankTerm(name, float(weight)) for name, weight in rerank.items())
    elif isinstance(rerank, str) or not isinstance(rerank, Sequence):
        terms = (RerankTerm(rerank),)
    else:
        terms = tuple(RerankTerm(encoder) for encoder in rerank)
    if [term.name for term in terms] == ["none"]:
        return ()
    for term in terms:
        if term.name == "none":
            raise InputError("rerank 'none' stands alone; leave the other distances or it out")
        if isinstance(term.encoder, str):
            parse_name(term.encoder)
        if not (np.isfinite(term.weight) and term.weight > 0):
            raise InputError(f"rerank {term.name} has weight {term.weight}; pass a number above 0")
    names = [term.name for term in terms]
    if len(set(names)) < len(names):
        raise InputError(f"rerank names a distance twice ({', '.join(names)}); give it a weight")
    return terms


def check_settings(settings: Settings) -> None:
    """Refuse settings that cannot work whatever the data.

    Raises:
        InputError: naming the setting, what is wanted and what to do.
    """
    check_index_name(settings.index)
    check_weighting(settings.weighting, settings.temperature)
    if settings.dedup not in DEDUPS:
        raise InputError(f"unknown dedup {settings.dedup!r}; choose one of {', '.join(DEDUPS)}")
    if settings.null not in NULL_CHOICES:
        raise InputError(f"unknown null {settings.null!r}; choose one of {', '.join(NULL_CHOICES)}")
    check_level(settings.null_level)
    if settings.weighting == "global-ridge" and settings.rerank:
        raise InputError(
            "weighting global-ridge finds contributors by their weight among all training images, "
            "without a re-rank; pass rerank='none', or weighting='ridge'"
        )
    if settings.mirror and settings.weighting in RIDGES:
        raise InputError(
            f"weighting {settings.weighting} compares images as they are; pass mirror=False, or "
            "weighting softmax or shapley"
        )
    if settings.second_encoder is not None and not settings.rerank:
        raise InputError(
            "distances of two recall spaces do not compare; pass a rerank that orders the "
            "candidates of both, or leave second_encoder out"
        )
    for name, value in (("k", settings.k), ("candidates", settings.candidates)):
        if value is not None and value < 1:
            raise InputError(f"{name}={value} is too small; pass {name} ≥ 1")
    k, candidates = settings.k, settings.candidates
    if k is not None and candidates is not None and k > candidates:
        raise InputError(
            f"k={k} exceeds the {candidates} candidates; pass k ≤ {candidates} or more candidates"
        )


def resolve_counts(settings: Settings, n_train: int, *, copies: int = 0) -> tuple[int, int]:
    """(k, candidates) for a training set of `n_train` readable images.

    Args:
        settings: of the valuation.
        n_train: images that count: clusters of copies, where `copies` of the others were found.
        copies: images that do not count by themselves.

    Raises:
        InputError: an explicit k or candidates exceeds the training set.
    """
    for name, value in (("k", settings.k), ("candidates", settings.candidates)):
        if value is not None and value > n_train:
            held, way = f"{n_train} training images", ""
            if copies:
                held = f"{n_train} different ones of {n_train + copies} training images"
                way = ", or dedup='none' to count their copies"
            raise InputError(f"{name}={value} exceeds the {held}; pass {name} ≤ {n_train}{way}")
    k = settings.k or min(DEFAULT_K, settings.candidates or n_train, n_train)
    candidates = settings.candidates or min(max(DEFAULT_CANDIDATES, k), n_train)
    return k, candidates
