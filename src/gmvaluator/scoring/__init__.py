"""Scores: from contributors and quality to contribution scores and values."""
