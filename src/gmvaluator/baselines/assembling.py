"""From the scores of a baseline to the `Valuation` that everything else reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator import versions
from gmvaluator.images import ImageSet
from gmvaluator.valuation import Valuation
from gmvaluator.values import Contributions


def assemble(
    train: ImageSet,
    generated: ImageSet,
    contributions: Contributions,
    *,
    settings: Mapping[str, Any],
    seed: int,
    seconds: Mapping[str, float],
    quality: NDArray[np.float64] | None = None,
) -> Valuation:
    """A valuation of all images of both sets.

    Args:
        train: the n training images that `contributions` counts.
        generated: the m generated images.
        contributions: (m, k) scores.
        settings: what the baseline was asked to do; `valuer` names it.
        seed: of its randomness.
        seconds: time by stage.
        quality: (m,) what each generated image hands out (default: 1).
    """
    return Valuation(
        train_ids=train.ids,
        train_labels=train.labels,
        generated_ids=generated.ids,
        generated_labels=generated.labels,
        quality=np.ones(len(generated)) if quality is None else quality,
        contributions=contributions,
        skipped=(),
        info={
            "format": 1,
            "settings": dict(settings),
            "n_train": len(train),
            "n_generated": len(generated),
            "versions": versions.installed(),
            "weights": {},
            "seed": seed,
            "seconds": {stage: round(spent, 3) for stage, spent in seconds.items()},
            "inputs": {
                "train": {"source": train.location, "fingerprint": None},
                "generated": {"source": generated.location, "fingerprint": None},
            },
        },
    )
