"""ST-LPIPS in lower precision: what it would gain, and how far it would leave torch's numbers.

    python benchmarks/precision.py --data DATA --out docs/results

The same network and pixels through OpenVINO in float32, bfloat16 and float16, and through torch
in float32 and under autocast to bfloat16; rounds are interleaved and the median counts. Wanted of
a backend: vectors within 1e-3 (relative) of torch in float32. DATA holds mnist/ and cifar10/
(Hugging Face layout).
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from results import arguments, publish

from gmvaluator import ImageSet, Weights
from gmvaluator.encoders.backends import import_openvino, torch_module
from gmvaluator.encoders.base import Network
from gmvaluator.encoders.stlpips import build

BATCH = 64
N = 256
CASES = ((32, "mnist"), (64, "cifar10"))
ALLOWED = 1e-3
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def main() -> None:
    """Parse, measure, write."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rows = [row for side, data in CASES for row in measure(side, args.data / data, args.rounds)]
    lines = [
        "| network | files | how | images/s | × torch in float32 | relative difference of a "
        "vector | of a squared distance | within 1e-3 |",
        "|---" * 8 + "|",
    ]
    lines += [
        f"| {row['network']} | {row['data']} | {row['way']} | {row['images_per_second']:.0f} "
        f"| {row['ratio']:.2f} | {row['vector_difference']:.1e} | {row['distance_difference']:.1e} "
        f"| {'yes' if row['vector_difference'] <= ALLOWED else 'no'} |"
        for row in rows
    ]
    publish(args.out, "precision", {"rows": rows}, lines)


def measure(side: int, data: Path, rounds: int) -> list[dict[str, Any]]:
    """One row a way of running."""
    network = build("alex", side, Weights(offline=True))
    images = ImageSet.open(data / "test.parquet").select(np.arange(N))
    pixels = np.concatenate([batch.pixels for batch in images.batches(network.preprocessing)])
    ways = {
        "torch, float32": through_torch(network, None),
        "torch, bfloat16": through_torch(network, torch.bfloat16),
        **{f"OpenVINO, {kind}": through_openvino(network, kind) for kind in ("f32", "bf16", "f16")},
    }
    vectors = {name: whole(run, pixels) for name, run in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            start = time.perf_counter()
            whole(run, pixels)
            seconds[name].append(time.perf_counter() - start)
    rate = {name: N / statistics.median(spent) for name, spent in seconds.items()}
    exact = vectors["torch, float32"]
    distances = squared(exact)
    rows = []
    for name, found in vectors.items():
        off = np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)
        rows.append(
            {
                "network": f"st-lpips:alex@{side}",
                "data": data.name,
                "way": name,
                "images_per_second": rate[name],
                "ratio": rate[name] / rate["torch, float32"],
                "vector_difference": float(off.max()),
                "distance_difference": float(np.abs(squared(found) / distances - 1).max()),
            }
        )
    return rows


def through_torch(network: Network, kind: torch.dtype | None) -> Run:
    """The module itself, eager."""
    module = torch_module(network)

    def run(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        autocast = torch.autocast("cpu", kind or torch.bfloat16, enabled=kind is not None)
        with torch.inference_mode(), autocast:
            found: NDArray[np.float32] = module(torch.from_numpy(batch)).float().numpy()
        return found

    return run


def through_openvino(network: Network, kind: str) -> Run:
    """Compiled with a precision hint."""
    openvino = import_openvino()
    side = network.preprocessing.size
    example = torch.zeros((2, 3, side, side), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = openvino.convert_model(
            torch_module(network).eval(), example_input=example, input=[(-1, 3, side, side)]
        )
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": kind}
    compiled = openvino.Core().compile_model(model, "CPU", hints)
    return lambda batch: np.array(compiled(batch)[0], dtype=np.float32)


def whole(run: Run, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """All batches."""
    return np.concatenate([run(pixels[at : at + BATCH]) for at in range(0, len(pixels), BATCH)])


def squared(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Squared distances of the first half's vectors to the second half's, pair by pair."""
    half = len(vectors) // 2
    difference = vectors[:half].astype(np.float64) - vectors[half:]
    return np.asarray((difference**2).sum(axis=1))


if __name__ == "__main__":
    main()
