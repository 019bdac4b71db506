"""Payments: from values and owners to a settlement, a ledger and statements."""
