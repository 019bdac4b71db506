"""Saved valuations: from a folder to a `Valuation`, its typed record, its images and checks."""
