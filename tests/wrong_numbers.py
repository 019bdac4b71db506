"""What is no number, or no whole number."""

from __future__ import annotations

from typing import Any

NO_NUMBER: dict[str, Any] = {
    "text": "five",
    "list": [5],
    "object": object(),
    "nan": float("nan"),
    "truth": True,
    "negative": -5,
}
NO_WHOLE_NUMBER = NO_NUMBER | {"half": 5.5, "float": 5.0, "figures": "5"}
