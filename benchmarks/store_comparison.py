"""Lance, Zarr and safetensors shards against what the embedding store needs.

Each candidate keeps the same vectors in shards as its documentation suggests; the same trials ask
how fast it appends and reads, whether a flipped byte is noticed, what a killed writer leaves
behind, and whether two writers at once lose anything.

    pip install pylance zarr
    python benchmarks/store_comparison.py --out docs/results
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from results import publish

DIM, SHARD, SHARDS = 1_280, 1_024, 40
Vectors = NDArray[np.float32]


class Candidate(Protocol):
    """The least a store does: append a shard, read everything, read some rows."""

    name: str
    package: str

    def append(self, folder: Path, vectors: Vectors) -> None: ...
    def read(self, folder: Path) -> Vectors: ...
    def take(self, folder: Path, rows: NDArray[np.int64]) -> Vectors: ...


class Lance:
    """A Lance data set: one fragment a shard, a manifest a commit."""

    name, package = "Lance", "pylance"

    def append(self, folder: Path, vectors: Vectors) -> None:
        import pyarrow as pa

        lance = importlib.import_module("lance")
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
        lance.write_dataset(pa.table({"v": column}), str(folder / "set"), mode="append")

    def read(self, folder: Path) -> Vectors:
        lance = importlib.import_module("lance")
        return self._array(lance.dataset(str(folder / "set")).to_table())

    def take(self, folder: Path, rows: NDArray[np.int64]) -> Vectors:
        lance = importlib.import_module("lance")
        return self._array(lance.dataset(str(folder / "set")).take(rows.tolist()))

    @staticmethod
    def _array(table: Any) -> Vectors:
        values = table["v"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return np.asarray(values, np.float32).reshape(-1, DIM)


class Zarr:
    """One Zarr array that grows by a chunk, with the crc32c codec."""

    name, package = "Zarr", "zarr"

    def append(self, folder: Path, vectors: Vectors) -> None:
        self._open(folder).append(vectors)

    def read(self, folder: Path) -> Vectors:
        return np.asarray(self._open(folder)[:], np.float32)

    def take(self, folder: Path, rows: NDArray[np.int64]) -> Vectors:
        return np.asarray(self._open(folder).oindex[rows.tolist(), :], np.float32)

    def _open(self, folder: Path) -> Any:
        zarr = importlib.import_module("zarr")
        path = folder / "set.zarr"
        if path.exists():
            return zarr.open_array(str(path), mode="r+")
        checksum = importlib.import_module("zarr.codecs").Crc32cCodec()
        return zarr.create_array(
            str(path), shape=(0, DIM), chunks=(SHARD, DIM), dtype="f4", compressors=checksum
        )


class Safetensors:
    """Files of their own, named by a hash of their content, moved into place when whole."""

    name, package = "safetensors shards", "safetensors"

    def append(self, folder: Path, vectors: Vectors) -> None:
        from hashlib import blake2b

        from safetensors.numpy import save_file

        digest = blake2b(vectors.tobytes(), digest_size=16).hexdigest()
        part = folder / f".{digest}.part-{os.getpid()}"
        save_file({"v": vectors}, part)
        part.replace(folder / f"{time.time_ns():020d}-{digest}.safetensors")

    def read(self, folder: Path) -> Vectors:
        return np.concatenate([self._load(file) for file in sorted(folder.glob("*.safetensors"))])

    def take(self, folder: Path, rows: NDArray[np.int64]) -> Vectors:
        from safetensors import safe_open

        files = sorted(folder.glob("*.safetensors"))
        taken = np.empty((len(rows), DIM), np.float32)
        for number in np.unique(rows // SHARD):
            with safe_open(files[number], "np") as file:
                view = file.get_slice("v")
                for at in np.flatnonzero(rows // SHARD == number):
                    row = int(rows[at] % SHARD)
                    taken[at] = view[row : row + 1][0]
        return taken

    @staticmethod
    def _load(file: Path) -> Vectors:
        from hashlib import blake2b

        from safetensors.numpy import load_file

        vectors: Vectors = load_file(file)["v"]
        if blake2b(vectors.tobytes(), digest_size=16).hexdigest() != file.stem.split("-")[1]:
            raise ValueError(f"{file} is damaged")
        return vectors


CANDIDATES: tuple[Candidate, ...] = (Lance(), Zarr(), Safetensors())


def main() -> None:
    """Parse, try, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    multiprocessing.set_start_method("spawn")
    rows = [trial(candidate) for candidate in CANDIDATES]
    names = list(rows[0])
    lines = ["| " + " | ".join(["", *(str(row["store"]) for row in rows)]) + " |"]
    lines.append("|---" * (len(rows) + 1) + "|")
    lines += [
        "| " + " | ".join([name, *(str(row[name]) for row in rows)]) + " |" for name in names[1:]
    ]
    result = {"dim": DIM, "shard": SHARD, "shards": SHARDS, "rows": rows}
    publish(args.out, "store_comparison", result, lines, "python benchmarks/{name}.py")


def trial(candidate: Candidate) -> dict[str, Any]:
    """Every question put to one candidate."""
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole"
        whole.mkdir()
        append = seconds(lambda: fill(candidate, whole, SHARDS))
        picked = np.random.default_rng(1).integers(0, SHARD * SHARDS, 1_000)
        return {
            "store": candidate.name,
            "version": importlib.metadata.version(candidate.package),
            f"append {SHARDS} shards, s": append,
            "bytes on disk / bytes of vectors": round(
                sum(f.stat().st_size for f in whole.rglob("*") if f.is_file())
                / (4 * DIM * SHARD * SHARDS),
                4,
            ),
            "read all, checked where it can, s": seconds(lambda: candidate.read(whole)),
            "read 1,000 random rows, s": seconds(lambda: candidate.take(whole, picked)),
            "import, s": import_seconds(candidate),
            "one flipped byte": flipped(candidate, whole),
            "writer killed 20 times": killed(candidate, Path(scratch)),
            "two writers at once": together(candidate, Path(scratch) / "both"),
        }


def shard(number: int) -> Vectors:
    """Shard `number`: every entry is its number, plus noise that does not compress."""
    noise = np.random.default_rng(number).random((SHARD, DIM), dtype=np.float32)
    return noise + np.float32(number)


def fill(candidate: Candidate, folder: Path, shards: int, first: int = 0) -> None:
    """Append shards one by one."""
    for number in range(first, first + shards):
        candidate.append(folder, shard(number))


def seconds(action: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    action()
    return round(time.perf_counter() - start, 2)


def import_seconds(candidate: Candidate) -> float:
    """Of the library in a fresh process, beyond NumPy."""
    module = {"pylance": "lance", "zarr": "zarr"}.get(candidate.package, "safetensors.numpy")
    code = f"import numpy, time; t = time.perf_counter(); import {module}; "
    code += "print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return round(float(done.stdout), 2)


def flipped(candidate: Candidate, whole: Path) -> str:
    """Flip one bit in the middle of the largest file and read again."""
    largest = max((f for f in whole.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    with largest.open("r+b") as file:
        file.seek(largest.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    try:
        read = candidate.read(whole)
    except Exception as error:
        return f"noticed ({type(error).__name__})"
    wanted = np.concatenate([shard(number) for number in range(SHARDS)])
    return "not noticed: wrong numbers" if not np.array_equal(read, wanted) else "no effect"


def killed(candidate: Candidate, scratch: Path) -> str:
    """SIGKILL a writer at 20 moments; then what can be read, and what lies around."""
    unreadable = wrong = 0
    stray = 0
    for attempt in range(20):
        folder = scratch / f"killed{attempt}"
        folder.mkdir()
        fill(candidate, folder, 1)
        writer = multiprocessing.Process(target=fill, args=(candidate, folder, 500, 1))
        writer.start()
        while not (folder / "started").exists() and len(list(folder.rglob("*"))) < 6:
            time.sleep(0.005)
        time.sleep(0.01 * attempt + 0.003)
        assert writer.pid is not None  # noqa: S101
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        try:
            read = candidate.read(folder)
        except Exception:
            unreadable += 1
            continue
        blocks = read.reshape(-1, SHARD, DIM) if len(read) % SHARD == 0 else np.empty((1, 0, 0))
        order = sorted(range(len(blocks)), key=lambda at: blocks[at].min(initial=np.inf))
        wrong += any(
            not np.array_equal(blocks[at], shard(number)) for number, at in enumerate(order)
        )
        used = 4 * DIM * len(read)
        held = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
        stray += held > used + 2 * SHARD * DIM
        shutil.rmtree(folder)
    return f"{unreadable} unreadable, {wrong} with wrong rows, {stray} with stray files"


def together(candidate: Candidate, folder: Path) -> str:
    """Two processes append 10 shards each; how many rows and errors follow."""
    folder.mkdir()
    fill(candidate, folder, 1)
    writers = [
        multiprocessing.Process(target=fill, args=(candidate, folder, 10, first))
        for first in (1, 11)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    failed = sum(writer.exitcode != 0 for writer in writers)
    kept = {int(block.min()) for block in candidate.read(folder).reshape(-1, SHARD, DIM)}
    return f"{len(kept)} of 21 shards kept, {failed} writers failed"


if __name__ == "__main__":
    main()
