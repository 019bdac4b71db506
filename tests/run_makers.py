"""Small valuations made by hand, for what is done with runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator import Skip, Valuation
from gmvaluator.matching.rerank import Contributors
from gmvaluator.runs.folder import Run
from gmvaluator.runs.images import RunSide
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


def renamed_run(run: Run, name: Callable[[int], str], label: str | None = None) -> Run:
    """A run under other ids, by row, and other labels, its pictures included."""

    def side(old: RunSide) -> RunSide:
        assert old.images is not None
        images = old.images.select(old.rows)
        images.ids = tuple(name(row) for row in range(len(old.ids)))
        labels = old.labels if label is None else (label,) * len(old.ids)
        return replace(old, ids=images.ids, images=images, labels=labels)

    train, generated = side(run.train), side(run.generated)
    valuation = replace(
        run.valuation,
        train_ids=train.ids,
        generated_ids=generated.ids,
        train_labels=train.labels,
        generated_labels=generated.labels,
    )
    return replace(run, valuation=valuation, train=train, generated=generated)
