"""A run, its owners and a budget go in; a settlement, its ledger entry and statements come out.

`pay`: the whole of it. `owners`: the table of owners. `contested`: copies that owners dispute.
`settlement`: shares and amounts. `money`: currencies and rounding. `withdrawal`: scores without
some images. `ledger`: what was settled before. `record`: payout.csv and payout.json. `statements`:
the pages.
"""

from gmvaluator.payout.ledger import Ledger, read_ledger
from gmvaluator.payout.pay import payout_run
from gmvaluator.payout.record import Payout

__all__ = ["Ledger", "Payout", "payout_run", "read_ledger"]
