"""What people look at: results as one self-contained page."""

from __future__ import annotations

from gmvaluator.report.page import (
    ContributorCard,
    GeneratedCard,
    PageData,
    SkippedRow,
    ValueCard,
    write_page,
)

__all__ = [
    "ContributorCard",
    "GeneratedCard",
    "PageData",
    "SkippedRow",
    "ValueCard",
    "write_page",
]
