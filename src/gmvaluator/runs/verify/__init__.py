"""Checks of a saved run: from a run folder to a Verification.

`verification`: all checks in order. `laws`: what the tables obey, also of columns that loading does
not read. `inputs`: whether a set of images is the one that was valued.
"""

from gmvaluator.runs.verify.verification import Verification, verify_run

__all__ = ["Verification", "verify_run"]
