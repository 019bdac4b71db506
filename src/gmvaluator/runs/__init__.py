"""A saved valuation: its tables, its record, its images, its checks."""
