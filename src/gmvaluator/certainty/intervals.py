"""Confidence intervals of shares and values: how far they would move with other generated images.

The m generated images are a sample of what the model draws. The Bayesian bootstrap (Rubin, 1981,
Annals of Statistics 9) gives the images Dirichlet weights, the same weights for all groups. The
bootstrap alone covers too seldom if few images score for a group, and gives 0 … 0 if none does.
Therefore each end of an interval adds a part of one more image to the m images. For the upper end,
this image is as good for the group as the group's best image, and at least as good as a generated
image is for its first contributor on average. For the lower end, it is as bad as the group's worst
image. A whole image would give the bounds of Gaffke (2005, Mathematical Methods of Statistics 14),
and the interval of Clopper and Pearson if images give all or nothing; both cover more often than
the nominal level. The size of the part was chosen by measured coverage: docs/uncertainty.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmvaluator.arguments import proper_share, whole_number
from gmvaluator.errors import InputError
from gmvaluator.scoring.scores import Contributions

Floats = NDArray[np.float64]

DEFAULT_COVERAGE = 0.95
DEFAULT_RESAMPLES = 2000
FEW = 5.0
"""With fewer effective images, the interval of a value is usually wider than necessary
(docs/uncertainty.md)."""

SHARE_EXTRA, VALUE_EXTRA = 0.75, 0.5
"""Size of the part of one more image, for the intervals of shares and of values."""

BLOCK = 1 << 22
"""Length of the largest intermediate arrays: 32 MB."""


@dataclass(frozen=True)
class Interval:
    """A mean over independent repetitions, with its confidence interval."""

    mean: float
    low: float
    high: float
    n: int

    def shown(self, digits: int) -> str:
        """As text, `mean ± half`; the mean alone where there is no interval."""
        mean = f"{self.mean:.{digits}f}"
        if math.isnan(self.low):
            return mean
        return f"{mean} ± {(self.high - self.low) / 2:.{digits}f}"


def bootstrap_shares(
    scores_by_group: ArrayLike,
    *,
    largest: ArrayLike | None = None,
    totals: ArrayLike | None = None,
    level: float = DEFAULT_COVERAGE,
    n_resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Confidence intervals of each group's share of all scores → low (G,), high (G,).

    The share of group g is Σ_j s_jg / Σ_j t_j for totals t. The interval is for the share that a
    very large number of images of the same model would give.

    Args:
        scores_by_group: (m, G), score of each generated image for each group, ≥ 0.
        largest: (m,) score of each generated image for its first contributor, such as
            `contributions.scores.max(axis=1)`: the most that one more image may give a group with
            few scores. Default: the whole image, which makes the intervals of small groups wide.
        totals: (m,) sum of each generated image's scores, at least the sum of its columns, if the
            columns are a part of all groups. Default: the sums of the columns.
        level: nominal coverage, between 0 and 1.
        n_resamples: number of weightings of the m images.
        seed: seed of the weights.

    Raises:
        InputError: fewer than two generated images, no score at all, scores that are negative or
            not finite, shapes that do not fit, or a level outside 0 to 1.
    """
    level = proper_share("level", level, DEFAULT_COVERAGE)
    n_resamples, seed = whole_number("n_resamples", n_resamples, 1), whole_number("seed", seed, 0)
    scores = np.asarray(scores_by_group, dtype=np.float64)
    if scores.ndim != 2:
        raise InputError(f"scores have shape {scores.shape}; pass (generated images, groups)")
    _check(scores)
    whole = scores.sum(axis=1) if totals is None else _per_image(totals, len(scores), "totals")
    if whole.sum() == 0:
        raise InputError("no generated image has a score, so there is nothing to have a share of")
    # an image without a score does not show how the scores of an image are shared
    scoring = whole > 0
    parts = scores[scoring] / whole[scoring, None]
    first = 1.0
    if largest is not None:
        largest_scores = _per_image(largest, len(scores), "largest")
        first = float(np.clip(largest_scores[scoring] / whole[scoring], 0, 1).mean())
    worst, best = parts.min(axis=0), np.maximum(parts.max(axis=0), first)
    ends = [
        _share_ends(scores[:, part], whole, (worst[part], best[part]), level, n_resamples, seed)
        for part in _slices(scores.shape[1], max(1, BLOCK // n_resamples))
    ]
    shares = scores.sum(axis=0) / whole.sum()
    low, high = (np.concatenate(blocks) for blocks in zip(*ends, strict=True))
    return np.minimum(low, shares), np.maximum(high, shares)


def value_intervals(
    contributions: Contributions, *, level: float = DEFAULT_COVERAGE
) -> tuple[Floats, Floats]:
    """Confidence intervals of all n values → low (n,), high (n,).

    The interval is for the value that m images of the same model give on average. The value that
    m other images give lies in the interval less often, because it scatters as well. Values grow
    with m: compare intervals of runs with the same m.

    `bootstrap_shares` draws weighted sums. Here a beta distribution between the least and the
    greatest score has their mean and variance. This takes O(m·k) time and holds no resamples.

    Args:
        contributions: scores ≥ 0 of m generated images.
        level: nominal coverage, between 0 and 1.

    Raises:
        InputError: fewer than two generated images, scores that are negative or not finite, or a
            level outside 0 to 1.
    """
    level = proper_share("level", level, DEFAULT_COVERAGE)
    scores = contributions.scores
    _check(scores)
    m, n = len(scores), contributions.n_train
    rows = contributions.rows.ravel()
    sums, squares = _sums(contributions)
    worst, best = np.full(n, np.inf), np.zeros(n)
    np.maximum.at(best, rows, scores.ravel())
    np.minimum.at(worst, rows, scores.ravel())
    # a training image that does not contribute to some generated image has score 0 for it
    worst[np.bincount(rows, minlength=n) < m] = 0.0
    best = np.maximum(best, scores.max(axis=1).mean())
    tail, part, bounds = (1 - level) / 2, VALUE_EXTRA, (worst, best)
    low, high = (
        m * _matched_quantile(sums + part * end, squares + part * end**2, m + part, bounds, at)
        for end, at in ((worst, tail), (best, 1 - tail))
    )
    return np.minimum(low, sums), np.maximum(high, sums)


def bootstrap_interval(parts: ArrayLike, level: float = 0.95, seed: int = 0) -> Interval:
    """Mean of a criterion over generated images, with its bootstrap interval over the images.

    The criteria are `class_ratio`, `weighted_class_share` and `attribute_ratio`. Images without a
    share (NaN) do not count. For repetitions of a whole study, use `mean_interval`.

    Args:
        parts: (m,) the criterion of each generated image, 0 … 1.
        level: nominal coverage.
        seed: seed of the images' weights.

    Raises:
        InputError: fewer than two images, or parts outside 0 … 1.
    """
    shares = np.asarray(parts, dtype=np.float64).ravel()
    shares = shares[~np.isnan(shares)]
    if bool(np.any((shares < 0) | (shares > 1))):
        raise InputError("parts of generated images must lie between 0 and 1; see class_ratio")
    complements = np.column_stack([shares, 1 - shares])
    # a criterion has no first contributor: the best image bounds what one more image could add
    low, high = bootstrap_shares(complements, largest=np.zeros(len(shares)), level=level, seed=seed)
    return Interval(float(shares.mean()), float(low[0]), float(high[0]), len(shares))


def effective_images(contributions: Contributions) -> Floats:
    """(n,) effective number of generated images behind each value: (Σ s)² / Σ s²; 0 for none.

    Source: Kish (1965), Survey Sampling, on unequal weights.
    """
    sums, squares = _sums(contributions)
    effective: Floats = np.zeros(len(sums))
    np.divide(sums**2, squares, out=effective, where=squares > 0)
    return effective


def _sums(contributions: Contributions) -> tuple[Floats, Floats]:
    """(n,) sum and (n,) sum of squares of each training image's scores."""
    rows, n = contributions.rows.ravel(), contributions.n_train
    scores = contributions.scores.ravel()
    sums, squares = (
        np.bincount(rows, weights=weights, minlength=n).astype(np.float64)
        for weights in (scores, np.square(scores))
    )
    return sums, squares


def _share_ends(
    scores: Floats,
    totals: Floats,
    extra: tuple[Floats, Floats],
    level: float,
    n_resamples: int,
    seed: int,
) -> tuple[Floats, Floats]:
    """Ends of the intervals of some groups, from the weights that all groups share."""
    tail, more = (1 - level) / 2, totals.mean()
    drawn: tuple[list[Floats], list[Floats]] = ([], [])
    for weights in _weights(len(scores), n_resamples, seed):
        seen, one = weights[:, :-1] @ scores, more * weights[:, -1:]
        whole = (weights[:, :-1] @ totals)[:, None] + one
        for end, part in zip(drawn, extra, strict=True):
            end.append((seen + one * part) / whole)
    low, high = (
        np.quantile(np.concatenate(end), at, axis=0)
        for end, at in zip(drawn, (tail, 1 - tail), strict=True)
    )
    return low, high


def _weights(m: int, n_resamples: int, seed: int) -> Iterator[Floats]:
    """Blocks of (b, m + 1) gamma numbers: Dirichlet weights once divided by their sums.

    The last column belongs to the part of one more image, the other columns to the m images.
    """
    random, shape = np.random.default_rng(seed), np.append(np.ones(m), SHARE_EXTRA)
    for block in _slices(n_resamples, max(1, BLOCK // (m + 1))):
        yield random.standard_gamma(shape, (block.stop - block.start, m + 1))


def _matched_quantile(
    sums: Floats, squares: Floats, count: float, bounds: tuple[Floats, Floats], at: float
) -> Floats:
    """(n,) quantile of the mean of `count` numbers under Dirichlet weights.

    Exact if every number equals one of the bounds; matched in mean and variance otherwise. A
    number that counts as a part of one adds that part of its square.

    Args:
        sums, squares: (n,) sums of the numbers and of their squares.
        count: how many numbers there are, zeros included.
        bounds: (n,) least and (n,) greatest number.
        at: the quantile, 0 … 1.
    """
    from scipy.special import betaincinv

    low, high = bounds
    span = np.where(high > low, high - low, 1.0)
    mean = (sums / count - low) / span
    spread = (squares - 2 * low * sums + count * low**2) / (count * span**2) - mean**2
    variance = spread / (count + 1)
    certain = (variance <= 0) | (mean <= 0) | (mean >= 1)
    size = np.divide(mean * (1 - mean), variance, out=np.full_like(mean, 2.0), where=~certain) - 1
    safe = np.where(certain, 0.5, mean)
    # most training images of a large set have no score, and so the same two parameters
    pairs, back = np.unique(np.stack([safe * size, (1 - safe) * size]), axis=1, return_inverse=True)
    quantiles = betaincinv(pairs[0], pairs[1], at)[back.ravel()]
    return np.asarray(low + span * np.where(certain, mean, quantiles), dtype=np.float64)


def _per_image(scores: ArrayLike, m: int, name: str) -> Floats:
    numbers = np.asarray(scores, dtype=np.float64)
    if numbers.shape != (m,):
        raise InputError(
            f"{name} has shape {numbers.shape}; pass one score for each of the {m} generated images"
        )
    return numbers


def _slices(n: int, step: int) -> Iterator[slice]:
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _check(scores: Floats) -> None:
    if len(scores) < 2:
        raise InputError(
            f"{len(scores)} generated image has no interval, because it does not show how much "
            "scores vary; pass at least 2"
        )
    if not bool(np.all(np.isfinite(scores) & (scores >= 0))):
        raise InputError(
            "scores must be finite and not negative; intervals are for shares of such scores"
        )
