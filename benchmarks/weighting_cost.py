"""What the kernel ridge weightings cost on top of a run, and instead of one.

    python benchmarks/weighting_cost.py --data DATA --out docs/results

Two questions. After a re-rank of 200 candidates (the default settings), what do `shapley` and
`ridge` add to a run with `softmax`? Runs of all weightings take turns, everything computed anew
and then with the vectors of both sets in the cache; a run's ratio is to the softmax run of its own
round with the same k. With k = 200 ridge weights are solved for among all candidates. And what
does a run of `global-ridge` cost on all of MNIST, beside runs of the encoder with `softmax`? Those
are cold, each in a process of its own, so that its peak memory is its own.

DATA holds mnist/{train,test}.parquet (Hugging Face layout); test digits stand for generated
images. `--parts` measures some parts again and keeps the others.
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from results import arguments, publish
from threadpoolctl import threadpool_info

from gmvaluator import GMValuator, ImageSet
from gmvaluator.settings import DEFAULT_CANDIDATES, DEFAULT_K

TAKING_TURNS = [
    (weighting, k)
    for k in (DEFAULT_K, DEFAULT_CANDIDATES)
    for weighting in ("softmax", "shapley", "ridge")
]
PIXELS, PERCEPTUAL = "pixels@28", "st-lpips:alex@32"
ALONE: dict[str, dict[str, Any]] = {
    "softmax": {"rerank": "none"},
    "softmax, re-ranked": {},
    f"softmax, re-ranked by {PERCEPTUAL}": {"rerank": PERCEPTUAL},
    f"global-ridge, {PIXELS}": {
        "encoder": PIXELS,
        "rerank": "none",
        "weighting": "global-ridge",
    },
    "global-ridge": {"rerank": "none", "weighting": "global-ridge"},
}
BASES = [name for name in ALONE if name.startswith("softmax")]
ROUNDS = {"at hand": 7, "anew": 3}
PARTS = [*ROUNDS, *ALONE]


def main() -> None:
    """Parse, measure each part in a process of its own, write."""
    parser = arguments(__doc__)
    parser.add_argument("--small", type=int, nargs=2, default=(5_000, 1_000), metavar=("N", "M"))
    parser.add_argument("--large", type=int, nargs=2, default=(60_000, 10_000), metavar=("N", "M"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        print(json.dumps(measure(args)))
        return
    file = args.out / "weighting_cost.json"
    parts: dict[str, Any] = json.loads(file.read_text())["parts"] if file.exists() else {}
    for part in args.parts:
        command = [sys.executable, __file__, "--data", str(args.data), "--part", part]
        for name, size in (("--small", args.small), ("--large", args.large)):
            command += [name, *map(str, size)]
        load = os.getloadavg()[0]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        parts[part] = {"load_before": round(load, 2)} | json.loads(done.stdout.splitlines()[-1])
        print(part, json.dumps(parts[part]), flush=True)
        # each part as soon as it is there; the products' speed depends on the BLAS
        blas = {each["architecture"] for each in threadpool_info() if "architecture" in each}
        result = {"blas": sorted(blas), "parts": parts}
        publish(args.out, "weighting_cost", result, tables(parts))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """One part, in this process."""
    n, m = args.small if args.part in ROUNDS else args.large
    train = chosen(args.data / "mnist" / "train.parquet", n)
    generated = chosen(args.data / "mnist" / "test.parquet", m)
    sizes = {"n": n, "m": m}
    if args.part in ROUNDS:
        return sizes | {"runs": list(taking_turns(args.part, train, generated))}
    taken = run(train, generated, cache=False, **ALONE[args.part])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return sizes | taken | {"peak_gb": round(peak, 2)}


def chosen(path: Path, n: int) -> ImageSet:
    """n images of a set, the same ones each time."""
    images = ImageSet.open(path)
    return images.select(np.random.default_rng(0).permutation(len(images))[:n])


def taking_turns(part: str, train: ImageSet, generated: ImageSet) -> Iterator[dict[str, Any]]:
    """A run of each weighting and k, round after round, each round in another order."""
    with tempfile.TemporaryDirectory() as folder:
        # what a process does once, and, for vectors at hand, the cache
        run(train, generated, cache=folder)
        for number in range(ROUNDS[part]):
            turns = np.roll(np.arange(len(TAKING_TURNS)), number)
            for weighting, k in (TAKING_TURNS[turn] for turn in turns):
                cache = folder if part == "at hand" else False
                taken = run(train, generated, cache=cache, weighting=weighting, k=k)
                yield {"round": number, "weighting": weighting, "k": k} | taken


def run(train: ImageSet, generated: ImageSet, **settings: Any) -> dict[str, Any]:
    """Seconds of one run: all, those of `value` alone, and by stage; CPU seconds of all threads."""
    start, cpu = time.perf_counter(), time.process_time()
    valuator = GMValuator(**settings).fit(train)
    fitted = time.perf_counter()
    record = valuator.value(generated).record
    end = time.perf_counter()
    return {
        "seconds": round(end - start, 3),
        "value": round(end - fitted, 3),
        "cpu": round(time.process_time() - cpu, 3),
        "stages": dict(record.seconds),
        "index": record.settings.index_used,
    }


def tables(parts: dict[str, Any]) -> list[str]:
    """What the page shows."""
    lines: list[str] = []
    for part in filter(parts.__contains__, ROUNDS):
        lines += [*turns_table(part, parts[part]), ""]
    if any(part in parts for part in ALONE):
        lines += alone_table(parts)
    return lines


def turns_table(part: str, result: dict[str, Any]) -> list[str]:
    """Medians over the rounds, and ratios to softmax with the smallest and the largest."""
    runs = result["runs"]
    lines = [
        f"n = {result['n']:,}, m = {result['m']:,}, vectors {part}, {ROUNDS[part]} rounds:",
        "",
        "| weighting | k | weights, s | whole run, s | to softmax | CPU, s | to softmax "
        "| `value` alone, s | to softmax |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for weighting, k in TAKING_TURNS:
        own = [each for each in runs if (each["weighting"], each["k"]) == (weighting, k)]
        cells = [f"{median(each['stages']['weights'] for each in own):.2f}"]
        for what in ("seconds", "cpu", "value"):
            base = {
                each["round"]: each[what]
                for each in runs
                if (each["weighting"], each["k"]) == ("softmax", k)
            }
            cells.append(f"{median(each[what] for each in own):.2f}")
            cells.append(spread([each[what] / base[each["round"]] for each in own]))
        lines.append(f"| {weighting} | {k} | " + " | ".join(cells) + " |")
    return lines


def spread(ratios: Sequence[float]) -> str:
    """The median, and the range."""
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def alone_table(parts: dict[str, Any]) -> list[str]:
    """Whole cold runs by stage, and ratios to those of the encoder with softmax."""
    bases = [parts[name]["seconds"] if name in parts else None for name in BASES]
    lines = [
        "| run | n | m | embed | fit | recall | rerank | weights | quality, values | total, s "
        f"| CPU, s | {' | '.join(f'to {name}' for name in BASES)} | peak memory, GB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in filter(parts.__contains__, ALONE):
        one, s = parts[name], parts[name]["stages"]
        cells = [
            s["embed train"] + s["embed generated"],
            s["fit"],
            s["recall"],
            s["rerank"],
            s["weights"],
            s["quality"] + s["values"],
            one["seconds"],
            one["cpu"],
        ]
        row = " | ".join(f"{cell:.0f}" for cell in cells)
        ratios = [f"{one['seconds'] / base:.2f}" if base else "" for base in bases]
        lines.append(
            f"| {name} | {one['n']:,} | {one['m']:,} | {row} | {' | '.join(ratios)} "
            f"| {one['peak_gb']:.2f} |"
        )
    return lines


if __name__ == "__main__":
    main()
