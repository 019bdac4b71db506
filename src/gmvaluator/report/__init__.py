"""A saved run in; out come one self-contained HTML page to look at, and figures for papers.

`page`: puts the page together. `columns`: fields, orders and parts of lists of cards. `tables`:
sums by a column, skipped images. `recorded`: run.json in plain names. `charts`: curves as SVG.
`pictures`: which pictures fit. `lookalikes`: signatures of pictures. `packing`: data within the
file. `html`: environment and style of all HTML pages, for other rooms too. `figures`: PNG and PDF.
Scripts of the page: `records.js` (records of images from the packed data), `keys.js` (content
keys), `lookalikes.js` (search by picture), `downloads.js` (CSV), `page.js` (what a reader sees and
does).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gmvaluator.lazy import lazy_names
from gmvaluator.report.html import PICTURE_MEGABYTES, REPORT, TITLE

if TYPE_CHECKING:
    from gmvaluator.report.figures import figures_run
    from gmvaluator.report.page import report_run

__all__ = ["PICTURE_MEGABYTES", "REPORT", "TITLE", "figures_run", "report_run"]

# the command line needs the constants alone, for its help
__getattr__, __dir__ = lazy_names(__name__, {"figures_run": "figures", "report_run": "page"})
