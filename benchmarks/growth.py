"""Recall time and memory as the training set grows: 100 thousand to 50 million vectors.

Embeddings of CIFAR-10's training images are reduced to 512 dimensions by PCA and multiplied by
jitter: vector r is embedding r mod 50,000 plus noise r mod 65,521, which is normal and has the
per-axis spread and the typical length of a nearest-neighbour difference. Queries are real test
images. Vectors are generated in blocks from a seed, never kept; exact search for the truth sees
each block as it is added.

    python benchmarks/growth.py --data DATA --scratch SCRATCH --out docs/results --sizes 1e5 1e6

DATA holds cifar10/{train,test}.parquet (Hugging Face layout). Each size runs in a process of its
own and is merged into growth.json, so sizes can be measured one at a time. Needs matplotlib:
pip install matplotlib
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from index_choice import ENCODER, PeakMemory, embeddings, share_found, timed
from numpy.typing import NDArray

from gmvaluator import versions
from gmvaluator.geometry import Vectors, blocks
from gmvaluator.matching.search.build import build_index, open_index, save_index
from gmvaluator.matching.search.indexes import inner_index

COMMAND = "python benchmarks/growth.py --data DATA --scratch SCRATCH --out docs/results"
SIZES = [1e5, 1e6, 1e7, 5e7]
DIM = 512
NOISES = 65_521
GENERATED, MEMMAPPED = "generated", "memmap"
TRAINING_ROWS = 1 << 18
QUERIES, TOP, CANDIDATES = 100, 50, 200
TARGETS = {"ms a query": 30, "share of top 50": 0.9, "peak GB at 1e6": 2, "peak GB at 5e7": 20}


@dataclass(frozen=True)
class Row:
    """One size: seconds of building without generation, process peaks, milliseconds a query.

    `mapped_*` are of the saved index reopened in a fresh process; `efforts` are (share of the
    inverted lists scanned, milliseconds a query, share found).
    """

    n: int
    index: str
    vectors: str
    training_seconds: float
    adding_seconds: float
    bytes_a_vector: float
    peak_gb: float
    peak_anonymous_gb: float
    milliseconds_a_query: float
    share_of_top_50: float
    efforts: list[tuple[float, float, float]]
    mapped_open_seconds: float
    mapped_milliseconds_a_query: float
    mapped_peak_gb: float
    mapped_anonymous_gb: float
    same_found_mapped: float
    truth_queries: int
    exact_milliseconds_a_query: float
    generation_seconds: float


class Jittered:
    """(n, 512) vectors generated when they are read; slices are also searched exactly.

    The read of one slice after another that adding makes is watched; training reads by row.
    """

    def __init__(self, base: Vectors, spread: Vectors, queries: Vectors, n: int, seed: int) -> None:
        self.shape = (n, DIM)
        self.generating = self.searching = 0.0
        self.adding_since: float | None = None
        self.best: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None
        self._base, self._queries = base, queries
        self._noise = np.random.default_rng(seed).standard_normal((NOISES, DIM), dtype=np.float32)
        self._noise *= spread

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Vectors:
        start = time.perf_counter()
        sliced = isinstance(rows, slice)
        if sliced and self.adding_since is None:
            self.adding_since = start - self.generating
        at = np.arange(*rows.indices(self.shape[0])) if isinstance(rows, slice) else rows
        # the two periods have no common divisor, so no pair repeats before 3 billion rows
        vectors: Vectors = self._noise[at % NOISES]
        vectors += self._base[at % len(self._base)]
        self.generating += time.perf_counter() - start
        if sliced and len(self._queries):
            start = time.perf_counter()
            self._watch(vectors, int(at[0]))
            self.searching += time.perf_counter() - start
        return vectors

    def _watch(self, vectors: Vectors, first: int) -> None:
        squared, rows = faiss.knn(self._queries, vectors, min(TOP, len(vectors)))
        rows += first
        if self.best is not None:
            squared = np.hstack([self.best[0], squared])
            rows = np.hstack([self.best[1], rows])
        order = np.argsort(squared, axis=1, kind="stable")[:, :TOP]
        self.best = (
            np.take_along_axis(squared, order, axis=1),
            np.take_along_axis(rows, order, axis=1),
        )


def main() -> None:
    """Parse, measure each size in a child process, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for embeddings")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--index", default="ivfpq", help="as `build_index` takes it")
    parser.add_argument(
        "--truth", type=int, default=QUERIES, help="of the 100 queries, so many searched exactly"
    )
    parser.add_argument(
        "--memmap", action="store_true", help="write the vectors to the scratch, build on a memmap"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", choices=list(TASKS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        TASKS[args.child](args, int(args.sizes[0]))
        return
    prepare(args)
    for n in map(int, args.sizes):
        row = child(args, n, "build") if not args.memmap else memmapped(args, n)
        file = args.scratch / f"growth-{n}.index"
        row["bytes_a_vector"] = file.stat().st_size / n
        row |= child(args, n, "mapped")
        file.unlink()
        report(args, Row(**row))


def memmapped(args: argparse.Namespace, n: int) -> dict[str, Any]:
    """Write the vectors to a file and build on it, in two processes; what both measured."""
    row = child(args, n, "write") | child(args, n, "memmap")
    (args.scratch / f"growth-{n}-vectors.npy").unlink()
    return row


def child(args: argparse.Namespace, n: int, task: str) -> dict[str, Any]:
    """Run one task of one size in a process of its own; its result."""
    command = [sys.executable, __file__, "--child", task, "--sizes", str(n)]
    for name in ("data", "scratch", "index", "truth", "seed"):
        command += [f"--{name}", str(getattr(args, name))]
    # threads that wait asleep: on shared cores waiting threads would take the time of working ones
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    row: dict[str, Any] = json.loads(done.stdout)
    print(done.stdout, end="", flush=True)
    return row


def prepare(args: argparse.Namespace) -> tuple[Vectors, Vectors, Vectors]:
    """(base (50,000, 512), spread (512,) of the noise, queries (100, 512)), kept in the scratch."""
    file = args.scratch / "growth.npz"
    if file.exists():
        kept = np.load(file)
        return kept["base"], kept["spread"], kept["queries"]
    train, test = embeddings(args.data, args.scratch)
    mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    _, axes = np.linalg.eigh(np.cov(train.T))
    axes = np.ascontiguousarray(axes[:, ::-1][:, :DIM], dtype=np.float32)
    base, queries = (train - mean) @ axes, (test[:QUERIES] - mean) @ axes
    some = np.random.default_rng(args.seed).permutation(len(base))[:5_000]
    squared, rows = faiss.knn(base[some], base, 2)
    spread = np.sqrt(((base[some] - base[rows[:, 1]]) ** 2).mean(axis=0))
    # as long as the typical nearest neighbour is far
    spread *= np.sqrt(np.median(squared[:, 1])) / np.linalg.norm(spread)
    np.savez(file, base=base, spread=spread, queries=queries)
    return base, spread, queries


def build(args: argparse.Namespace, n: int) -> None:
    """Build on generated vectors, search and save one size; print its row, but for `mapped_*`."""
    base, spread, queries = prepare(args)
    vectors = Jittered(base, spread, queries[: args.truth], n, args.seed)
    start = time.perf_counter()
    row, rows, index = built(args, vectors, queries)
    assert vectors.best is not None  # noqa: S101  (types)
    assert vectors.adding_since is not None  # noqa: S101  (types)
    training = vectors.adding_since - start
    row |= {
        "vectors": GENERATED,
        "training_seconds": training,
        "adding_seconds": row["seconds"] - training - vectors.generating - vectors.searching,
        "share_of_top_50": share_found(rows[: args.truth], vectors.best[1]),
        "truth_queries": args.truth,
        "exact_milliseconds_a_query": 1e3 * vectors.searching / args.truth,
        "generation_seconds": vectors.generating,
        "efforts": efforts(index, queries, vectors.best[1]),
    }
    del row["seconds"]
    print(json.dumps(row), flush=True)


def built(
    args: argparse.Namespace, vectors: Any, queries: Vectors
) -> tuple[dict[str, Any], NDArray[np.int64], Any]:
    """Build, search and save; (what was measured, rows found, index)."""
    n = vectors.shape[0]
    # rows are alike wherever they stand, so training may read the first ones
    order = np.arange(min(n, TRAINING_ROWS))
    with PeakMemory() as peak:
        work = partial(build_index, vectors, args.index, order=order, seed=args.seed)
        index, seconds = timed(work)
        (_, rows), searching = timed(lambda: index.search(queries, CANDIDATES), repeat=3)
    np.save(args.scratch / f"growth-{n}.npy", rows)
    save_index(index, args.scratch / f"growth-{n}.index")
    row = {
        "n": n,
        "index": args.index,
        "seconds": seconds,
        "peak_gb": peak.whole_gb,
        "peak_anonymous_gb": peak.anonymous_gb,
        "milliseconds_a_query": 1e3 * searching / QUERIES,
    }
    return row, rows, index


def write(args: argparse.Namespace, n: int) -> None:
    """Write the vectors to the scratch for `build_on_memmap`; print what is known of them."""
    base, spread, queries = prepare(args)
    vectors = Jittered(base, spread, queries[: args.truth], n, args.seed)
    file = np.lib.format.open_memmap(
        args.scratch / f"growth-{n}-vectors.npy", "w+", np.float32, (n, DIM)
    )
    for rows in blocks(n, 4 * DIM):
        file[rows] = vectors[rows]
    file.flush()
    assert vectors.best is not None  # noqa: S101  (types)
    np.save(args.scratch / f"growth-{n}-truth.npy", vectors.best[1])
    exact = 1e3 * vectors.searching / args.truth
    row = {"exact_milliseconds_a_query": exact, "generation_seconds": vectors.generating}
    print(json.dumps(row))


def build_on_memmap(args: argparse.Namespace, n: int) -> None:
    """As `build`, on vectors in a file; training and adding are not told apart."""
    queries = prepare(args)[2]
    vectors = np.load(args.scratch / f"growth-{n}-vectors.npy", mmap_mode="r")
    row, rows, index = built(args, vectors, queries)
    truth = np.load(args.scratch / f"growth-{n}-truth.npy")
    row |= {
        "vectors": MEMMAPPED,
        "training_seconds": 0.0,
        "adding_seconds": row["seconds"],
        "share_of_top_50": share_found(rows[: len(truth)], truth),
        "truth_queries": len(truth),
        "efforts": efforts(index, queries, truth),
    }
    del row["seconds"]
    print(json.dumps(row))


def efforts(
    index: Any, queries: Vectors, truth: NDArray[np.int64]
) -> list[tuple[float, float, float]]:
    """What scanning fewer and more lists would cost and find."""
    inner = inner_index(index.index)
    if not hasattr(inner, "nprobe"):
        return []
    own, measured = inner.nprobe, []
    for share in (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4):
        inner.nprobe = max(1, int(inner.nlist * share))
        (_, rows), seconds = timed(lambda: index.search(queries, CANDIDATES))
        measured.append((share, 1e3 * seconds / QUERIES, share_found(rows[: len(truth)], truth)))
    inner.nprobe = own
    return measured


def measure_mapped(args: argparse.Namespace, n: int) -> None:
    """Reopen the index of one size in this fresh process and search it; print `mapped_*`."""
    queries = prepare(args)[2]
    vectors: Any = np.broadcast_to(np.float32(0), (n, DIM))
    with PeakMemory() as peak:
        index, opening = timed(lambda: open_index(args.scratch / f"growth-{n}.index", vectors))
        (_, rows), searching = timed(lambda: index.search(queries, CANDIDATES), repeat=3)
    row = {
        "mapped_open_seconds": opening,
        "mapped_milliseconds_a_query": 1e3 * searching / QUERIES,
        "mapped_peak_gb": peak.whole_gb,
        "mapped_anonymous_gb": peak.anonymous_gb,
        "same_found_mapped": share_found(rows, np.load(args.scratch / f"growth-{n}.npy")),
    }
    print(json.dumps(row))


TASKS = {"build": build, "write": write, "memmap": build_on_memmap, "mapped": measure_mapped}


def report(args: argparse.Namespace, row: Row) -> None:
    """Merge a row into growth.json, where it replaces the one of the same size and index."""
    file = args.out / "growth.json"
    earlier = json.loads(file.read_text())["rows"] if file.exists() else []
    keyed = {key(each): each for each in [*earlier, asdict(row)]}
    rows = sorted(keyed.values(), key=key)
    result = {
        "command": COMMAND,
        "data": f"CIFAR-10 embeddings of {ENCODER}, {DIM} PCA dimensions, jittered",
        "batch": QUERIES,
        "threads": faiss.omp_get_max_threads(),
        "targets": TARGETS,
        "slopes": slopes(rows),
        "versions": versions.installed() | {"faiss": faiss.__version__},
        "rows": rows,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + "\n")
    lines = [
        "| n | index | vectors | training s | adding s | bytes a vector | peak GB (anonymous) "
        "| ms a query | top 50 in 200 (queries) | mapped: ms a query | mapped: peak GB (anonymous) "
        "| exact ms a query |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {r['n']:,} | {r['index']} | {r['vectors']} | {r['training_seconds']:.1f} "
            f"| {r['adding_seconds']:.1f} | {r['bytes_a_vector']:.0f} "
            f"| {r['peak_gb']:.2f} ({r['peak_anonymous_gb']:.2f}) "
            f"| {r['milliseconds_a_query']:.2f} "
            f"| {r['share_of_top_50']:.3f} ({r['truth_queries']}) "
            f"| {r['mapped_milliseconds_a_query']:.2f} "
            f"| {r['mapped_peak_gb']:.2f} ({r['mapped_anonymous_gb']:.2f}) "
            f"| {r['exact_milliseconds_a_query']:.0f} |"
            for r in rows
        ),
    ]
    (args.out / "growth.md").write_text("\n".join(lines) + "\n")
    plot(rows, args.out.parent / "images" / "growth.svg")


def key(row: dict[str, Any]) -> tuple[str, str, int]:
    """What identifies a row."""
    return row["index"], row["vectors"], row["n"]


def slopes(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Exponent by which each cost of each index grows with n (the paper's Figure 11, log-log)."""
    costs = ("adding_seconds", "milliseconds_a_query", "exact_milliseconds_a_query")
    found: dict[str, dict[str, float]] = {}
    for index in sorted({row["index"] for row in rows}):
        own = [row for row in rows if row["index"] == index and row["vectors"] == GENERATED]
        if len(own) > 1:
            sizes = np.log([row["n"] for row in own])
            found[index] = {
                cost: float(np.polyfit(sizes, np.log([row[cost] for row in own]), 1)[0])
                for cost in costs
            }
    return found


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Milliseconds a query and peak memory against n, log-log."""
    matplotlib = import_module("matplotlib")
    matplotlib.use("svg")
    # the same file for the same numbers
    matplotlib.rcParams["svg.hashsalt"] = "gmvaluator"
    pyplot = import_module("matplotlib.pyplot")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for index in sorted({row["index"] for row in rows}):
        own = [row for row in rows if row["index"] == index and row["vectors"] == GENERATED]
        sizes = [row["n"] for row in own]
        left.plot(sizes, [row["milliseconds_a_query"] for row in own], marker="o", label=index)
        right.plot(sizes, [row["peak_gb"] for row in own], marker="o", label=f"{index}, building")
        right.plot(
            sizes,
            [row["mapped_anonymous_gb"] for row in own],
            marker="o",
            linestyle="--",
            label=f"{index}, opened from its file (anonymous)",
        )
    exact = {row["n"]: row["exact_milliseconds_a_query"] for row in rows}
    left.plot(sorted(exact), [exact[n] for n in sorted(exact)], marker=".", label="exact, streamed")
    left.set(xscale="log", yscale="log", xlabel="training vectors", ylabel="milliseconds a query")
    right.set(xscale="log", yscale="log", xlabel="training vectors", ylabel="GB of the process")
    for axes in (left, right):
        axes.legend(fontsize=7)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
