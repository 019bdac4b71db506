"""The order of the stages: from images to a Valuation."""
