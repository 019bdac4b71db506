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

from gmvaluator.arguments import proper_share
from gmvaluator.certainty.agreement import (
    class_ratio,
    common_top,
    contributor_overlap,
    rank_correlation,
    rank_correlations,
    same_label,
    weighted_class_share,
)
from gmvaluator.certainty.intervals import DEFAULT_COVERAGE, Interval, bootstrap_interval
from gmvaluator.errors import InputError

__all__ = [
    "GroupTest",
    "Interval",
    "NoiseCeiling",
    "attribute_ratio",
    "auroc",
    "average_ranks",
    "bootstrap_interval",
    "chance_ratio",
    "class_ratio",
    "common_top",
    "contributor_overlap",
    "linear_datamodeling_score",
    "mean_interval",
    "noise_ceiling",
    "perplexity",
    "rank_correlation",
    "score_by_others",
    "shares_of_total",
    "weighted_class_share",
    "welch_test",
]

Floats = NDArray[np.float64]
TURNS = 8  # other images that `score_by_others` takes scores of


def attribute_ratio(
    contributor_attributes: Sequence[NDArray[Any]],
    generated_attributes: Sequence[NDArray[Any]],
    k: int | None = None,
) -> Floats:
    """Share of the first k contributors that have every attribute of the generated image → (m,).

    The criterion C2, identical attributes.

    Args:
        contributor_attributes: for each attribute, its (m, c) values, best contributor first.
        generated_attributes: for each attribute, its (m,) values, in the same order.
        k: number of contributors that count. Default: all c.

    Raises:
        InputError: no attribute, different numbers of attributes, k exceeds c, or the shapes do not
            fit.
    """
    if not contributor_attributes or len(contributor_attributes) != len(generated_attributes):
        raise InputError(
            f"{len(contributor_attributes)} attributes of contributors and "
            f"{len(generated_attributes)} of generated images; pass the same, at least one"
        )
    same = np.logical_and.reduce(
        [
            same_label(of_contributors, of_generated, k)
            for of_contributors, of_generated in zip(
                contributor_attributes, generated_attributes, strict=True
            )
        ]
    )
    return np.asarray(same.mean(axis=1), dtype=np.float64)


def chance_ratio(train_labels: NDArray[Any], generated_labels: NDArray[Any]) -> float:
    """The class ratio that contributors drawn at random would have on average."""
    names, counts = np.unique(train_labels, return_counts=True)
    share = dict(zip(names.tolist(), (counts / counts.sum()).tolist(), strict=True))
    return float(np.mean([share.get(label, 0.0) for label in generated_labels.tolist()]))


def auroc(values: ArrayLike, positive: ArrayLike) -> float:
    """Probability that a positive has a higher value than a negative. Ties count half.

    For C3, pass the *negated* values as values and the images out of distribution as positives.
    Then 1 means that every image out of distribution ranks below every other image.

    Args:
        values: (n,) numbers.
        positive: (n,) bool, with at least one True and one False.

    Raises:
        InputError: shapes differ, or one kind is missing.
    """
    from scipy.stats import mannwhitneyu

    numbers, is_positive = np.asarray(values, dtype=np.float64), np.asarray(positive, dtype=bool)
    if numbers.shape != is_positive.shape or numbers.ndim != 1:
        raise InputError(
            f"values {numbers.shape} and positive {is_positive.shape}; pass two of (n,)"
        )
    first, second = numbers[is_positive], numbers[~is_positive]
    if not len(first) or not len(second):
        raise InputError(f"{len(first)} positives and {len(second)} negatives; pass some of each")
    pairs_above = mannwhitneyu(first, second, method="asymptotic").statistic
    return float(pairs_above / (len(first) * len(second)))


def average_ranks(values: ArrayLike) -> Floats:
    """Rank of each value, 1 = highest; equal values share the mean of their ranks → (n,)."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-np.asarray(values, dtype=np.float64)), dtype=np.float64)


def mean_interval(samples: ArrayLike, level: float = 0.95) -> Interval:
    """Mean and Student-t confidence interval of independent repetitions (seeds).

    A single repetition has no interval: low and high are NaN.

    Raises:
        InputError: no number at all, or a level outside 0 to 1.
    """
    from scipy.stats import t

    level = proper_share("level", level, DEFAULT_COVERAGE)
    numbers = np.asarray(samples, dtype=np.float64).ravel()
    n = len(numbers)
    if n == 0:
        raise InputError("no repetition to take a mean of; pass at least one number")
    mean = float(numbers.mean())
    if n == 1:
        return Interval(mean, float("nan"), float("nan"), 1)
    half = float(t.ppf((1 + level) / 2, n - 1) * numbers.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


@dataclass(frozen=True)
class GroupTest:
    """Two groups of values compared (Appendix D, Table 6).

    Attributes:
        t: Welch's statistic, positive where the first group's mean is higher.
        log10_p: logarithm of the two-sided p-value, since p underflows below 1e-308.
        effect: Cohen's d, difference of the means in pooled standard deviations.
        means: means of both groups.
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
    from scipy.stats import t, ttest_ind

    groups = [np.asarray(group, dtype=np.float64).ravel() for group in (first, second)]
    sizes = [len(group) for group in groups]
    if min(sizes) < 2:
        raise InputError(f"groups of {sizes[0]} and {sizes[1]} values; pass at least 2 in each")
    variances = [float(group.var(ddof=1)) for group in groups]
    if sum(variances) == 0:
        raise InputError("all values of both groups are equal, so no test applies")
    test = ttest_ind(*groups, equal_var=False)
    squares = sum((size - 1) * variance for size, variance in zip(sizes, variances, strict=True))
    means = (float(groups[0].mean()), float(groups[1].mean()))
    return GroupTest(
        t=float(test.statistic),
        # the p-value that `ttest_ind` gives underflows
        log10_p=float((np.log(2) + t.logsf(abs(test.statistic), test.df)) / np.log(10)),
        effect=float((means[0] - means[1]) / np.sqrt(squares / (sum(sizes) - 2))),
        means=means,
    )


def linear_datamodeling_score(scores: Floats, subsets: NDArray[np.bool_], losses: Floats) -> Floats:
    """Linear datamodeling score (LDS) of each generated image → (m,).

    The LDS is Spearman's correlation over subsets S between Σ_{i ∈ S} score_ij and the negative
    loss of generated image j under the model of S (Ilyas et al. 2022, section 3.2; Park et al.
    2023, Eq. 4). NaN if the sums or the losses are the same for every subset.

    Args:
        scores: (n, m) scores, such as `Valuation.score_matrix`.
        subsets: (s, n) bool, the training images of each subset, as many in each
            (`truth.ground_truth.random_subsets`). Where sizes vary, a larger subset has both a
            larger sum and a lower loss, so that random scores foretell losses.
        losses: (s, m) losses of the models trained on the subsets.

    Raises:
        InputError: the shapes do not fit, there are fewer than two subsets, or their sizes differ.
    """
    s, n = subsets.shape
    if s < 2 or scores.shape[0] != n or losses.shape != (s, scores.shape[1]):
        raise InputError(
            f"scores {scores.shape}, subsets {subsets.shape} and losses {losses.shape}; pass "
            "(n, m), (s, n) and (s, m) of at least 2 subsets"
        )
    sizes = np.count_nonzero(subsets, axis=1)
    if sizes.min() != sizes.max():
        raise InputError(
            f"the subsets hold {sizes.min()} to {sizes.max()} images, and larger sums of scores "
            "would foretell lower losses by size alone; pass subsets of one size"
        )
    return rank_correlations(subsets.astype(np.float64) @ scores, -losses)


def score_by_others(scores: Floats, subsets: NDArray[np.bool_], losses: Floats) -> float:
    """Mean LDS of each generated image by the scores of up to `TURNS` other generated images.

    The mean is near 0 if scores distinguish images. Scores that are similar for all images foretell
    only the common part of all losses. That LDS depends on the single draw of subsets, a chance
    that intervals over images do not show. NaN for a single image. Arguments: see
    `linear_datamodeling_score`.
    """
    m = scores.shape[1]
    if m < 2:
        return math.nan
    turns = np.unique(np.linspace(1, m - 1, min(TURNS, m - 1)).round().astype(np.int64))
    by_turn = [
        linear_datamodeling_score(np.roll(scores, turn, axis=1), subsets, losses) for turn in turns
    ]
    scores_of_others = np.array(by_turn)[~np.isnan(by_turn)]
    return float(scores_of_others.mean()) if len(scores_of_others) else math.nan


@dataclass(frozen=True)
class NoiseCeiling:
    """The agreement of losses between trainings on the same subset, and the best possible LDS.

    Attributes:
        agreement: Spearman's correlation over subsets between the losses of two independent
            trainings. The mean is over all pairs and images, the interval over images.
        attainable: the correlation that the losses' true expectation would have with their mean
            over the seeds: √(R·a / (1 + (R − 1)·a)) for R seeds of agreement a (Spearman, 1910;
            Brown, 1910). No score can be expected to exceed it.
    """

    agreement: Interval
    attainable: float

    def share(self, score: Interval) -> float:
        """A mean LDS as a share of `attainable`. NaN if `attainable` is 0."""
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
    agreements = np.mean([rank_correlations(losses[:, a], losses[:, b]) for a, b in pairs], axis=0)
    agreement = mean_interval(agreements)
    common = max(0.0, agreement.mean)
    return NoiseCeiling(agreement, math.sqrt(seeds * common / (1 + (seeds - 1) * common)))


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
    from scipy.special import entr

    counts = np.exp(entr(shares_of_total(scores)).sum(axis=1))
    return np.asarray(np.where(scores.sum(axis=1) > 0, counts, np.nan), dtype=np.float64)
