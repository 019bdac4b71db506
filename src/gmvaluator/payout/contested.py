"""Copies of one image with different owners or different shares.

The copies of a cluster share its value by files. So a person who uploads somebody's image again
gets a part of the image's value. The images do not show whose claim is right; therefore such
clusters are listed before money is paid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmvaluator.payout.owners import SHARE_TOLERANCE, UNASSIGNED, Ownership
from gmvaluator.scoring.scores import Contributions, sum_values
from gmvaluator.shown import short_repr

Part = tuple[int, float]


@short_repr
@dataclass(frozen=True)
class Contested:
    """A cluster of copies whose images have different owners or shares.

    Attributes:
        representative: training image that stands for the cluster.
        rows: training images of the cluster, without those that were withdrawn.
        claims: owners of each image with their shares; `UNASSIGNED` with 1 if nobody owns it.
        value: sum of the cluster's scores.
    """

    representative: int
    rows: tuple[int, ...]
    claims: tuple[tuple[tuple[str, float], ...], ...]
    value: float

    @property
    def owners(self) -> tuple[str, ...]:
        """All owners of the cluster's images, sorted."""
        return tuple(sorted({name for claim in self.claims for name, _ in claim}))


def contested(
    ownership: Ownership,
    contributions: Contributions,
    representatives: NDArray[np.int64],
) -> tuple[Contested, ...]:
    """Clusters of copies with different owners or shares, the most valuable first.

    Clusters without a score are left out, because they concern no money.

    Args:
        ownership: of the n training images.
        contributions: (m, k) scores to settle.
        representatives: (n,) representative of each training image's cluster.
    """
    n, stays = ownership.n_train, ownership.stays
    values = sum_values(contributions)
    sizes = np.bincount(representatives[stays], minlength=n)
    copies = stays & (sizes[representatives] > 1) & (values[representatives] > 0)
    claims: dict[int, list[Part]] = {int(row): [] for row in np.flatnonzero(copies)}
    # entries of an ownership are ordered by image and owner
    for entry in np.flatnonzero(copies[ownership.rows]).tolist():
        part = (int(ownership.groups[entry]), float(ownership.shares[entry]))
        claims[int(ownership.rows[entry])].append(part)
    clusters: dict[int, list[int]] = {}
    for row in claims:
        clusters.setdefault(int(representatives[row]), []).append(row)
    disputes = [
        Contested(
            leader,
            tuple(rows),
            tuple(_named(claims[row], ownership) for row in rows),
            float(values[leader]),
        )
        for leader, rows in clusters.items()
        if not all(_same(claims[rows[0]], claims[row]) for row in rows[1:])
    ]
    return tuple(sorted(disputes, key=lambda cluster: (-cluster.value, cluster.representative)))


def _same(one: Sequence[Part], other: Sequence[Part]) -> bool:
    """Whether two images have the same owners with the same shares."""
    return len(one) == len(other) and all(
        mine[0] == theirs[0] and abs(mine[1] - theirs[1]) <= 2 * SHARE_TOLERANCE
        for mine, theirs in zip(one, other, strict=True)
    )


def _named(claim: Sequence[Part], ownership: Ownership) -> tuple[tuple[str, float], ...]:
    return tuple((ownership.owners[group], share) for group, share in claim) or ((UNASSIGNED, 1.0),)
