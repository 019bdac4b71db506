"""Copies that belong to different owners are named before money is paid."""

from __future__ import annotations

import numpy as np
import pytest

from gmvaluator.payout.contested import Contested, contested
from gmvaluator.payout.owners import UNASSIGNED, Ownership, owners_by
from gmvaluator.scoring.scores import Contributions

# images 0, 1 and 2 are one picture; 3 and 4 another; 5 is alone
LEADERS = np.array([0, 0, 0, 3, 3, 5])


def scores(**of_row: float) -> Contributions:
    """One generated image that gives these scores to rows 0, 3 and 5."""
    given = np.array([[of_row.get(f"row{row}", 0.0) for row in (0, 3, 5)]])
    return Contributions(np.array([[0, 3, 5]]), np.zeros((1, 3), np.float32), given, 6)


def found(entries: list[str | None], **of_row: float) -> tuple[Contested, ...]:
    return contested(owners_by("owner", entries, 6), scores(**of_row), LEADERS)


def test_clusters_of_one_owner_or_of_nobody_are_not_contested() -> None:
    assert found(["ann", "ann", "ann", "bob", "bob", "cid"], row0=1.0) == ()
    assert found([None, None, None, "bob", "bob", "cid"], row0=1.0) == ()
    ownership = owners_by("owner", ["ann", "bob", "cid", "dan", "eve", "fay"], 6)
    assert contested(ownership, scores(row0=1.0), np.arange(6)) == ()


def test_clusters_of_several_owners_are_named_the_most_valuable_first() -> None:
    first, second = found(["ann", "bob", "bob", "bob", None, "cid"], row0=0.25, row3=0.5)
    assert (first.representative, first.rows, first.value) == (3, (3, 4), 0.5)
    assert first.claims == ((("bob", 1.0),), ((UNASSIGNED, 1.0),))
    assert first.owners == (UNASSIGNED, "bob")
    assert (second.representative, second.rows, second.value) == (0, (0, 1, 2), 0.25)
    assert second.owners == ("ann", "bob")


def test_clusters_without_a_score_concern_no_money() -> None:
    (only,) = found(["ann", "bob", "bob", "bob", None, "cid"], row3=0.5)
    assert only.representative == 3


@pytest.mark.parametrize(("share", "n"), [(0.75, 0), (0.750001, 0), (0.5, 1)])
def test_co_owners_of_every_copy_do_not_contest(share: float, n: int) -> None:
    """Rows 3 and 4 belong to Ann and Bob both, by other shares or by the same."""
    ownership = Ownership(
        owners=("ann", "bob"),
        rows=np.array([3, 3, 4, 4]),
        groups=np.array([0, 1, 0, 1]),
        shares=np.array([0.75, 0.25, share, 1 - share]),
        n_train=6,
        origin={},
    )
    assert len(contested(ownership, scores(row3=1.0), LEADERS)) == n


def test_what_was_withdrawn_claims_nothing() -> None:
    ownership = owners_by("owner", ["ann", "bob", "bob", "bob", "bob", "cid"], 6)
    assert len(contested(ownership, scores(row0=1.0), LEADERS)) == 1
    left = ownership.without(ownership.images_of(["ann"]))
    assert contested(left, scores(row0=1.0), LEADERS) == ()
