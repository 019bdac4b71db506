"""Exact Gaussian softmax over all patches of all training images, with memory for a few of them.

For a query patch q and key patches y, the weights are softmax(−‖q − y‖² / (2 · variance)) over all
keys. The sum of an image is the sum of its `best` greatest weights. Keys come a few images at a
time. Sums so far are relative to the greatest exponent so far (online softmax, Milakov & Gimelshein
2018, arXiv 1805.02867). Each block is one matrix product: ‖q‖² is the same for all keys and
cancels, so the exponents are (q · y − ‖y‖² / 2) / variance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gmvaluator.baselines.nda_patches import Floats

# Bound on the weights that are left out of a query's sums: per image, as a share of the mean weight
# of an image; over all images, as a share of all weights.
NEGLIGIBLE = 1e-5
_TILE = 512  # queries a product: its results stay in the processor's cache while they are read


class StreamedSoftmax:
    """Sums of weights of R queries over n images, each of P patches.

    Args:
        queries: (R, D) query patches.
        n: number of images that will be added.
        patches: P, number of patches per image.
        variance: variance of the Gaussian.
        best: number of weights per image that count.
    """

    def __init__(self, queries: Floats, n: int, patches: int, variance: float, best: int) -> None:
        bias = np.full((len(queries), 1), -0.5)
        self._queries = (np.hstack([queries, bias]) / variance).astype(queries.dtype)
        self._best = best
        self._patches = patches
        # an exponent further below the logarithm of all weights than this changes nothing
        self._depth = float(np.log(n * patches / NEGLIGIBLE))
        self._peak = np.full(len(queries), -np.inf, dtype=queries.dtype)
        self._total = np.zeros(len(queries))
        self._sums = np.zeros((len(queries), n), dtype=queries.dtype)

    def add(self, keys: Floats, start: int) -> None:
        """Add the (c, P, D) patches of images `start`, start + 1, …. Add each image once."""
        flat = keys.reshape(-1, keys.shape[2])
        lengths = np.einsum("ij,ij->i", flat, flat)[:, None]
        columns = np.hstack([flat, lengths]).T
        for first in range(0, len(self._queries), _TILE):
            self._add(slice(first, first + _TILE), columns, start)

    def shares(self) -> Floats:
        """(R, n) sums of weights of each image. All weights of a query sum to 1."""
        self._sums /= self._total.astype(self._sums.dtype)[:, None]
        self._total[:] = 1
        return self._sums

    def _add(self, rows: slice, columns: Floats, start: int) -> None:
        exponents = self._queries[rows] @ columns
        by_image = exponents.reshape(len(exponents), -1, self._patches)
        peaks = by_image.max(axis=2)
        self._rise(rows, peaks.max(axis=1))
        query, image = np.nonzero(peaks > self._floor(rows)[:, None])
        weights = by_image[query, image]
        weights -= self._peak[rows][query, None]
        np.exp(weights, out=weights)
        image_sums = weights.sum(axis=1)
        self._total[rows] += np.bincount(query, image_sums, minlength=len(exponents))
        if self._best < self._patches:
            image_sums = _sum_of_greatest(weights, self._best)
        self._sums[rows][query, start + image] = image_sums

    def _rise(self, rows: slice, peaks: Floats) -> None:
        """Rescale the sums so far to a greater peak."""
        higher = np.flatnonzero(peaks > self._peak[rows])
        new = np.maximum(peaks, self._peak[rows])
        shrink = np.exp(self._peak[rows] - new)[higher]
        self._total[rows][higher] *= shrink
        self._sums[rows][higher] *= shrink[:, None]
        self._peak[rows] = new

    def _floor(self, rows: slice) -> NDArray[np.floating]:
        """Least exponent that still counts, −∞ at first."""
        with np.errstate(divide="ignore"):
            return self._peak[rows] + np.log(self._total[rows]) - self._depth


def _sum_of_greatest(weights: Floats, best: int) -> Floats:
    """(r,) sums of the `best` greatest of each row of (r, P) weights. Sorts `weights` in place."""
    # a whole sort: with the processor's vector instructions it outruns numpy's partition
    weights.sort(axis=1)
    greatest: Floats = weights[:, -best:].sum(axis=1)
    return greatest
