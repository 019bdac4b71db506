"""Copies within a training set: clusters that count once and share what they are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.memory import once
from gmvaluator.shown import short_repr

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from scipy.sparse import csc_array

DEDUPS = ("none", "exact", "near")


@short_repr
@dataclass(frozen=True, eq=False)
class Clusters:
    """Which of n training images are copies of which: clusters, each around a representative.

    Attributes:
        representatives: (n,) int64, row of the image that stands for each; of a representative,
            and of an image without copies, its own.
        near: (n,) bool, whether an image is a near copy of its representative and not an exact one.
        distances: (n,) float32, distance of each to its representative; 0 of exact copies.
    """

    representatives: NDArray[np.int64]
    near: NDArray[np.bool_]
    distances: NDArray[np.float32]

    @staticmethod
    def exact(representatives: NDArray[np.int64]) -> Clusters:
        """Clusters of exact copies only."""
        n = len(representatives)
        return Clusters(representatives, np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.float32))

    @property
    @once
    def kept(self) -> NDArray[np.int64]:
        """(c,) rows of the representatives, ascending: the images that count."""
        return np.flatnonzero(self.representatives == np.arange(len(self.representatives)))

    @property
    @once
    def sizes(self) -> NDArray[np.int64]:
        """(n,) images in the cluster of each, itself included."""
        return np.bincount(self.representatives, minlength=len(self.near))[self.representatives]

    @property
    def copies(self) -> int:
        """Images that another one stands for."""
        return len(self.representatives) - len(self.kept)

    @property
    def groups(self) -> int:
        """Clusters of two images or more."""
        return int((self.sizes[self.kept] > 1).sum())

    def joined(
        self, representatives: NDArray[np.int64], distances: NDArray[np.float32]
    ) -> Clusters:
        """These clusters where those of the c kept images are merged.

        Args:
            representatives: (c,) for each kept image, which of the kept ones stands for it.
            distances: (c,) to it.
        """
        place = np.searchsorted(self.kept, self.representatives)
        near = representatives[place] != place
        return Clusters(
            self.kept[representatives[place]],
            np.asarray(self.near | near),
            np.where(near, distances[place], self.distances).astype(np.float32),
        )

    def shared(self, amounts: NDArray[Any]) -> NDArray[np.float64]:
        """(n, …) amounts of representatives, shared equally among the images of their clusters."""
        sizes = self.sizes.reshape(-1, *[1] * (amounts.ndim - 1))
        return np.asarray(amounts[self.representatives] / sizes, dtype=np.float64)

    def sparse_by_group(
        self, rows: NDArray[np.int64], scores: NDArray[np.float64], group: NDArray[np.int64]
    ) -> csc_array:
        """(m, g) sums of the scores of generated images by group of training image.

        A representative's score counts for the groups of all of its copies, each its part.

        Args:
            rows, scores: (m, k) representatives and their scores.
            group: (n,) number of each training image's group, 0 to g − 1.
        """
        from scipy.sparse import csr_array

        m, k = rows.shape
        n, g = len(self.near), int(group.max()) + 1
        score_matrix = csr_array(
            (scores.ravel(), (np.repeat(np.arange(m), k), rows.ravel())), (m, n)
        )
        parts = csr_array((1 / self.sizes, (self.representatives, group)), (n, g))
        return (score_matrix @ parts).tocsc()

    def table(self, ids: Sequence[str]) -> pa.Table:
        """Columns of `duplicates.parquet`: the images of clusters of two or more, by cluster."""
        import pyarrow as pa

        rows = np.flatnonzero(self.sizes > 1)
        leaders = self.representatives[rows]
        order = np.lexsort((rows, leaders != rows, leaders))
        rows, leaders = rows[order], leaders[order]
        return pa.table(
            {
                "cluster": pa.array(np.unique(leaders, return_inverse=True)[1], pa.int64()),
                "train_id": pa.array([ids[row] for row in rows.tolist()], pa.string()),
                "representative": pa.array(leaders == rows, pa.bool_()),
                "kind": pa.array(np.where(self.near[rows], "near", "exact").tolist(), pa.string()),
                "distance": pa.array(self.distances[rows], pa.float32()),
            }
        )

    @staticmethod
    def of_table(table: pa.Table, ids: Sequence[str]) -> Clusters:
        """What `table` was made of.

        Raises:
            KeyError, ValueError: the table names other images, or a cluster has not one
                representative.
        """
        row_of = {name: row for row, name in enumerate(ids)}
        rows = np.array([row_of[name] for name in table["train_id"].to_pylist()], dtype=np.int64)
        clusters = Clusters.exact(np.arange(len(ids)))
        if not len(rows):
            return clusters
        # lists: to make an array of its own, pyarrow imports pandas
        first = np.asarray(table["representative"].to_pylist(), dtype=np.bool_)
        numbers, cluster = np.unique(table["cluster"].to_pylist(), return_inverse=True)
        if len(np.unique(rows)) < len(rows) or not np.array_equal(
            np.sort(cluster[first]), np.arange(len(numbers))
        ):
            raise ValueError("a cluster of duplicates has not one representative")
        leader = np.empty(len(numbers), dtype=np.int64)
        leader[cluster[first]] = rows[first]
        clusters.representatives[rows] = leader[cluster]
        clusters.near[rows] = np.array(table["kind"].to_pylist()) == "near"
        clusters.distances[rows] = table["distance"].to_pylist()
        return clusters
