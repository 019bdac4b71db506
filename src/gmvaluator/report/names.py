"""Defaults of the report that the command line shows before anything heavy is loaded."""

from __future__ import annotations

REPORT = "report.html"
TITLE = "Value of training images"
# of all thumbnails, before they are written as text, which takes a third more
PICTURE_MEGABYTES = 10.0
