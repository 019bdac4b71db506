"""One cold `gmvaluator value` on MNIST: 60,000 training digits, 100 test digits; time and memory.

Each run is a fresh process with nothing cached, as a user would start it.

    python benchmarks/value_cold.py --data DATA --out docs/results

DATA holds mnist/{train,test}.parquet (Hugging Face layout).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from gmvaluator import versions

GENERATED = 100


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        generated = Path(scratch) / "generated.parquet"
        table = pq.read_table(args.data / "mnist" / "test.parquet")
        rows = np.random.default_rng(args.seed).permutation(len(table))[:GENERATED]
        pq.write_table(table.take(rows), generated)
        train = args.data / "mnist" / "train.parquet"
        runs = [cold(train, generated, Path(scratch) / f"run{i}") for i in range(args.runs)]
    result = {
        "command": "python benchmarks/value_cold.py",
        "cores": len(os.sched_getaffinity(0)),
        "load_before": runs[0]["load_before"],
        "versions": versions.installed(),
        "runs": runs,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "value_cold.json").write_text(json.dumps(result, indent=2) + "\n")
    lines = [
        "| run | wall seconds | CPU seconds | peak memory, GB | stages, seconds |",
        "|---|---|---|---|---|",
    ]
    for number, run in enumerate(runs, 1):
        stages = ", ".join(f"{stage} {spent:.0f}" for stage, spent in run["stages"].items())
        lines.append(
            f"| {number} | {run['seconds']:.0f} | {run['cpu_seconds']:.0f} "
            f"| {run['peak_gb']:.2f} | {stages} |"
        )
    (args.out / "value_cold.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def cold(train: Path, generated: Path, out: Path) -> dict[str, Any]:
    """One run in its own process, measured by the operating system's accounting."""
    command = [sys.executable, "-m", "gmvaluator.cli", "value", str(train), str(generated)]
    load = os.getloadavg()[0]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "--out", str(out), "--json"], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1
        ),
        "peak_gb": round(after.ru_maxrss / 1024**2, 3),
        "load_before": round(load, 2),
        "stages": json.loads(done.stdout)["seconds"],
    }


if __name__ == "__main__":
    main()
