"""Valuers to compare with: chance, perfect labels, and published methods."""

from gmvaluator.baselines.trivial import RandomValuer, SameClassValuer

__all__ = ["RandomValuer", "SameClassValuer"]
