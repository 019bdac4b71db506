"""How far shares would move had other generated images been drawn: bootstrap over generated images.

The m generated images are a sample of what the model draws. Resampling them with replacement, one
draw of counts for all groups together, says how their shares scatter (Efron, 1979).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError

Floats = NDArray[np.float64]

DEFAULT_LEVEL = 0.95
DEFAULT_RESAMPLES = 2000
BLOCK = 1 << 22
"""Numbers of resampling counts held at once: 32 MB."""


def bootstrap_shares(
    scores_by_group: Floats,
    *,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Confidence intervals of each group's share of all scores → low (G,), high (G,).

    The share of group g is Σ_j s_jg / Σ_j Σ_g s_jg. The total is of what is given: where part of a
    generated image belongs to nobody, pass it as one more column to have shares of the whole.

    Args:
        scores_by_group: (m, G) float64, score of each generated image for each group, ≥ 0.
        level: nominal coverage, between 0 and 1.
        n_resamples: resamples of the m images.
        seed: of the resampling.

    Raises:
        InputError: fewer than two generated images, no score at all, scores that are negative or
            no numbers, or a level outside 0 to 1.
    """
    scores = np.asarray(scores_by_group, dtype=np.float64)
    _check(scores, level, n_resamples)
    totals = scores.sum(axis=1)
    if totals.sum() == 0:
        raise InputError("no generated image has a score, so there is nothing to have a share of")
    parts = []
    for counts in _resamples(len(scores), n_resamples, seed):
        whole = counts @ totals
        # a resample that drew only images without a score has no shares
        kept = whole > 0
        parts.append((counts[kept] @ scores) / whole[kept, None])
    drawn = np.concatenate(parts)
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    shares = scores.sum(axis=0) / totals.sum()
    return np.minimum(low, shares), np.maximum(high, shares)


def _resamples(m: int, n_resamples: int, seed: int) -> Iterator[Floats]:
    """(b, m) how often each image is drawn in each of b resamples, in blocks."""
    random = np.random.default_rng(seed)
    step = max(1, BLOCK // m)
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        yield random.multinomial(m, np.full(m, 1 / m), size=size).astype(np.float64)


def _check(scores: Floats, level: float, n_resamples: int) -> None:
    if scores.ndim != 2:
        raise InputError(f"scores have shape {scores.shape}; pass (generated images, groups)")
    if len(scores) < 2:
        raise InputError(
            f"{len(scores)} generated images have no interval: nothing says how others would "
            "score; pass at least 2"
        )
    if not bool(np.all(np.isfinite(scores) & (scores >= 0))):
        raise InputError("scores must be finite and not negative; see Valuation.contributions")
    if not 0 < level < 1:
        raise InputError(f"level={level}; pass a nominal coverage between 0 and 1, such as 0.95")
    if n_resamples < 1:
        raise InputError(f"n_resamples={n_resamples}; pass at least 1, such as 2000")
