"""`gmvaluator value` on MNIST, 60,000 training and 100 test digits: cold, then with the cache.

By the default preset and by the one before, `offline-1`. Each run is a fresh process, as a user
would start it. The cold run begins with an empty cache; the second values 100 other digits against
the same training set.

    python benchmarks/value_cold.py --data DATA --out docs/results

DATA holds mnist/{train,test}.parquet (Hugging Face layout).
"""

from __future__ import annotations

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
from results import arguments, publish

GENERATED = 100
PRESETS = ("offline", "offline-1")


def main() -> None:
    """Parse, run, write."""
    parser = arguments(__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        generated = Path(scratch) / "generated.parquet"
        table = pq.read_table(args.data / "mnist" / "test.parquet")
        rows = np.random.default_rng(args.seed).permutation(len(table))
        train = args.data / "mnist" / "train.parquet"
        runs = []
        for number in range(2 * args.runs):
            pq.write_table(table.take(rows[number * GENERATED :][:GENERATED]), generated)
            name = ("cold", "cached")[number % 2]
            for preset in PRESETS:
                out = Path(scratch) / f"run-{preset}-{number}"
                cache = Path(scratch) / f"cache-{preset}-{number // 2}"
                runs.append(measure(name, preset, train, generated, out, cache))
    lines = [
        "| preset | run | wall seconds | CPU seconds | peak memory, GB "
        "| training images encoded / cached | stages, seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        stages = ", ".join(f"{stage} {spent:.1f}" for stage, spent in run["stages"].items())
        lines.append(
            f"| {run['preset']} | {run['name']} | {run['seconds']:.1f} | {run['cpu_seconds']:.0f} "
            f"| {run['peak_gb']:.2f} | {run['encoded']} / {run['cached']} | {stages} |"
        )
    publish(args.out, "value_cold", {"runs": runs}, lines)


def measure(
    name: str, preset: str, train: Path, generated: Path, out: Path, cache: Path
) -> dict[str, Any]:
    """One run in its own process, measured by the operating system's accounting."""
    command = [sys.executable, "-m", "gmvaluator.cli", "value", str(train), str(generated)]
    command += ["--out", str(out), "--cache", str(cache), "--preset", preset, "--json"]
    load = os.getloadavg()[0]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    images = json.loads((out / "run.json").read_text())["images"]["train"]
    own = next(key for key in images["encoded"] | images["cached"] if "efficientnet" in key)
    return {
        "name": name,
        "preset": preset,
        "encoded": images["encoded"].get(own, 0),
        "cached": images["cached"].get(own, 0),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1
        ),
        # of all runs so far: the largest is the cold one's
        "peak_gb": round(after.ru_maxrss / 1024**2, 3),
        "load_before": round(load, 2),
        "stages": json.loads(done.stdout)["seconds"],
    }


if __name__ == "__main__":
    main()
