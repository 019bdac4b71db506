"""What benchmarks share: their first arguments, and how results are written."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gmvaluator import versions

DATA_COMMAND = "python benchmarks/{name}.py --data DATA --out docs/results"


def arguments(about: str) -> argparse.ArgumentParser:
    """A parser with `--data` and `--out`; the first line of `about` describes the benchmark."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    return parser


def publish(
    out: Path, name: str, result: dict[str, Any], lines: Sequence[str], command: str = DATA_COMMAND
) -> None:
    """Write NAME.json, with where it was measured, and the table NAME.md; print the table."""
    out.mkdir(parents=True, exist_ok=True)
    whole = {
        "command": command.format(name=name),
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions.installed(),
        **result,
    }
    (out / f"{name}.json").write_text(json.dumps(whole, indent=2) + "\n")
    text = "\n".join(lines) + "\n"
    (out / f"{name}.md").write_text(text)
    print(text)
