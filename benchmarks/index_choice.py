"""Which index recall should use: cost and share of the true neighbours found, on real embeddings.

Training images of CIFAR-10 are embedded and placed once; test images are the queries. Each index
is trained, filled and searched by a batch of 100 queries; of the true top 50 the share among 200
candidates counts. Exact against product quantization is Appendix P of the paper.

    python benchmarks/index_choice.py --data DATA --scratch SCRATCH --out docs/results

Where other programs use the cores too, OMP_WAIT_POLICY=passive keeps waiting threads from taking
the time of working ones. DATA holds cifar10/{train,test}.parquet (Hugging Face layout). Peers and
the plot need: pip install hnswlib usearch matplotlib
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

from gmvaluator import ImageSet, Weights, versions
from gmvaluator.encoders import load_encoder
from gmvaluator.encoders.backends import Runtime
from gmvaluator.encoders.embedding import embed
from gmvaluator.geometry import Space, Vectors
from gmvaluator.matching.search.build import build_index
from gmvaluator.matching.search.indexes import FaissIndex

COMMAND = "python benchmarks/index_choice.py --data DATA --scratch SCRATCH --out docs/results"
ENCODER = "efficientnet-lite0@96"
TEST_IMAGES = 1_000
QUERIES, BATCH, TOP, CANDIDATES = 200, 100, 50, 200
DEFAULT_PQ = "PCAR256,PQ64"
FACTORIES = {
    "Flat": "faiss, exact",
    DEFAULT_PQ: "faiss's default PQ training",
    "PCAR256,PQ64x8np": "without polysemous training",
    "PCAR256,PQ128x4fs": "fast scan",
    "PCAR256,PQ64x4fs,Refine(PCAR256,SQ4)": "fast scan, reordered",
    "PCAR256,IVF128,PQ128x4fs": "lists, fast scan",
    "PCAR256,RaBitQfs": "1 bit a dimension",
    "PCAR256,RaBitQfs4": "4 bits a dimension",
    "PCAR256,IVF128,RaBitQfs4": "lists, 4 bits a dimension",
    "PCAR256,SQ4": "scalar, 4 bits",
    "PCAR256,SQ8": "scalar, 8 bits",
}
OTHERS = [name for name in FACTORIES if name != DEFAULT_PQ]
PEERS = ("hnswlib", "usearch")
TARGETS = {"training speed-up of pq over " + DEFAULT_PQ: 10, "difference in share found": 0.01}
Result = TypeVar("Result")


class Searchable(Protocol):
    """A filled index."""

    def search(self, queries: Vectors, n: int) -> tuple[Any, NDArray[np.int64]]: ...


@dataclass(frozen=True)
class Row:
    """One index, and the start of the run that measured it: only times of one run compare well.

    Bytes are of the index's file, which holds everything a search needs; of `exact`, of the
    vectors themselves.
    """

    index: str
    what: str
    training_seconds: float
    adding_seconds: float
    bytes_a_vector: float
    milliseconds_a_query: float
    share_of_top_50: float
    run: str


class PeakMemory:
    """Peaks of this process while inside `with`: all resident pages, and anonymous ones alone.

    The anonymous peak leaves out pages of mapped files, which the system can drop at will.
    """

    def __init__(self) -> None:
        self.whole_gb = self.anonymous_gb = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._read()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self._read()

    def _read(self) -> None:
        lines = Path("/proc/self/status").read_text().splitlines()
        sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
        self.whole_gb = int(sizes["VmHWM"]) / 1e6
        self.anonymous_gb = max(self.anonymous_gb, int(sizes["RssAnon"]) / 1e6)


def embeddings(data: Path, scratch: Path) -> tuple[Vectors, Vectors]:
    """(train, test) images of CIFAR-10 placed in the encoder's space, kept in the scratch."""
    encoder = load_encoder(ENCODER, Weights(), Runtime())
    made = []
    for name, count in (("test", TEST_IMAGES), ("train", None)):
        file = scratch / f"{name}.npy"
        if not file.exists():
            images = ImageSet.open(data / "cifar10" / f"{name}.parquet")
            # a seeded draw: the file may be sorted
            chosen = np.random.default_rng(0).permutation(len(images))[:count]
            scratch.mkdir(parents=True, exist_ok=True)
            np.save(file, embed(images.select(np.sort(chosen)), encoder).vectors)
        made.append(np.load(file))
    test, train = made
    space = Space.fit(encoder.metric, train)
    return space.place(train), space.place(test)


def timed(work: Callable[[], Result], *, repeat: int = 1) -> tuple[Result, float]:
    """What the work returns, and the seconds of its fastest run."""
    fastest = float("inf")
    for _ in range(repeat):
        start = time.perf_counter()
        result = work()
        fastest = min(fastest, time.perf_counter() - start)
    return result, fastest


def share_found(rows: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Mean share of the true neighbours (m, t) among the candidates (m, c)."""
    found = [np.isin(wanted, got).mean() for got, wanted in zip(rows, truth, strict=True)]
    return float(np.mean(found))


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for embeddings")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--indexes", nargs="+", metavar="NAME", help="only these, merged in")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.run = time.strftime("%Y-%m-%d %H:%M")
    names = args.indexes or ["exact", "pq", DEFAULT_PQ, "ivfpq", *OTHERS, *PEERS]
    train, test = embeddings(args.data, args.scratch)
    queries = test[:QUERIES]
    _, truth = faiss.knn(queries, train, TOP)
    for name in names:
        row = measure(name, train, queries, truth, args)
        print(row, flush=True)
        # written after each index: an interrupted benchmark keeps what it has measured
        report(args, row, train.shape)


def measure(
    name: str,
    train: Vectors,
    queries: Vectors,
    truth: NDArray[np.int64],
    args: argparse.Namespace,
) -> Row:
    """Train, fill and search one index."""
    if name in PEERS:
        peer = Hnswlib(train) if name == "hnswlib" else Usearch(train)
        made: Searchable = peer
        training, adding, what = 0.0, peer.seconds, "graph, its own defaults"
    elif name in FACTORIES:
        made, training, adding = factory(name, train)
        what = FACTORIES[name]
    else:
        made, training, adding = ours(name, train, args.seed)
        what = "ours"
    made.search(queries[:BATCH], CANDIDATES)
    _, seconds = timed(lambda: made.search(queries[:BATCH], CANDIDATES), repeat=5)
    rows = made.search(queries, CANDIDATES)[1]
    return Row(
        index=name,
        what=what,
        training_seconds=training,
        adding_seconds=adding,
        bytes_a_vector=file_bytes(made, train, args.scratch) / len(train),
        milliseconds_a_query=1e3 * seconds / BATCH,
        share_of_top_50=share_found(rows, truth),
        run=args.run,
    )


class Watched:
    """Vectors that note when training, which reads by row, ends and adding, by slice, begins."""

    def __init__(self, vectors: Vectors) -> None:
        self.shape, self._vectors = vectors.shape, vectors
        self.adding_since = time.perf_counter()

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Vectors:
        if isinstance(rows, slice) and rows.start == 0:
            self.adding_since = time.perf_counter()
        return self._vectors[rows]


def ours(name: str, train: Vectors, seed: int) -> tuple[Searchable, float, float]:
    """(index, training seconds, adding seconds) of `build_index`."""
    start = time.perf_counter()
    watched: Any = train if name == "exact" else Watched(train)
    order = np.random.default_rng(seed).permutation(len(train))
    index = build_index(watched, name, order=order, seed=seed)
    end = time.perf_counter()
    since = start if name == "exact" else watched.adding_since
    return index, since - start, end - since


def factory(name: str, train: Vectors) -> tuple[Searchable, float, float]:
    """(index, training seconds, adding seconds) of a faiss factory string, nothing changed."""
    index = faiss.index_factory(train.shape[1], name)
    _, training = timed(lambda: index.train(train))
    _, adding = timed(lambda: index.add(train))
    if "IVF" in name:
        # an eighth of them, as our own form scans
        faiss.ParameterSpace().set_index_parameter(index, "nprobe", 16)
    return index, training, adding


class Hnswlib:
    """hnswlib, M and ef_construction as in its README; ef as many as candidates."""

    def __init__(self, train: Vectors) -> None:
        hnswlib = import_module("hnswlib")
        self.index = hnswlib.Index(space="l2", dim=train.shape[1])
        self.index.init_index(max_elements=len(train), M=16, ef_construction=200, random_seed=0)
        _, self.seconds = timed(lambda: self.index.add_items(train))
        self.index.set_ef(CANDIDATES)

    def search(self, queries: Vectors, n: int) -> tuple[Any, NDArray[np.int64]]:
        rows, squared = self.index.knn_query(queries, k=n)
        return squared, rows.astype(np.int64)

    def save(self, file: Path) -> None:
        self.index.save_index(str(file))


class Usearch:
    """usearch with its defaults in float32."""

    def __init__(self, train: Vectors) -> None:
        self.index = import_module("usearch.index").Index(
            ndim=train.shape[1], metric="l2sq", dtype="f32"
        )
        _, self.seconds = timed(lambda: self.index.add(np.arange(len(train)), train))

    def search(self, queries: Vectors, n: int) -> tuple[Any, NDArray[np.int64]]:
        found = self.index.search(queries, n)
        return found.distances, found.keys.astype(np.int64)

    def save(self, file: Path) -> None:
        self.index.save(str(file))


def file_bytes(made: Any, train: Vectors, scratch: Path) -> int:
    """Size of the index in a file."""
    file = scratch / "measured.index"
    if isinstance(made, Hnswlib | Usearch):
        made.save(file)
    elif isinstance(made, faiss.Index | FaissIndex):
        faiss.write_index(made.index if isinstance(made, FaissIndex) else made, str(file))
    else:
        return train.nbytes
    size = file.stat().st_size
    file.unlink()
    return size


def report(args: argparse.Namespace, row: Row, shape: tuple[int, ...]) -> None:
    """Merge a row into index_choice.json, where it replaces the one of the same index."""
    file = args.out / "index_choice.json"
    earlier = json.loads(file.read_text())["rows"] if file.exists() else []
    rows = list({each["index"]: each for each in [*earlier, asdict(row)]}.values())
    own, default = (next((r for r in rows if r["index"] == n), None) for n in ("pq", DEFAULT_PQ))
    result = {
        "command": COMMAND,
        "data": f"{shape[0]} CIFAR-10 training images, {ENCODER}, {shape[1]} dimensions, placed",
        "queries": QUERIES,
        "batch": BATCH,
        "threads": faiss.omp_get_max_threads(),
        "processors": os.cpu_count(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
        "targets": TARGETS,
        "versions": versions.installed() | {"faiss": faiss.__version__},
        "rows": rows,
    }
    if own and default and own["run"] == default["run"]:
        result["pq_against_default"] = {
            "training_speed_up": default["training_seconds"] / own["training_seconds"],
            "difference_in_share": own["share_of_top_50"] - default["share_of_top_50"],
        }
    args.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + "\n")
    lines = [
        "| index | what | training s | adding s | bytes a vector | ms a query | top 50 in 200 "
        "| run |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {r['index']} | {r['what']} | {r['training_seconds']:.2f} "
            f"| {r['adding_seconds']:.2f} | {r['bytes_a_vector']:.0f} "
            f"| {r['milliseconds_a_query']:.2f} | {r['share_of_top_50']:.4f} "
            f"| {r['run']} |"
            for r in rows
        ),
    ]
    (args.out / "index_choice.md").write_text("\n".join(lines) + "\n")
    plot(rows, args.out.parent / "images" / "index_choice.svg")


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Seconds to build against milliseconds a query, with the share found in the label."""
    matplotlib = import_module("matplotlib")
    matplotlib.use("svg")
    # the same file for the same numbers
    matplotlib.rcParams["svg.hashsalt"] = "gmvaluator"
    pyplot = import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for row in rows:
        own = row["what"] == "ours"
        build = max(row["training_seconds"] + row["adding_seconds"], 0.01)
        point = (build, row["milliseconds_a_query"])
        axes.scatter(*point, s=30, color="tab:orange" if own else "tab:blue")
        label = f"{row['index']} ({row['share_of_top_50']:.3f})"
        axes.annotate(label, point, xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set(xscale="log", yscale="log", xlabel="seconds to build", ylabel="milliseconds a query")
    axes.set_title("Indexes on 50,000 embeddings (share of the true top 50 among 200 candidates)")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
