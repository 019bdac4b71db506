"""From the scores of a baseline to the `Valuation` that everything else reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator import versions
from gmvaluator.images import ImageSet, Skip
from gmvaluator.runs.record import Input, Inputs, RecordedSettings, RunRecord
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.scores import Contributions

# id of the one row of a valuation by a measure of the whole generated set
WHOLE_SET = "all that is generated"


def assemble(
    train: ImageSet,
    generated: ImageSet,
    contributions: Contributions,
    *,
    settings: Mapping[str, Any],
    seed: int,
    seconds: Mapping[str, float],
    quality: NDArray[np.float64] | None = None,
    skipped: Sequence[tuple[str, Skip]] = (),
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Valuation:
    """A valuation of all images of both sets.

    Args:
        train: the n training images that `contributions` counts.
        generated: the m generated images.
        contributions: (m, k) scores.
        settings: settings of the baseline. `valuer` is its name.
        seed: seed of the baseline.
        seconds: seconds by stage.
        quality: (m,) quality of each generated image. Default: 1.
        skipped: (`train` or `generated`, skipped image) for each image that could not be read.
        more: further entries of the record.
    """
    return Valuation(
        train_ids=train.ids,
        train_labels=train.labels,
        generated_ids=generated.ids,
        generated_labels=generated.labels,
        quality=np.ones(len(generated)) if quality is None else quality,
        contributions=contributions,
        skipped=tuple(skipped),
        record=_record(train, len(generated), generated.origin, settings, seed, seconds, more),
    )


def assemble_for_set(
    train: ImageSet,
    values: NDArray[np.float64],
    *,
    settings: Mapping[str, Any],
    seed: int,
    seconds: Mapping[str, float],
    more: Mapping[str, Any],
) -> Valuation:
    """A valuation by a measure of the whole generated set: one row, `WHOLE_SET`, of n scores.

    Args:
        train: the n training images.
        values: (n,) value of each training image.
        settings, seed, seconds: see `assemble`.
        more: further entries of the record.
    """
    order = np.argsort(-values, kind="stable")
    return Valuation(
        train_ids=train.ids,
        train_labels=train.labels,
        generated_ids=(WHOLE_SET,),
        generated_labels=None,
        quality=np.ones(1),
        contributions=Contributions(
            rows=order[None],
            distances=(-values[order][None]).astype(np.float32),
            scores=values[order][None],
            n_train=len(train),
        ),
        skipped=(),
        record=_record(train, 1, None, settings, seed, seconds, more),
    )


def _record(
    train: ImageSet,
    n_generated: int,
    location: str | None,
    settings: Mapping[str, Any],
    seed: int,
    seconds: Mapping[str, float],
    more: Mapping[str, Any],
) -> RunRecord:
    return RunRecord(
        settings=RecordedSettings(settings),
        n_train=len(train),
        n_generated=n_generated,
        versions=versions.installed(),
        weights={},
        seed=seed,
        seconds={stage: round(spent, 3) for stage, spent in seconds.items()},
        inputs=Inputs(Input(train.origin), Input(location)),
        extras=dict(more),
    )
