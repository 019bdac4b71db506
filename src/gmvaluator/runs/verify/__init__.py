"""Checks of a saved run: a run folder goes in, a `Verification` comes out."""
