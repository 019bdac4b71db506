"""Small valuations made by hand, for what is done with runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator import Skip, Valuation
from gmvaluator.matching.rerank import Contributors
from gmvaluator.runs.record import RunRecord, Unattributed
from gmvaluator.scoring.scores import contribute


def made_valuation(
    n: int = 6,
    m: int = 4,
    k: int = 3,
    seed: int = 0,
    *,
    weighting: str = "softmax",
    quality: NDArray[np.float64] | None = None,
) -> Valuation:
    """n training images `t0` …, m generated ones `g0` … of k contributors each."""
    random = np.random.default_rng(seed)
    rows = np.argsort(random.random((m, n)), axis=1)[:, :k]
    distances = np.sort(random.random((m, k)), axis=1).astype(np.float32)
    given = random.random(m) if quality is None else quality
    contributors = Contributors(rows, distances, n, beyond=distances[:, -1] + np.float32(0.1))
    info: dict[str, Any] = {
        "format": 1,
        "settings": {"weighting": weighting, "temperature": 1.0, "temperature_used": 1.0},
        "n_train": n,
        "n_generated": m,
        "inputs": {
            "train": {"source": None, "fingerprint": "t"},
            "generated": {"source": None, "fingerprint": "g"},
        },
    }
    return Valuation(
        train_ids=tuple(f"t{i}" for i in range(n)),
        train_labels=tuple("ab"[i % 2] for i in range(n)),
        generated_ids=tuple(f"g{j}" for j in range(m)),
        generated_labels=None,
        quality=given,
        contributions=contribute(contributors, given, weighting=weighting),
        skipped=(("train", Skip("broken.png", "truncated PNG")),),
        record=RunRecord.from_json(info),
    )


def made_test(**changes: Any) -> Unattributed:
    """A result of the test for images without a contributor, with some entries of one's own."""
    entries: dict[str, Any] = {
        "share": 0.0,
        "images": 0,
        "level": 0.02,
        "null": "leave-one-out",
        "n_null": 99,
        "error_rate": 0.02,
        "threshold": 1.5,
        "applied": False,
    }
    return Unattributed(**entries | changes)
