"""The criteria as plain functions on arrays, for anyone to import.

C1 (identical class) and C2 (identical attributes) look at contributors, C3 (out of distribution)
and Appendix D at values (Yang et al., ICLR 2025, section 5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmvaluator.certainty.intervals import bootstrap_shares
from gmvaluator.errors import InputError

Floats = NDArray[np.float64]


def class_ratio(
    contributor_labels: NDArray[Any], generated_labels: NDArray[Any], k: int | None = None
) -> Floats:
    """Share of each generated image's first k contributors that have its class (C1) → (m,).

    Args:
        contributor_labels: (m, c) labels of the contributors, best first.
        generated_labels: (m,) labels of the generated images.
        k: contributors to look at (default: all c).

    Raises:
        InputError: k exceeds c, or the shapes do not fit.
    """
    same = _same(contributor_labels, generated_labels)
    return np.asarray(same[:, : _depth(k, same.shape[1])].mean(axis=1), dtype=np.float64)


def weighted_class_share(
    contributor_labels: NDArray[Any], generated_labels: NDArray[Any], scores: Floats
) -> Floats:
    """Share of each generated image's scores that its own class received → (m,).

    NaN where an image has no score to share (its quality is 0).

    Args:
        contributor_labels: (m, c), best first.
        generated_labels: (m,).
        scores: (m, c), not negative.
    """
    total = scores.sum(axis=1)
    own = np.where(_same(contributor_labels, generated_labels), scores, 0.0).sum(axis=1)
    shares: Floats = np.full(len(total), np.nan)
    np.divide(own, total, out=shares, where=total > 0)
    return shares


def attribute_ratio(
    contributor_attributes: Sequence[NDArray[Any]],
    generated_attributes: Sequence[NDArray[Any]],
    k: int | None = None,
) -> Floats:
    """Share of the first k contributors that agree in every attribute (C2) → (m,).

    Args:
        contributor_attributes: for each attribute, its (m, c) values, best contributor first.
        generated_attributes: for each attribute, its (m,) values, in the same order.
        k: contributors to look at (default: all c).

    Raises:
        InputError: no attribute, another number on both sides, or shapes that do not fit.
    """
    if not contributor_attributes or len(contributor_attributes) != len(generated_attributes):
        raise InputError(
            f"{len(contributor_attributes)} attributes of contributors and "
            f"{len(generated_attributes)} of generated images; pass the same, at least one"
        )
    same = np.logical_and.reduce(
        [
            _same(of_contributors, of_generated)
            for of_contributors, of_generated in zip(
                contributor_attributes, generated_attributes, strict=True
            )
        ]
    )
    return np.asarray(same[:, : _depth(k, same.shape[1])].mean(axis=1), dtype=np.float64)


def chance_ratio(train_labels: NDArray[Any], generated_labels: NDArray[Any]) -> float:
    """The class ratio that contributors drawn at random would have on average."""
    names, counts = np.unique(train_labels, return_counts=True)
    share = dict(zip(names.tolist(), (counts / counts.sum()).tolist(), strict=True))
    return float(np.mean([share.get(label, 0.0) for label in generated_labels.tolist()]))


def auroc(values: ArrayLike, positive: ArrayLike) -> float:
    """Probability that a positive has a higher value than a negative; ties count half.

    For C3 pass the *negated* values and which images are out of distribution: 1 means that all of
    them rank below every other image.

    Args:
        values: (n,) numbers.
        positive: (n,) bool, some of each kind.

    Raises:
        InputError: shapes differ, or one kind is missing.
    """
    from scipy.stats import rankdata

    numbers, chosen = np.asarray(values, dtype=np.float64), np.asarray(positive, dtype=bool)
    if numbers.shape != chosen.shape or numbers.ndim != 1:
        raise InputError(f"values {numbers.shape} and positive {chosen.shape}; pass two of (n,)")
    n_positive = int(chosen.sum())
    n_negative = len(chosen) - n_positive
    if min(n_positive, n_negative) == 0:
        raise InputError(f"{n_positive} positives and {n_negative} negatives; pass some of each")
    above = rankdata(numbers)[chosen].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def average_ranks(values: ArrayLike) -> Floats:
    """Rank of each value, 1 = highest; equal values share the mean of their ranks → (n,)."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-np.asarray(values, dtype=np.float64)), dtype=np.float64)


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


def mean_interval(samples: ArrayLike, level: float = 0.95) -> Interval:
    """Mean and Student-t confidence interval of independent repetitions (seeds).

    A single repetition has no interval: low and high are NaN.

    Raises:
        InputError: no number at all.
    """
    from scipy.stats import t

    numbers = np.asarray(samples, dtype=np.float64).ravel()
    n = len(numbers)
    if n == 0:
        raise InputError("no repetition to take a mean of; pass at least one number")
    mean = float(numbers.mean())
    if n == 1:
        return Interval(mean, float("nan"), float("nan"), 1)
    half = float(t.ppf((1 + level) / 2, n - 1) * numbers.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def bootstrap_interval(parts: ArrayLike, level: float = 0.95, seed: int = 0) -> Interval:
    """Mean of a criterion over generated images, with its bootstrap interval over these.

    For what `class_ratio`, `weighted_class_share` and `attribute_ratio` return; images without a
    share (NaN) are left out. Repetitions of a whole study have `mean_interval`.

    Args:
        parts: (m,) of each generated image, 0 … 1.
        level: nominal coverage.
        seed: of the weights of the images.

    Raises:
        InputError: fewer than two images, or parts outside 0 … 1.
    """
    found = np.asarray(parts, dtype=np.float64).ravel()
    found = found[~np.isnan(found)]
    if bool(np.any((found < 0) | (found > 1))):
        raise InputError("parts of generated images must lie between 0 and 1; see class_ratio")
    halves = np.column_stack([found, 1 - found])
    # no first contributor to think of: the best image seen says what another one could add
    low, high = bootstrap_shares(halves, largest=np.zeros(len(found)), level=level, seed=seed)
    return Interval(float(found.mean()), float(low[0]), float(high[0]), len(found))


@dataclass(frozen=True)
class GroupTest:
    """Two groups of values compared (Appendix D, Table 6).

    Attributes:
        t: Welch's statistic, positive where the first group's mean is higher.
        log10_p: of the two-sided p-value; a logarithm, since p underflows below 1e-308.
        effect: Cohen's d, difference of the means in pooled standard deviations.
        means: of both groups.
    """

    t: float
    log10_p: float
    effect: float
    means: tuple[float, float]


def welch_test(first: ArrayLike, second: ArrayLike) -> GroupTest:
    """Welch's t-test of two independent groups of values.

    Raises:
        InputError: a group of fewer than two values, or no variance in both.
    """
    from scipy.stats import t as student

    groups = [np.asarray(group, dtype=np.float64).ravel() for group in (first, second)]
    sizes = [len(group) for group in groups]
    if min(sizes) < 2:
        raise InputError(f"groups of {sizes[0]} and {sizes[1]} values; pass at least 2 in each")
    means = [float(group.mean()) for group in groups]
    variances = [float(group.var(ddof=1)) for group in groups]
    errors = [variance / size for variance, size in zip(variances, sizes, strict=True)]
    if sum(errors) == 0:
        raise InputError("all values of both groups are equal, so no test applies")
    statistic = (means[0] - means[1]) / np.sqrt(sum(errors))
    freedom = sum(errors) ** 2 / sum(
        error**2 / (size - 1) for error, size in zip(errors, sizes, strict=True)
    )
    log_p = np.log(2) + student.logsf(abs(statistic), freedom)
    pooled = np.sqrt(
        sum((size - 1) * variance for size, variance in zip(sizes, variances, strict=True))
        / (sum(sizes) - 2)
    )
    return GroupTest(
        t=float(statistic),
        log10_p=float(log_p / np.log(10)),
        effect=float((means[0] - means[1]) / pooled),
        means=(means[0], means[1]),
    )


def linear_datamodeling_score(scores: Floats, subsets: NDArray[np.bool_], losses: Floats) -> Floats:
    """How well summed scores foretell what retraining on subsets does (LDS) → (m,).

    For each generated image, Spearman's correlation over subsets S between Σ_{i ∈ S} score_ij and
    the fall of its loss (Ilyas et al. 2022, section 3.2; Park et al. 2023, Eq. 4). NaN where
    either is the same for every subset.

    Args:
        scores: (n, m), `Valuation.score_matrix`.
        subsets: (s, n), the training images of each.
        losses: (s, m) of models trained on them.

    Raises:
        InputError: shapes that do not fit, or fewer than two subsets.
    """
    s, n = subsets.shape
    if s < 2 or scores.shape[0] != n or losses.shape != (s, scores.shape[1]):
        raise InputError(
            f"scores {scores.shape}, subsets {subsets.shape} and losses {losses.shape}; pass "
            "(n, m), (s, n) and (s, m) of at least 2 subsets"
        )
    return _rank_correlations(subsets.astype(np.float64) @ scores, -losses)


@dataclass(frozen=True)
class NoiseCeiling:
    """How far losses of the same subset agree between trainings, and what follows from it.

    Attributes:
        agreement: Spearman's correlation over subsets of two independent trainings' losses, mean
            of all pairs and images with its interval over images.
        attainable: the correlation that the losses' true expectation would have with their mean
            over the seeds: √(R·a / (1 + (R − 1)·a)) for R seeds of agreement a (Spearman, 1910;
            Brown, 1910). No score can be expected to exceed it.
    """

    agreement: Interval
    attainable: float

    def share(self, score: Interval) -> float:
        """A mean LDS as a share of what is attainable; NaN where nothing is."""
        return score.mean / self.attainable if self.attainable else math.nan


def noise_ceiling(losses: NDArray[np.float64]) -> NoiseCeiling:
    """From losses of (subsets, seeds, m).

    Raises:
        InputError: a single seed or subset: nothing to compare.
    """
    if losses.ndim != 3 or min(losses.shape[:2]) < 2:
        raise InputError(f"losses {losses.shape}; pass (subsets, seeds, m), at least 2 of both")
    seeds = losses.shape[1]
    pairs = [(a, b) for a in range(seeds) for b in range(a)]
    each = np.mean([_rank_correlations(losses[:, a], losses[:, b]) for a, b in pairs], axis=0)
    agreement = mean_interval(each)
    common = max(0.0, agreement.mean)
    return NoiseCeiling(agreement, math.sqrt(seeds * common / (1 + (seeds - 1) * common)))


def _rank_correlations(first: Floats, second: Floats) -> Floats:
    """Spearman's correlation of each column of (s, m) with the other's → (m,)."""
    ranks = [np.apply_along_axis(average_ranks, 0, each) for each in (first, second)]
    centred = [each - each.mean(axis=0) for each in ranks]
    spread = np.sqrt([np.square(each).sum(axis=0) for each in centred]).prod(axis=0)
    common = (centred[0] * centred[1]).sum(axis=0)
    found: Floats = np.full(len(common), np.nan)
    np.divide(common, spread, out=found, where=spread > 0)
    return found


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's correlation of two valuations of the same images; NaN if one is constant."""
    columns = [np.asarray(each, dtype=np.float64)[:, None] for each in (first, second)]
    return float(_rank_correlations(*columns)[0])


def common_top(first: ArrayLike, second: ArrayLike, top: int) -> float:
    """Share of the `top` highest values that two valuations of the same images have in common.

    Equal values by position; all images where there are fewer than `top`.
    """
    columns = [np.asarray(each, dtype=np.float64) for each in (first, second)]
    kept = min(top, len(columns[0]))
    mine, theirs = (np.argsort(-values, kind="stable")[:kept] for values in columns)
    return len(np.intersect1d(mine, theirs)) / kept


def contributor_overlap(first: NDArray[np.int64], second: NDArray[np.int64]) -> Floats:
    """Share of each generated image's k contributors that two valuations have in common → (m,).

    Raises:
        InputError: the shapes differ.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise InputError(f"contributors {first.shape} and {second.shape}; pass two of (m, k)")
    common = [len(np.intersect1d(a, b)) for a, b in zip(first, second, strict=True)]
    return np.asarray(np.array(common) / first.shape[1], dtype=np.float64)


def shares_of_total(scores: Floats, nothing: float = 0.0) -> Floats:
    """(m, k) scores as parts of their row's sum; `nothing` where a row has none."""
    total = scores.sum(axis=1, keepdims=True)
    shares: Floats = np.full(scores.shape, nothing)
    np.divide(scores, total, out=shares, where=total > 0)
    return shares


def perplexity(scores: Floats) -> Floats:
    """How many equal contributors would share as evenly: exp of the entropy of (m, k) → (m,).

    NaN for an image without any score.
    """
    shares = shares_of_total(scores)
    logarithms = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    even = np.exp(-(shares * logarithms).sum(axis=1))
    even[scores.sum(axis=1) == 0] = np.nan
    return np.asarray(even, dtype=np.float64)


def _same(of_contributors: NDArray[Any], of_generated: NDArray[Any]) -> NDArray[np.bool_]:
    of_contributors, of_generated = np.asarray(of_contributors), np.asarray(of_generated)
    if of_contributors.ndim != 2 or of_generated.shape != of_contributors.shape[:1]:
        raise InputError(
            f"labels of contributors have shape {of_contributors.shape} and of generated images "
            f"{of_generated.shape}; pass (m, k) and (m,)"
        )
    return np.asarray(of_contributors == of_generated[:, None])


def _depth(k: int | None, held: int) -> int:
    if k is None:
        return held
    if not 1 <= k <= held:
        raise InputError(f"k={k} of {held} contributors; pass 1 ≤ k ≤ {held}")
    return k
