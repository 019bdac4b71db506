"""Whether `--memory` bounds what a valuation takes: preset `robust` with every option.

    python benchmarks/memory_budget.py --data DATA --out docs/results

A child process for each budget fits 20,000 MNIST digits and values 2,000 others: two recall spaces,
mirror images, near copies, a mixed re-rank, a learned temperature, the test for images without a
contributor by held-out digits. A thread of the child samples the anonymous memory of the process.
The base is the same work on 300 digits, which loads the same libraries and networks. Vectors come
from a cache, so that the network does not decide the peak. With less than 128MB the recall of these
images takes a trained index, which gives other values. DATA holds mnist/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from results import arguments, publish

from gmvaluator import GMValuator, ImageSet

TRAIN, GENERATED, HELD_OUT = 20_000, 2_000, 1_000
BASE = 300
BUDGETS = ("4GB", "256MB", "128MB")
SETTINGS: dict[str, Any] = {
    "encoder": "efficientnet-lite0@32",
    "rerank": {"efficientnet-lite0@32": 1.0, "pixels@14": 2.0},
    "dedup": "near",
    "null": "report",
}


def main() -> None:
    """Parse, measure, write."""
    parser = arguments(__doc__)
    parser.add_argument("--train", type=int, default=TRAIN, help="training images")
    parser.add_argument("--child", nargs=2, metavar=("BUDGET", "CACHE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.data, args.train, *args.child)))
        return
    with tempfile.TemporaryDirectory() as cache:
        child(args.data, args.train, BUDGETS[0], cache)  # fills the cache
        base = child(args.data, BASE, BUDGETS[0], cache)
        rows = [
            {"budget": budget, **child(args.data, args.train, budget, cache)} for budget in BUDGETS
        ]
    for row in rows:
        row["above_base_mb"] = round(row["peak_mb"] - base["peak_mb"], 1)
    if len({row["values"] for row in rows}) > 1:
        sys.exit("the values depend on the memory budget")
    report(args, base, rows)


def child(data: Path, n: int, budget: str, cache: str) -> dict[str, Any]:
    """One valuation in a process of its own."""
    command = [sys.executable, __file__, "--data", str(data), "--train", str(n)]
    done = subprocess.run(
        [*command, "--child", budget, cache], capture_output=True, text=True, check=True
    )
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(budget, n, {name: value for name, value in row.items() if name != "values"}, flush=True)
    return row


def measure(data: Path, n: int, budget: str, cache: str) -> dict[str, Any]:
    """Fit and value; the peak of the process in MB (10⁶ bytes), seconds, and a digest of values."""
    train = ImageSet.open(data / "mnist" / "train.parquet")
    test = ImageSet.open(data / "mnist" / "test.parquet")
    generated = test.select(np.arange(GENERATED))
    holdout = test.select(np.arange(GENERATED, GENERATED + HELD_OUT))
    start = time.perf_counter()
    with sampled() as samples:
        valuator = GMValuator.preset("robust", **SETTINGS, memory=budget, cache=cache)
        valuation = valuator.fit(train.select(np.arange(n))).value(generated, holdout=holdout)
    return {
        "peak_mb": round(max(samples) / 1e6, 1),
        "seconds": round(time.perf_counter() - start, 1),
        "values": float(valuation.values @ np.arange(1, n + 1)),
    }


@contextmanager
def sampled() -> Iterator[list[int]]:
    """Anonymous resident bytes of this process, fifty times a second."""
    samples, done = [anonymous()], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            samples.append(anonymous())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def anonymous() -> int:
    """Bytes of memory that no file backs (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


def report(args: argparse.Namespace, base: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write the table."""
    lines = [
        f"{args.train:,} training and {GENERATED:,} generated digits, {HELD_OUT:,} held out; base "
        f"{base['peak_mb']} MB.",
        "",
        "| `--memory` | peak, MB | above the base, MB | seconds |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['budget']} | {row['peak_mb']} | {row['above_base_mb']} | {row['seconds']} |"
        for row in rows
    ]
    publish(args.out, "memory_budget", {"base": base, "rows": rows}, lines)


if __name__ == "__main__":
    main()
