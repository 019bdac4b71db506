"""`gmvaluator match` of one picture against 60,000 images: a cold process, and a warm one.

A cold run is a fresh process, as a user would start it, whose files are in the page cache. The same
index without what it keeps for pictures (`engine.kept_vectors`, `engine.kept_results`) is what
earlier versions wrote: training images are then opened, decoded and compared for the null sample at
each call. Both runs take turns in one run of this benchmark. A process that imports the libraries
that a match cannot do without, and does nothing, is the floor.

    python benchmarks/match_instant.py --data DATA --out docs/results

DATA holds mnist/{train,test}.parquet (Hugging Face layout). Embedding 60,000 images takes ten
minutes; `--work` names a folder that keeps the index and the cache for later runs.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from results import arguments, publish

FLOOR = "import numpy, faiss, pyarrow.parquet, PIL.Image, openvino"
PLAIN = "without what the index keeps"
WARM = """
import json, sys, time
import numpy as np
from gmvaluator import GMValuator, ImageSet
index, test, count, cache = sys.argv[1:]
valuator = GMValuator.load(index, reopen=False, cache=cache)
images = ImageSet.open(test)
spent = []
for number in range(int(count) + 5):
    picture = images.select(np.array([number]))
    start, before = time.perf_counter(), time.process_time()
    valuator.value(picture)
    spent.append((time.perf_counter() - start, time.process_time() - before))
print(json.dumps(spent[5:]))
"""


def main() -> None:
    """Parse, run, write."""
    parser = arguments(__doc__)
    parser.add_argument("--work", type=Path, help="folder of the index and the cache")
    parser.add_argument("--runs", type=int, default=7, help="cold runs of each kind")
    parser.add_argument("--pictures", type=int, default=100, help="pictures of the warm process")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or Path(scratch)
        index, cache = work / "mnist.index", work / "cache"
        if not index.is_dir():
            train = str(args.data / "mnist" / "train.parquet")
            gmvaluator("embed", train, "--out", str(index), "--cache", str(cache), "--quiet")
        plain = without_kept(index, Path(scratch) / "plain.index")
        test = args.data / "mnist" / "test.parquet"
        picture = Path(scratch) / "picture.png"
        picture.write_bytes(pq.read_table(test)["image"][0]["bytes"].as_py())
        match = ["match", "INDEX", str(picture), "--cache", str(cache), "--json", "--quiet"]
        commands = {
            "match": [index if word == "INDEX" else word for word in match],
            PLAIN: [plain if word == "INDEX" else word for word in match],
        }
        cold = measure(commands, args.runs)
        warm = warm_seconds(index, test, args.pictures, cache)
    publish(args.out, "match_instant", {"cold": cold, "warm_ms": warm}, lines_of(cold, warm))


def without_kept(index: Path, target: Path) -> Path:
    """A copy of the index as earlier versions wrote it."""
    shutil.copytree(index, target, ignore=shutil.ignore_patterns("*.npy"))
    marker = json.loads((target / "index.json").read_text())
    for name in ("kept_vectors", "results"):
        marker.pop(name)
    (target / "index.json").write_text(json.dumps(marker))
    return target


def measure(commands: dict[str, list[Any]], runs: int) -> list[dict[str, Any]]:
    """Median processor seconds, and peak memory, of fresh processes that take turns."""
    spent: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    floor = []
    for number in range(runs + 1):
        for name, words in commands.items():
            used = process([sys.executable, "-m", "gmvaluator.cli", *map(str, words)])
            if number:  # the first run reads the files from the disk
                spent[name].append(used)
        floor.append(process([sys.executable, "-c", FLOOR]))
    spent[f"`{FLOOR}`"] = floor[1:]
    return [
        {
            "name": name,
            "cpu_seconds": round(statistics.median(cpu for cpu, _, _ in times), 3),
            "wall_seconds": round(statistics.median(wall for _, wall, _ in times), 3),
            "peak_mb": round(max(peak for _, _, peak in times)),
        }
        for name, times in spent.items()
    ]


def process(command: list[str]) -> tuple[float, float, float]:
    """Processor seconds, seconds and peak memory in MB of one process, by the system's account."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    wall = time.perf_counter() - start
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024


def warm_seconds(index: Path, test: Path, pictures: int, cache: Path) -> dict[str, float]:
    """Milliseconds a picture in a process that has loaded the index."""
    command = [sys.executable, "-c", WARM, str(index), str(test), str(pictures), str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    walls, cpus = (
        [1_000 * seconds for seconds in times]
        for times in zip(*json.loads(done.stdout), strict=True)
    )
    return {
        "median": round(statistics.median(walls), 1),
        "nine_in_ten": round(statistics.quantiles(walls, n=10)[-1], 1),
        "cpu_median": round(statistics.median(cpus), 1),
    }


def lines_of(cold: list[dict[str, Any]], warm: dict[str, float]) -> list[str]:
    """The table."""
    first = cold[0]["cpu_seconds"]
    lines = [
        "| process | processor seconds | ratio | seconds | peak memory, MB |",
        "|---|---|---|---|---|",
    ]
    for row in cold:
        lines.append(
            f"| {row['name']} | {row['cpu_seconds']:.2f} | {row['cpu_seconds'] / first:.2f} "
            f"| {row['wall_seconds']:.2f} | {row['peak_mb']} |"
        )
    lines += [
        "",
        f"In a warm process: {warm['median']:.0f} ms at the median, {warm['nine_in_ten']:.0f} ms "
        f"at nine in ten; {warm['cpu_median']:.0f} ms of processor time at the median.",
    ]
    return lines


def gmvaluator(*words: str) -> None:
    """Run a command."""
    subprocess.run([sys.executable, "-m", "gmvaluator.cli", *words], check=True)


if __name__ == "__main__":
    main()
