"""Dividing a budget by what owners' images scored: shares, intervals and whole cents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.certainty.intervals import DEFAULT_LEVEL, DEFAULT_RESAMPLES, bootstrap_shares
from gmvaluator.errors import InputError
from gmvaluator.payout.money import Currency, largest_remainder
from gmvaluator.payout.owners import UNASSIGNED, UNATTRIBUTED, Ownership, Terms, exact_sums

Unowned = Literal["keep", "redistribute"]
UNOWNED: tuple[Unowned, ...] = ("keep", "redistribute")
# of the bootstrap's table at once: 160 MB
CELLS = 20_000_000
LEAST_COLUMNS = 100


@dataclass(frozen=True)
class Rules:
    """How a budget is divided.

    Attributes:
        budget: > 0, in minor units of the currency.
        currency: of all sums.
        minimum: owners who are due less are not paid now; what they are due is carried.
        unowned: `keep`: images that nobody owns keep their part of the budget, which stays with
            the payer; `redistribute`: the owners have it, by their shares.
        level, resamples, seed: of the bootstrap intervals; 0 resamples: none.
    """

    budget: int
    currency: Currency
    minimum: int = 0
    unowned: Unowned = "keep"
    level: float = DEFAULT_LEVEL
    resamples: int = DEFAULT_RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        if self.unowned not in UNOWNED:
            raise InputError(f"unowned={self.unowned!r}; choose one of {', '.join(UNOWNED)}")
        if self.budget <= 0 or self.minimum < 0:
            raise InputError("pass a budget above 0 and a minimum of 0 or more")
        if self.resamples < 0:
            raise InputError(f"resamples={self.resamples}; pass 0 (no intervals) or more")
        if self.seed < 0:
            raise InputError(f"seed={self.seed}; pass a whole number of 0 or more")


@dataclass(frozen=True)
class Line:
    """What one owner has of a settlement; amounts in minor units.

    Attributes:
        owner: a name, `UNASSIGNED` or `UNATTRIBUTED`.
        value: sum of scores.
        share: of the budget, 0 … 1.
        share_low, share_high: bootstrap interval; None where none was asked for, or a single
            generated image says nothing of how others would score.
        amount: of the budget; the amounts of all lines sum to it.
        carried_before: due from earlier settlements.
        paid: now.
        carried: to a later settlement; amount + carried_before = paid + carried, but for the two
            lines that are nobody's, whose amount stays with the payer.
        n_images: training images the owner has a share of.
        n_supported: generated images that these contributed to.
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


@dataclass(frozen=True)
class Settlement:
    """A budget divided: owners by name, then what is nobody's."""

    rules: Rules
    lines: tuple[Line, ...]
    _places: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places = {line.owner: place for place, line in enumerate(self.lines)}
        object.__setattr__(self, "_places", places)

    def line(self, owner: str) -> Line | None:
        """By owner; None where it has no line."""
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
        """What stays with the payer: the amounts that are nobody's."""
        return sum(line.amount for line in self.lines if not line.is_owner)


@dataclass(frozen=True)
class Change:
    """What a withdrawal changes for one owner; amounts in minor units."""

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
    """Divide a budget among owners in proportion to what their images scored.

    Args:
        ownership: of the training images.
        terms: scores dealt out by `owners.deal`.
        unattributed: (m,) what each generated image handed to no contributor; None where the run
            asks no such question. It keeps its part of the budget.
        rules: of the division.
        carried: minor units due from earlier settlements, by owner.

    Raises:
        InputError: nothing scored, or nothing that owners own where that alone counts.
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
        # who has no image here can get nothing of another generated one either
        none = np.append(ownership.n_images == 0, False)
        none[-2] |= rules.unowned == "redistribute"
        low[none] = high[none] = 0.0
    before = dict(carried or {})
    lines = []
    for group, name in enumerate(names):
        shown = (group < n_owners, images[n_owners] > 0, unattributed is not None or lost.any())
        if not shown[max(0, group - n_owners + 1) if group >= n_owners else 0]:
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
    # owners of earlier settlements who own nothing now are still due what was carried
    for name, due in sorted(before.items()):
        paid, left = _pay(0, due, rules)
        lines.append(Line(name, 0.0, 0.0, None, None, 0, due, paid, left, 0, 0))
    lines.sort(key=lambda line: (not line.is_owner, line.owner))
    return Settlement(rules, tuple(lines))


def changes(before: Settlement, after: Settlement) -> tuple[Change, ...]:
    """The lines of two settlements side by side, the greatest loss first."""
    names = dict.fromkeys(line.owner for each in (before, after) for line in each.lines)
    found = []
    for name in names:
        old, new = before.line(name), after.line(name)
        found.append(
            Change(
                name,
                old.value if old else 0.0,
                new.value if new else 0.0,
                old.share if old else 0.0,
                new.share if new else 0.0,
                old.amount if old else 0,
                new.amount if new else 0,
            )
        )
    return tuple(sorted(found, key=lambda each: each.amount_after - each.amount_before))


def _pay(amount: int, due: int, rules: Rules) -> tuple[int, int]:
    """(paid now, carried): all that is due, or nothing below the minimum."""
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
    """(low, high) share of each owner, the unassigned and the unattributed part."""
    if rules.resamples == 0 or len(lost) < 2:
        return None, None
    n_groups = len(counted)
    groups, generated, scores = terms.groups, terms.generated, terms.scores
    if counted[-2] == 0:
        owned = groups < n_groups - 2
        groups, generated, scores = groups[owned], generated[owned], scores[owned]
    m = len(lost)
    whole = np.bincount(generated, weights=scores, minlength=m) + lost
    # what one more image may give one owner: the most that this one gives for one contributor
    largest = np.zeros(m)
    np.maximum.at(largest, generated, scores)
    low, high = np.empty(n_groups), np.empty(n_groups)
    step = max(LEAST_COLUMNS, CELLS // m)
    for start in range(0, n_groups, step):
        n = min(step, n_groups - start)
        here = (groups >= start) & (groups < start + n)
        cells = generated[here] * n + groups[here] - start
        part = np.bincount(cells, weights=scores[here], minlength=m * n).reshape(m, n)
        part = part.astype(np.float64)  # of no cells, bincount makes integers
        if start + n == n_groups:
            part[:, -1] = lost
        # the rest in one column: shares are of all, and each resample draws the same images
        rest = np.maximum(whole - part.sum(axis=1), 0)
        found = bootstrap_shares(
            np.column_stack([part, rest]),
            largest=largest,
            level=rules.level,
            n_resamples=rules.resamples,
            seed=rules.seed,
        )
        low[start : start + n], high[start : start + n] = (each[:-1] for each in found)
    if rules.unowned == "redistribute":
        # by rule, whatever another image would score
        low[-2] = high[-2] = 0.0
    return low, high
