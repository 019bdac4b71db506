"""What a training set alone decides for every picture: learned when an index is made, kept in it.

The null sample, the spacing and the domain take seconds, a picture takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.engine.context import Context
from gmvaluator.engine.domain import Domain, Gaussian, domain_of
from gmvaluator.engine.null_sample import null_sample
from gmvaluator.engine.train import learn_temperature
from gmvaluator.engine.trained import Trained
from gmvaluator.errors import InputError
from gmvaluator.memory import Memo
from gmvaluator.scoring.conformal import Null
from gmvaluator.settings import resolve_counts

DESIGN = 1
"""Raised when the numbers of a null sample, a spacing or a domain change."""
DOMAIN_MODELS = ("pictures", "steps")
DOMAIN_NUMBERS = ("energy", "rare", "held_back", "usual")
UNREAD = ("quality", "k", "weighting", "temperature", "null")
"""Settings that none of these results read."""


def learn_results(context: Context, trained: Trained) -> None:
    """Fill the memo of the training set with what later pictures read.

    Raises:
        RunError: a training image has changed since it was embedded.
    """
    settings = resolve_counts(context.settings, len(trained.order), copies=trained.n_copies)
    if settings.null != "off":
        # a test that withholds refuses small sets; an index is made of them all the same
        settings = replace(settings, null="report")
    context = replace(context, settings=settings)
    # where these settings do not go with these images, valuing says so; others may go with them
    with suppress(InputError):
        null_sample(context, trained, None, strict=False)
        learn_temperature(context, trained)
        if context.domain is not None:
            domain_of(context, trained)


def hold_all(context: Context, trained: Trained) -> bool:
    """Whether a picture can be matched without the training images."""
    encoders = [*context.rerankers, *([context.domain] if context.domain else [])]
    if any(encoder.fingerprint not in trained.placed.vectors for encoder in encoders):
        return False
    tested = any(isinstance(result, Null) for result in trained.memo.results().values())
    return tested or context.settings.null == "off"


def read_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the results read, of those that an index records."""
    return {name: choice for name, choice in settings.items() if name not in UNREAD}


def as_arrays(memo: Memo) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
    """The results as plain types, and their arrays by name."""
    entries: list[dict[str, Any]] = []
    arrays: dict[str, NDArray[Any]] = {}
    for key, result in memo.results().items():
        parts: dict[str, NDArray[Any]] = {}
        if isinstance(result, Null) and result.missing is None:
            parts = {"strangeness": result.strangeness}
        elif isinstance(result, Domain):
            parts = {name: np.asarray(getattr(result, name)) for name in DOMAIN_NUMBERS}
            for name in DOMAIN_MODELS:
                model: Gaussian = getattr(result, name)
                parts |= {f"{name}.mean": model.mean, f"{name}.precision": model.precision}
        elif isinstance(result, float):
            parts = {"number": np.asarray(result)}
        else:
            continue  # an index, which has a file of its own, or a reason why there is nothing
        for name, part in parts.items():
            arrays[f"result{len(entries)}.{name}"] = np.ascontiguousarray(part)
        listed = list(key) if isinstance(key, tuple) else [key]
        entries.append({"key": listed, "kind": type(result).__name__, "arrays": list(parts)})
    return entries, arrays


def restore(memo: Memo, entries: Sequence[Mapping[str, Any]], arrays: Mapping[str, Any]) -> None:
    """Put results back that `as_arrays` took apart.

    Raises:
        KeyError, TypeError, ValueError: they are of another form.
    """
    for number, entry in enumerate(entries):
        parts = {name: arrays[f"result{number}.{name}"] for name in entry["arrays"]}
        result: Any
        if entry["kind"] == "Null":
            result = Null("leave-one-out", **parts)
        elif entry["kind"] == "Domain":
            models = {
                name: Gaussian(parts[f"{name}.mean"], parts[f"{name}.precision"])
                for name in DOMAIN_MODELS
            }
            result = Domain(
                **models,
                energy=float(parts["energy"].item()),
                rare=parts["rare"],
                held_back=parts["held_back"],
                usual=float(parts["usual"].item()),
            )
        else:
            result = float(parts["number"].item())
        key = [tuple(part) if isinstance(part, list) else part for part in entry["key"]]
        memo.put(key[0] if len(key) == 1 else tuple(key), result)
