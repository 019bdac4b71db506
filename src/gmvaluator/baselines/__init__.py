"""Valuers to compare with: what chance, labels and published rivals give."""

from gmvaluator.baselines.trivial import RandomValuer, SameClassValuer

__all__ = ["RandomValuer", "SameClassValuer"]
