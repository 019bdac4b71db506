"""How well two valuations agree, and contributors with the generated image they are of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmvaluator.arguments import whole_number
from gmvaluator.errors import InputError
from gmvaluator.runs.valuation import Valuation

Floats = NDArray[np.float64]


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's correlation of two valuations of the same images; NaN if one is constant."""
    columns = [np.asarray(values, dtype=np.float64)[:, None] for values in (first, second)]
    return float(rank_correlations(*columns)[0])


def rank_correlations(first: Floats, second: Floats) -> Floats:
    """Spearman's correlation of each column of (s, m) with the same column of another → (m,).

    NaN where one of the two columns is constant. `scipy.stats.spearmanr` would correlate each of
    the 2m columns with every other one.
    """
    from scipy.stats import rankdata

    ranks = [rankdata(values, axis=0) for values in (first, second)]
    centred = [columns - columns.mean(axis=0) for columns in ranks]
    squares = [np.square(columns).sum(axis=0) for columns in centred]
    norms = np.sqrt(squares[0] * squares[1])  # one root: equal columns then give exactly 1
    correlations: Floats = np.full(len(norms), np.nan)
    np.divide((centred[0] * centred[1]).sum(axis=0), norms, out=correlations, where=norms > 0)
    return correlations


def common_top(first: ArrayLike, second: ArrayLike, top: int) -> float:
    """Share of the `top` highest values that two valuations of the same images have in common.

    Equal values count in the order of the images. With fewer than `top` images, all count.

    Raises:
        InputError: `top` is no whole number ≥ 1.
    """
    top = whole_number("top", top, 1)
    mine, theirs = (
        np.argsort(-np.asarray(values), kind="stable")[:top] for values in (first, second)
    )
    return len(np.intersect1d(mine, theirs)) / len(mine)


def contributor_overlap(first: NDArray[np.int64], second: NDArray[np.int64]) -> Floats:
    """Share of each generated image's k contributors that two valuations have in common → (m,).

    Raises:
        InputError: the shapes differ.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise InputError(f"contributors {first.shape} and {second.shape}; pass two of (m, k)")
    common = [len(np.intersect1d(a, b)) for a, b in zip(first, second, strict=True)]
    return np.asarray(np.array(common) / first.shape[1], dtype=np.float64)


def class_ratio(
    contributor_labels: NDArray[Any], generated_labels: NDArray[Any], k: int | None = None
) -> Floats:
    """Share of each generated image's first k contributors that have its class (C1) → (m,).

    Args:
        contributor_labels: (m, c) labels of the contributors, best first.
        generated_labels: (m,) labels of the generated images.
        k: number of contributors that count. Default: all c.

    Raises:
        InputError: k exceeds c, or the shapes do not fit.
    """
    same = same_label(contributor_labels, generated_labels, k)
    return np.asarray(same.mean(axis=1), dtype=np.float64)


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
    same = np.where(same_label(contributor_labels, generated_labels), scores, 0.0).sum(axis=1)
    shares: Floats = np.full(len(total), np.nan)
    np.divide(same, total, out=shares, where=total > 0)
    return shares


def same_label(
    of_contributors: NDArray[Any], of_generated: NDArray[Any], k: int | None = None
) -> NDArray[np.bool_]:
    """Whether each of the first k contributors has the label of its generated image → (m, k).

    Args:
        of_contributors: (m, c) labels, best contributor first.
        of_generated: (m,) labels.
        k: number of contributors that count. Default: all c.

    Raises:
        InputError: k exceeds c, or the shapes do not fit.
    """
    of_contributors, of_generated = np.asarray(of_contributors), np.asarray(of_generated)
    if of_contributors.ndim != 2 or of_generated.shape != of_contributors.shape[:1]:
        raise InputError(
            f"labels of contributors have shape {of_contributors.shape} and of generated images "
            f"{of_generated.shape}; pass (m, k) and (m,)"
        )
    c = of_contributors.shape[1]
    if k is not None and not 1 <= whole_number("k", k, 0) <= c:
        raise InputError(f"k={k} of {c} contributors; pass 1 ≤ k ≤ {c}")
    return np.asarray(of_contributors[:, :k] == of_generated[:, None])


def contributor_labels(valuation: Valuation) -> NDArray[np.object_]:
    """(m, k) labels of the contributors, best first."""
    labels = np.asarray(valuation.train_labels, dtype=object)
    return np.asarray(labels[valuation.contributions.rows], dtype=object)


def generated_labels(valuation: Valuation) -> NDArray[np.object_]:
    """(m,) labels of the generated images."""
    return np.asarray(valuation.generated_labels, dtype=object)
