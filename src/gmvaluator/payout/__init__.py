"""A run, its owners and a budget go in; a settlement, its ledger entry and statements come out.

`pay`: the whole of it. `owners`: the table of owners. `contested`: copies that owners dispute.
`settlement`: shares and amounts. `settled`: these with their sources. `money`: currencies and
rounding. `withdrawal`: scores without some images. `ledger`: what was settled before. `record`:
payout.csv and payout.json. `tables`: CSV files. `statements`: the pages. `language`: their
sentences, numbers and dates.
"""

from gmvaluator.payout.language import Language
from gmvaluator.payout.ledger import Ledger, read_ledger
from gmvaluator.payout.pay import payout_run
from gmvaluator.payout.record import Payout
from gmvaluator.payout.statements import Letter

__all__ = ["Language", "Ledger", "Letter", "Payout", "payout_run", "read_ledger"]
