"""A budget divided by the scores of owners' images: shares, intervals, whole cents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.arguments import proper_share, whole_number
from gmvaluator.certainty.intervals import DEFAULT_COVERAGE, DEFAULT_RESAMPLES, bootstrap_shares
from gmvaluator.errors import InputError
from gmvaluator.payout.money import Currency, largest_remainder
from gmvaluator.payout.owners import UNASSIGNED, UNATTRIBUTED, Ownership, Terms, exact_sums
from gmvaluator.shown import short_repr

Unowned = Literal["keep", "redistribute"]
UNOWNED: tuple[Unowned, ...] = ("keep", "redistribute")
# length of the largest table of scores by owner: 160 MB
CELLS = 20_000_000
LEAST_COLUMNS = 100


@dataclass(frozen=True)
class Rules:
    """How a budget is divided.

    Attributes:
        budget: > 0, in minor units of the currency.
        currency: currency of all sums.
        minimum: an owner who is due less is not paid now, and the sum is carried.
        unowned: `keep`: the part of images that nobody owns stays with the payer; `redistribute`:
            the owners get this part, by their shares.
        level, resamples, seed: of the bootstrap intervals. 0 resamples: no intervals.
    """

    budget: int
    currency: Currency
    minimum: int = 0
    unowned: Unowned = "keep"
    level: float = DEFAULT_COVERAGE
    resamples: int = DEFAULT_RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        if self.unowned not in UNOWNED:
            raise InputError(f"unowned={self.unowned!r}; choose one of {', '.join(UNOWNED)}")
        if self.budget <= 0 or self.minimum < 0:
            raise InputError("pass a budget above 0 and a minimum of 0 or more")
        object.__setattr__(self, "level", proper_share("level", self.level, DEFAULT_COVERAGE))
        for name in ("resamples", "seed"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), 0))


@dataclass(frozen=True)
class Line:
    """One owner's part of a settlement; amounts in minor units.

    Attributes:
        owner: a name, `UNASSIGNED` or `UNATTRIBUTED`.
        value: sum of scores.
        share: of the budget, 0 … 1.
        share_low, share_high: bootstrap interval; None without resamples, or with a single
            generated image.
        amount: part of the budget; the amounts of all lines sum to the budget.
        carried_before: due from earlier settlements.
        paid: paid now.
        carried: left for a later settlement. amount + carried_before = paid + carried, except for
            `UNASSIGNED` and `UNATTRIBUTED`, whose amounts stay with the payer.
        n_images: number of training images that the owner has a share of.
        n_supported: number of generated images that those training images contribute to.
    """

    owner: str
    value: float
    share: float
    share_low: float | None
    share_high: float | None
    amount: int
    carried_before: int
    paid: int
    carried: int
    n_images: int
    n_supported: int

    @property
    def is_owner(self) -> bool:
        return self.owner not in (UNASSIGNED, UNATTRIBUTED)


@short_repr
@dataclass(frozen=True)
class Settlement:
    """A budget divided: lines of owners by name, then lines of nobody."""

    rules: Rules
    lines: tuple[Line, ...]
    _places: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places = {line.owner: place for place, line in enumerate(self.lines)}
        object.__setattr__(self, "_places", places)

    def line(self, owner: str) -> Line | None:
        """The line of an owner; None if the owner has none."""
        place = self._places.get(owner)
        return None if place is None else self.lines[place]

    @property
    def paid(self) -> int:
        return sum(line.paid for line in self.lines)

    @property
    def carried(self) -> int:
        return sum(line.carried for line in self.lines)

    @property
    def carried_before(self) -> int:
        return sum(line.carried_before for line in self.lines)

    @property
    def kept(self) -> int:
        """Sum that stays with the payer: the amounts that belong to nobody."""
        return sum(line.amount for line in self.lines if not line.is_owner)


@dataclass(frozen=True)
class Change:
    """The effect of a withdrawal on one owner; amounts in minor units."""

    owner: str
    value_before: float
    value_after: float
    share_before: float
    share_after: float
    amount_before: int
    amount_after: int


def settle(
    ownership: Ownership,
    terms: Terms,
    unattributed: NDArray[np.float64] | None,
    rules: Rules,
    *,
    carried: Mapping[str, int] | None = None,
) -> Settlement:
    """Divide a budget among owners in proportion to the scores of their images.

    Args:
        ownership: of the training images.
        terms: scores by owner, from `owners.deal`.
        unattributed: (m,) part of each generated image that no contributor got. That part of the
            budget stays with the payer. None if the run does not test for it.
        rules: how to divide.
        carried: minor units due from earlier settlements, by owner.

    Raises:
        InputError: no image has a score, or no owner's image has one and `rules` pay owners alone.
    """
    n_owners = len(ownership.owners)
    lost = np.zeros(terms.n_generated) if unattributed is None else unattributed
    values = [*exact_sums(terms.groups, terms.scores, n_owners + 1), math.fsum(lost.tolist())]
    counted = list(values)
    if rules.unowned == "redistribute":
        counted[n_owners] = 0.0
    total = math.fsum(counted)
    if total == 0:
        raise InputError(_nothing(values, n_owners))
    amounts = largest_remainder(counted, rules.budget)
    low, high = _intervals(terms, lost, counted, rules)
    images = [*ownership.n_images.tolist(), 0]
    supported = [*_supported(terms, n_owners + 1), int(np.count_nonzero(lost))]
    names = [*ownership.owners, UNASSIGNED, UNATTRIBUTED]
    if low is not None and high is not None:
        # an owner without an image gets nothing from another generated image either
        none = np.append(ownership.n_images == 0, False)
        none[-2] |= rules.unowned == "redistribute"
        low[none] = high[none] = 0.0
    before = dict(carried or {})
    has_unassigned = images[n_owners] > 0
    has_unattributed = unattributed is not None or bool(lost.any())
    has_line = [True] * n_owners + [has_unassigned, has_unattributed]
    lines = []
    for group, name in enumerate(names):
        if not has_line[group]:
            continue
        due = before.pop(name, 0)
        paid, left = _pay(amounts[group], due, rules) if group < n_owners else (0, 0)
        lines.append(
            Line(
                owner=name,
                value=values[group],
                share=counted[group] / total,
                share_low=None if low is None else float(low[group]),
                share_high=None if high is None else float(high[group]),
                amount=amounts[group],
                carried_before=due,
                paid=paid,
                carried=left,
                n_images=images[group],
                n_supported=supported[group],
            )
        )
    # owners of earlier settlements who own no image now are still due the sum that was carried
    for name, due in sorted(before.items()):
        paid, left = _pay(0, due, rules)
        lines.append(Line(name, 0.0, 0.0, None, None, 0, due, paid, left, 0, 0))
    lines.sort(key=lambda line: (not line.is_owner, line.owner))
    return Settlement(rules, tuple(lines))


def changes(before: Settlement, after: Settlement) -> tuple[Change, ...]:
    """The lines of two settlements side by side, the greatest loss first."""
    nothing = Line("", 0.0, 0.0, None, None, 0, 0, 0, 0, 0, 0)
    side_by_side = []
    for name in dict.fromkeys(line.owner for line in (*before.lines, *after.lines)):
        old, new = before.line(name) or nothing, after.line(name) or nothing
        side_by_side.append(
            Change(name, old.value, new.value, old.share, new.share, old.amount, new.amount)
        )
    side_by_side.sort(key=lambda change: change.amount_after - change.amount_before)
    return tuple(side_by_side)


def _pay(amount: int, due: int, rules: Rules) -> tuple[int, int]:
    """(paid now, carried): the whole sum is paid, or carried if it is below the minimum."""
    owed = amount + due
    return (owed, 0) if owed >= rules.minimum else (0, owed)


def _nothing(values: Sequence[float], n_owners: int) -> str:
    if values[n_owners] > 0:
        return (
            "all value lies in training images that nobody owns, and unowned='redistribute' pays "
            "owners alone; name owners, or keep the unassigned part"
        )
    return (
        "no training image has any value in this run, so there is nothing to pay by; value more "
        "or better generated images"
    )


def _supported(terms: Terms, n_groups: int) -> list[int]:
    pairs = np.sort(terms.generated * n_groups + terms.groups)
    first = np.append(True, np.diff(pairs) > 0)[: len(pairs)]
    counts: list[int] = np.bincount(pairs[first] % n_groups, minlength=n_groups).tolist()
    return counts


def _intervals(
    terms: Terms,
    lost: NDArray[np.float64],
    counted: Sequence[float],
    rules: Rules,
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | tuple[None, None]:
    """(low, high) share of each owner, of the unassigned and of the unattributed part."""
    if rules.resamples == 0 or len(lost) < 2:
        return None, None
    n_groups = len(counted)
    groups, generated, scores = terms.groups, terms.generated, terms.scores
    if counted[-2] == 0:
        owned = groups < n_groups - 2
        groups, generated, scores = groups[owned], generated[owned], scores[owned]
    m = len(lost)
    whole = np.bincount(generated, weights=scores, minlength=m) + lost
    # each generated image's largest score for one owner by one contributor
    largest = np.zeros(m)
    np.maximum.at(largest, generated, scores)
    low, high = np.empty(n_groups), np.empty(n_groups)
    step = max(LEAST_COLUMNS, CELLS // m)
    for start in range(0, n_groups, step):
        n = min(step, n_groups - start)
        here = (groups >= start) & (groups < start + n)
        cells = generated[here] * n + groups[here] - start
        part = np.bincount(cells, weights=scores[here], minlength=m * n).reshape(m, n)
        part = part.astype(np.float64)  # without cells, bincount gives integers
        if start + n == n_groups:
            part[:, -1] = lost
        low[start : start + n], high[start : start + n] = bootstrap_shares(
            part,
            largest=largest,
            totals=whole,
            level=rules.level,
            n_resamples=rules.resamples,
            seed=rules.seed,
        )
    if rules.unowned == "redistribute":
        # the rule gives the unassigned part nothing, whatever another image would score
        low[-2] = high[-2] = 0.0
    return low, high
