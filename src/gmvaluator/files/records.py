"""Records: the JSON files that say what a result folder holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

UNREADABLE = (OSError, ValueError, RecursionError)
"""What reading a JSON file raises where the file is missing or damaged."""
MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What code raises that takes content apart which is of another form than was written."""


def write_record(record: Mapping[str, Any], file: Path) -> None:
    """Write a record, indented for people.

    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps(record, indent=2, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")
