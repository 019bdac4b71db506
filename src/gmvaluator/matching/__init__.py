"""Similarity matching: from vectors to candidates, and from candidates to contributors."""
