"""Checks of a saved run: from a run folder to a Verification."""
