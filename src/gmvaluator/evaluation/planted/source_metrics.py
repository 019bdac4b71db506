"""Measures of contributors and scores against known sources, as functions on arrays.

In every function, (m, k) `rows` are the contributors of generated images, best first. (m, k)
`shares` are the contributors' shares of their image's score. (m, s) `sources` are the rows of the
true sources, −1 for none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.evaluation.metrics import shares_of_total

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

FIRST = 10  # contributors among which a source counts as found
# doubling: fifty contributors that share evenly have 0.02 each, a sure one has 1
BIN_EDGES = (0.0, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)


def score_shares(scores: Floats) -> Floats:
    """(m, k) scores, none below 0, as parts of their image's; NaN where all of them are 0.

    Raises:
        InputError: a negative score, which is no part of anything.
    """
    if (scores < 0).any():
        raise InputError("negative scores have no shares; pass those of a GMValuator")
    return shares_of_total(scores, np.nan)


def found_sources(rows: Rows, sources: Rows, first: int) -> NDArray[np.bool_]:
    """(m, s) whether each source is among the first contributors.

    Raises:
        InputError: more than there are contributors.
    """
    if not 1 <= first <= rows.shape[1]:
        raise InputError(
            f"first {first} of {rows.shape[1]} contributors; pass as many as there are"
        )
    same = rows[:, None, :first] == sources[:, :, None]
    return np.asarray(same.any(axis=2))


def source_shares(rows: Rows, shares: Floats, sources: Rows) -> Floats:
    """(m, s) share of the score of each source. 0 for a source that is no contributor."""
    same = rows[:, None, :] == sources[:, :, None]
    # not by multiplying alone: an image without shares stays NaN
    return np.asarray((same * shares[:, None, :]).sum(axis=2), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predictions by confidence: their mean confidence and how often they are right.

    Attributes:
        counts: (b,) number of predictions in each bin of `BIN_EDGES`, lower edge excluded.
        confidence: (b,) sum of their confidences.
        right: (b,) number of right predictions.
    """

    counts: NDArray[np.int64]
    confidence: Floats
    right: NDArray[np.int64]

    @staticmethod
    def of(confidence: Floats, right: NDArray[np.bool_]) -> Reliability:
        """From predictions of any shape. Predictions of confidence NaN do not count."""
        scored, correct = confidence[~np.isnan(confidence)], right[~np.isnan(confidence)]
        # a sum of shares may exceed 1 by rounding
        places = np.searchsorted(BIN_EDGES[1:-1], scored, side="left")
        bins = len(BIN_EDGES) - 1
        return Reliability(
            np.bincount(places, minlength=bins),
            np.bincount(places, scored, minlength=bins).astype(np.float64),
            np.bincount(places[correct], minlength=bins),
        )

    @property
    def error(self) -> float:
        """Expected calibration error Σ_b (n_b / n) · |right_b / n_b − confidence_b / n_b|.

        Naeini et al. 2015, Guo et al. 2017 (arXiv 1706.04599, Eq. 3). NaN without predictions.
        """
        total = int(self.counts.sum())
        return float(np.abs(self.right - self.confidence).sum() / total) if total else float("nan")


def brier_scores(rows: Rows, shares: Floats, sources: Rows) -> Floats:
    """Σ_i (share_i − [i is the source])² over all training images: 0 best, 2 worst → (m,).

    Brier 1950. A share of all for the source gives 0; even shares are well calibrated and still
    bad, which calibration error does not tell.

    Args:
        rows, shares: see above.
        sources: (m, 1).
    """
    of_source = source_shares(rows, shares, sources)[:, 0]
    return np.asarray(np.square(shares).sum(axis=1) - 2 * of_source + 1, dtype=np.float64)


def split_of(of_sources: Floats) -> Floats:
    """(m,) first source's part of the score of both sources, from (m, 2). NaN if both have 0."""
    return shares_of_total(of_sources, np.nan)[:, 0]


def owner_shares(rows: Rows, scores: Floats, owners: Rows) -> Floats:
    """Each owner's part of all values, (owners,); NaN where all scores are 0.

    Args:
        rows, scores: (m, k).
        owners: (n,) owner of each training image, 0, 1, … .
    """
    summed = np.bincount(owners[rows.ravel()], scores.ravel(), minlength=int(owners.max()) + 1)
    total = summed.sum()
    return np.asarray(summed / total if total > 0 else np.full(len(summed), np.nan))
