"""A run, its owners and a budget go in; a settlement, its ledger entry and statements come out."""

from gmvaluator.payout.ledger import Ledger, read_ledger
from gmvaluator.payout.pay import payout_run
from gmvaluator.payout.record import Payout

__all__ = ["Ledger", "Payout", "payout_run", "read_ledger"]
