"""Embedding from encoded files: gmvaluator against the loops people write around torch.

    python benchmarks/embedding_speed.py --data DATA --out docs/results

For each encoder the same PNG or JPEG files go through: gmvaluator (decoding, resizing and
OpenVINO inference overlap), a plain loop (PIL, then a torch batch, one after the other), a torch
DataLoader with a worker a core, as timm's inference script and clip-retrieval's loop have it, and
a plain loop over single images. The same weights and the same preprocessing on all sides; rounds
are interleaved and the median counts. The loops run this project's own modules in torch; for
ST-LPIPS the network of its package, as its users run it in torch, is a further column. DATA holds
cifar10/ and mnist/ (Hugging Face layout).
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from reference_equality import reference_stlpips
from results import arguments, publish

from gmvaluator import ImageSet, Weights
from gmvaluator.encoders.backends import NetworkEncoder, Runtime, torch_module
from gmvaluator.encoders.base import Network
from gmvaluator.encoders.efficientnet import build as build_efficientnet_lite0
from gmvaluator.encoders.embedding import embed
from gmvaluator.encoders.stlpips import build as build_stlpips

BATCH = 64
SINGLE = 128
# side of the network: files it is fed with, and how many
FED: dict[int, tuple[str, int]] = {
    32: ("mnist", 1024),
    64: ("cifar10", 256),
    96: ("mnist", 1024),
    160: ("cifar10", 512),
    224: ("cifar10", 256),
}
LOOPS = ("loop", "loader", "one by one")
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """An encoder and the files it is fed with."""

    name: str
    network: Network
    data: str
    n: int


def main() -> None:
    """Parse, measure, write."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    weights = Weights(offline=True)
    cases = [
        Case(
            f"efficientnet-lite0@{side}", build_efficientnet_lite0(None, side, weights), *FED[side]
        )
        for side in (96, 160, 224)
    ]
    cases += [
        Case(f"st-lpips:alex@{side}", build_stlpips("alex", side, weights), *FED[side])
        for side in (32, 64)
    ]
    load = os.getloadavg()[0]
    rows = [measure(case, args.data, args.rounds) for case in cases]
    lines = [
        "| encoder | files | gmvaluator, images/s | torch loop, batches of 64 | torch DataLoader "
        "| torch loop, single images | reference package in torch | × loop | × DataLoader "
        "| × single | × package | network alone: OpenVINO, images/s | torch | × "
        "| relative difference |",
        "|---" * 15 + "|",
    ]
    for row in rows:
        speed = row["images_per_second"]
        package = speed.get("package")
        rate, ratio = (
            (f"{package:.0f}", f"{speed['gmvaluator'] / package:.2f}") if package else ("", "")
        )
        ours, alone = speed["gmvaluator"], speed["openvino alone"]
        cells = [f"{speed[name]:.0f}" for name in ("gmvaluator", *LOOPS)] + [rate]
        cells += [f"{ours / speed[name]:.2f}" for name in LOOPS] + [ratio]
        cells += [f"{alone:.0f}", f"{speed['torch alone']:.0f}"]
        cells += [f"{alone / speed['torch alone']:.2f}", f"{row['relative_difference']:.1e}"]
        lines.append(f"| {row['encoder']} | {row['data']} | {' | '.join(cells)} |")
    publish(args.out, "embedding_speed", {"load_before": load, "rows": rows}, lines)


def measure(case: Case, data: Path, rounds: int) -> dict[str, Any]:
    """Images a second by each way, medians of interleaved rounds."""
    table = pq.read_table(data / case.data / "test.parquet").slice(0, case.n)
    with tempfile.TemporaryDirectory() as scratch:
        paths = []
        for number, picture in enumerate(table["image"].to_pylist()):
            paths.append(Path(scratch) / f"{number:05d}.img")
            paths[-1].write_bytes(picture["bytes"])
            paths[-1] = paths[-1].rename(paths[-1].with_suffix(suffix_of(picture["bytes"])))
        encoder = NetworkEncoder(case.network, Runtime("cpu", "openvino"))
        torch_encoder = NetworkEncoder(case.network, Runtime("cpu", "torch"))
        pixels = decode_all(paths[: 4 * BATCH], case.network)
        ways: dict[str, Callable[[], Vectors]] = {
            "gmvaluator": lambda: embed(ImageSet.open(Path(scratch)), encoder).vectors,
            "loop": lambda: plain_loop(paths, case.network),
            "loader": lambda: loader_loop(paths, case.network),
            "one by one": lambda: plain_loop(paths[:SINGLE], case.network, 1),
            "openvino alone": lambda: alone(encoder, pixels),
            "torch alone": lambda: alone(torch_encoder, pixels),
        }
        if case.name.startswith("st-lpips"):
            reference = reference_stlpips("alex")
            ways["package"] = lambda: package_loop(paths, case.network, reference)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        found: dict[str, Vectors] = {}
        for number in range(rounds + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                found[name] = way()
                # the first round warms caches and compiles
                if number:
                    counts = {"one by one": SINGLE, "openvino alone": len(pixels)}
                    passed = (counts | {"torch alone": len(pixels)}).get(name, len(paths))
                    seconds[name].append((time.perf_counter() - start) / passed)
    ours, theirs = found["gmvaluator"], found["loop"]
    difference = np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)
    row = {
        "encoder": case.name,
        "data": case.data,
        "n": case.n,
        "images_per_second": {n: round(1 / statistics.median(s), 1) for n, s in seconds.items()},
        "relative_difference": float(difference.max()),
    }
    print(row, flush=True)
    return row


def suffix_of(content: bytes) -> str:
    """Of the file a data set's image came as."""
    return ".png" if content.startswith(b"\x89PNG") else ".jpg"


def decode_all(paths: list[Path], network: Network) -> NDArray[np.uint8]:
    """(n, 3, side, side) uint8."""
    side = network.preprocessing.size
    return np.stack([one_image(path.read_bytes(), side) for path in paths])


def one_image(content: bytes, side: int) -> NDArray[np.uint8]:
    """Decode and resize as the encoder's preprocessing does."""
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    resized = picture.resize((side, side), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def plain_loop(paths: list[Path], network: Network, size: int = BATCH) -> Vectors:
    """Read, decode, stack, forward; one after the other."""
    module, found = torch_module(network), []
    with torch.inference_mode():
        for start in range(0, len(paths), size):
            batch = torch.from_numpy(decode_all(paths[start : start + size], network))
            found.append(module(batch).numpy())
    return np.concatenate(found)


def package_loop(paths: list[Path], network: Network, reference: Any) -> Vectors:
    """Distances of pairs by the package's network in torch; every image is in one pair."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(paths), BATCH):
            batch = torch.from_numpy(decode_all(paths[start : start + BATCH], network))
            left, right = (batch.float() / 127.5 - 1).chunk(2)
            found.append(reference(left, right).flatten().numpy())
    return np.concatenate(found)


class Files(torch.utils.data.Dataset[torch.Tensor]):
    """The files as a torch data set."""

    def __init__(self, paths: list[Path], side: int) -> None:
        self.paths = paths
        self.side = side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(one_image(self.paths[index].read_bytes(), self.side))


def loader_loop(paths: list[Path], network: Network) -> Vectors:
    """A DataLoader decodes in processes of its own while torch computes."""
    loader = torch.utils.data.DataLoader(
        Files(paths, network.preprocessing.size), batch_size=BATCH, num_workers=2
    )
    module = torch_module(network)
    with torch.inference_mode():
        return np.concatenate([module(batch).numpy() for batch in loader])


def alone(encoder: NetworkEncoder, pixels: NDArray[np.uint8]) -> Vectors:
    """The network without files."""
    parts = [encoder.encode(pixels[at : at + BATCH]) for at in range(0, len(pixels), BATCH)]
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
