"""Copies of one image that belong to different owners.

A cluster of copies is shared out by files, so who uploads somebody's image again takes a part of
its value. Nothing in the images tells who is right: such clusters are listed before money is paid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmvaluator.owners import UNASSIGNED, Ownership
from gmvaluator.values import Contributions

Claim = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Contested:
    """A cluster of copies whose images have different owners.

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
    representatives: NDArray[np.int64] | None,
) -> tuple[Contested, ...]:
    """Clusters of copies that have different owners, the most valuable first.

    Copies with the same co-owners and shares are not contested.

    Args:
        ownership: of the n training images.
        contributions: (m, k) scores that are settled.
        representatives: (n,) the image that stands for each; None: copies count by themselves.
    """
    if representatives is None:
        return ()
    n = ownership.n_train
    stays = np.ones(n, dtype=bool) if ownership.gone is None else ~ownership.gone
    crowded = stays & (np.bincount(representatives[stays], minlength=n)[representatives] > 1)
    claims: dict[int, Claim] = {int(row): () for row in np.flatnonzero(crowded)}
    held = np.flatnonzero(crowded[ownership.rows])
    for entry in held[np.lexsort((ownership.groups[held], ownership.rows[held]))].tolist():
        claim = (int(ownership.groups[entry]), float(ownership.shares[entry]))
        claims[int(ownership.rows[entry])] += (claim,)
    clusters: dict[int, list[int]] = {}
    for row in claims:
        clusters.setdefault(int(representatives[row]), []).append(row)
    values = np.bincount(
        contributions.rows.ravel(), weights=contributions.scores.ravel(), minlength=n
    )
    found = [
        Contested(
            leader,
            tuple(rows),
            tuple(_named(claims[row], ownership) for row in rows),
            float(values[leader]),
        )
        for leader, rows in clusters.items()
        if len({claims[row] for row in rows}) > 1
    ]
    return tuple(sorted(found, key=lambda each: (-each.value, each.representative)))


def _named(claim: Claim, ownership: Ownership) -> tuple[tuple[str, float], ...]:
    return tuple((ownership.owners[group], share) for group, share in claim) or ((UNASSIGNED, 1.0),)
