"""Checks of a saved run: from a run folder to a Verification."""

from gmvaluator.runs.verify.verification import Verification, verify_run

__all__ = ["Verification", "verify_run"]
