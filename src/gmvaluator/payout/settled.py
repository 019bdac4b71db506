"""A settlement of a run with its sources: what the files and the statements of a payout say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gmvaluator.payout.contested import Contested
from gmvaluator.payout.ledger import Ledger
from gmvaluator.payout.owners import Ownership, Terms
from gmvaluator.payout.settlement import Change, Settlement, changes
from gmvaluator.runs.folder import Run
from gmvaluator.shown import short_repr


@short_repr
@dataclass(frozen=True, eq=False)
class SettledRun:
    """A settlement of a run, and its sources.

    Attributes:
        run: the run.
        ownership: owners of its training images.
        settlement: the budget divided.
        terms: scores by owner, of the generated images that are settled.
        before: the settlement without the withdrawal; None if nobody withdrew.
        withdrawn: owners whose images left.
        ledger: the ledger before this settlement; None without a ledger.
        start: first generated image that is settled; the ledger settled those before it.
        made: time, UTC.
        again: entry of the ledger whose payout was lost and is made again; None otherwise.
        contested: clusters of copies with different owners, the most valuable first; None if the
            run counts every copy by itself, and so has no clusters.
    """

    run: Run
    ownership: Ownership
    settlement: Settlement
    terms: Terms
    before: Settlement | None
    withdrawn: tuple[str, ...]
    ledger: Ledger | None
    start: int
    made: str
    again: dict[str, Any] | None = None
    contested: tuple[Contested, ...] | None = None

    @property
    def changes(self) -> tuple[Change, ...]:
        """Changes by the withdrawal."""
        return changes(self.before, self.settlement) if self.before is not None else ()

    @property
    def number(self) -> int | None:
        """The number of the ledger's entry; None without a ledger."""
        return None if self.ledger is None else len(self.ledger.entries) + 1

    @property
    def keeps_balances(self) -> bool:
        """Whether the sums paid now may differ from the amounts."""
        return self.ledger is not None or self.settlement.rules.minimum > 0

    @property
    def value(self) -> float:
        """The value that the budget is divided by: the sum of all lines."""
        return float(sum(line.value for line in self.settlement.lines))

    @property
    def contested_share(self) -> float:
        """Share of the value that belongs to copies with different owners."""
        return sum(cluster.value for cluster in self.contested or ()) / self.value

    @property
    def weighting(self) -> str:
        return self.run.valuation.record.settings.weighting or ""
