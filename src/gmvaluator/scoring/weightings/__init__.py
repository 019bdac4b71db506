"""Weightings: from the distances of contributors to their shares."""
