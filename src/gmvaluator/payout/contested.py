"""Copies of one image that have different owners, or the same with different shares.

A cluster of copies is shared out by files, so who uploads somebody's image again takes a part of
its value. Nothing in the images tells who is right: such clusters are listed before money is paid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmvaluator.payout.owners import SHARE_TOLERANCE, UNASSIGNED, Ownership
from gmvaluator.scoring.scores import Contributions, sum_values

Part = tuple[int, float]


@dataclass(frozen=True)
class Contested:
    """A cluster of copies whose images have different owners or shares.

    Attributes:
        representative: training image that stands for it.
        rows: its training images, those that were withdrawn left out.
        claims: one an image, the owners with their shares; `UNASSIGNED` with 1 where nobody owns
            it.
        value: of the whole cluster, the sum of its scores.
    """

    representative: int
    rows: tuple[int, ...]
    claims: tuple[tuple[tuple[str, float], ...], ...]
    value: float

    @property
    def owners(self) -> tuple[str, ...]:
        """Everyone with a part of it, sorted."""
        return tuple(sorted({name for claim in self.claims for name, _ in claim}))


def contested(
    ownership: Ownership,
    contributions: Contributions,
    representatives: NDArray[np.int64],
) -> tuple[Contested, ...]:
    """Clusters of copies that have different owners or shares, the most valuable first.

    Clusters without a score concern no money and are left out.

    Args:
        ownership: of the n training images.
        contributions: (m, k) scores that are settled.
        representatives: (n,) the image that stands for each.
    """
    n = ownership.n_train
    stays = np.ones(n, dtype=bool) if ownership.gone is None else ~ownership.gone
    values = sum_values(contributions)
    sizes = np.bincount(representatives[stays], minlength=n)
    looked = stays & (sizes[representatives] > 1) & (values[representatives] > 0)
    claims: dict[int, list[Part]] = {int(row): [] for row in np.flatnonzero(looked)}
    held = np.flatnonzero(looked[ownership.rows])
    for entry in held[np.lexsort((ownership.groups[held], ownership.rows[held]))].tolist():
        part = (int(ownership.groups[entry]), float(ownership.shares[entry]))
        claims[int(ownership.rows[entry])].append(part)
    clusters: dict[int, list[int]] = {}
    for row in claims:
        clusters.setdefault(int(representatives[row]), []).append(row)
    found = [
        Contested(
            leader,
            tuple(rows),
            tuple(_named(claims[row], ownership) for row in rows),
            float(values[leader]),
        )
        for leader, rows in clusters.items()
        if not all(_same(claims[rows[0]], claims[row]) for row in rows[1:])
    ]
    return tuple(sorted(found, key=lambda each: (-each.value, each.representative)))


def _same(one: Sequence[Part], other: Sequence[Part]) -> bool:
    """Whether two images have the same owners, each with the same share."""
    return len(one) == len(other) and all(
        mine[0] == theirs[0] and abs(mine[1] - theirs[1]) <= 2 * SHARE_TOLERANCE
        for mine, theirs in zip(one, other, strict=True)
    )


def _named(claim: Sequence[Part], ownership: Ownership) -> tuple[tuple[str, float], ...]:
    return tuple((ownership.owners[group], share) for group, share in claim) or ((UNASSIGNED, 1.0),)
