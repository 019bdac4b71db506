"""What `run.json` holds, in tables of names and texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gmvaluator.runs.folder import Run

Rows = tuple[tuple[str, str], ...]

# parts of run.json by heading; what is in none of them comes under its own name
_HEADINGS = {
    "settings": "Settings",
    "unattributed": "Without a contributor",
    "seconds": "Seconds",
    "versions": "Versions",
    "weights": "Weights (SHA-256)",
    "encoders": "Encoders",
    "inputs": "Inputs",
    "images": "Images read",
}


def record_tables(run: Run) -> tuple[tuple[str, Rows], ...]:
    """All of run.json in tables: single entries first, then parts, then what is unknown here."""
    info = run.valuation.record.as_json()
    single = [("run folder", run.folder.name), *((k, v) for k, v in info.items() if not _nested(v))]
    if run.seal is not None:
        single.append(("seal", run.seal))
    parts = {name: part for name, part in info.items() if _nested(part)}
    names = [name for name in _HEADINGS if name in parts]
    names += [name for name in parts if name not in _HEADINGS]
    tables = [("Run", flatten(dict(single)))]
    tables += [(_HEADINGS.get(name, name), flatten(parts[name])) for name in names]
    return tuple((heading, rows) for heading, rows in tables if rows)


def _nested(part: Any) -> bool:
    return isinstance(part, Mapping | list | tuple)


def flatten(part: Any, name: str = "") -> Rows:
    """A nested record as (name, text) pairs: `inputs` → (`train, source`, …)."""
    if isinstance(part, Mapping):
        pairs = [
            row
            for key, value in part.items()
            for row in flatten(value, f"{name}, {key}" if name else str(key))
        ]
        return tuple(pairs)
    if isinstance(part, list | tuple):
        return ((name, ", ".join(str(each) for each in part)),)
    return ((name, "none" if part is None else str(part)),)
