"""How much of this machine each stage uses: multiply-adds and bytes against what it can do.

    python benchmarks/limits.py --data DATA --out docs/results

The machine's own limits are measured first and last, in the same run: a large matrix product
(OpenBLAS through NumPy and oneDNN through torch, the better counts) and copying a large array.
DATA holds mnist/ (Hugging Face layout).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import arguments, publish
from torch.utils.flop_counter import FlopCounterMode

from gmvaluator import ImageSet, Weights
from gmvaluator.encoders.backends import NetworkEncoder, Runtime, torch_module
from gmvaluator.encoders.efficientnet import build as build_efficientnet_lite0
from gmvaluator.encoders.embedding import embed
from gmvaluator.encoders.stlpips import build as build_stlpips
from gmvaluator.geometry import nearest, pair_squared

IMAGES, BATCH = 1_024, 64
# of the matrix product, of the copied array, of the exact search, of generated ST-LPIPS vectors
SIDE, COPIED, POINTS, QUERIES, HELD = 2_048, 1 << 26, 60_000, 1_000, 5_000
ROUNDS = 5


def main() -> None:
    """Parse, measure, write."""
    parser = arguments(__doc__)
    args = parser.parse_args()
    load = os.getloadavg()[0]
    before = machine()
    rows = [*embedding(args.data), recall_stage(), *rerank_stage()]
    after = machine()
    limits = {name: max(before[name], after[name]) for name in before}
    for row in rows:
        row["share_of_gflops"] = row["gflops"] / limits["gflops"]
        row["share_of_bandwidth"] = row["gbytes"] / limits["gbytes"] if "gbytes" in row else None
    lines = [
        f"Matrix product: {limits['gflops']:.0f} GFLOP/s; copying: {limits['gbytes']:.1f} GB/s "
        "read and written.",
        "",
        "| stage | rate | GFLOP/s | of the matrix product | GB/s read | of the bandwidth |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        share = row["share_of_bandwidth"]
        read = f"{row['gbytes']:.1f} | {100 * share:.0f} %" if share is not None else " | "
        lines.append(
            f"| {row['stage']} | {row['rate']} | {row['gflops']:.1f} "
            f"| {100 * row['share_of_gflops']:.0f} % | {read} |"
        )
    result = {"load_before": load, "machine": limits, "stages": rows}
    publish(args.out, "limits", result, lines)


def best(action: Callable[[], object], rounds: int | None = None) -> float:
    """Shortest wall seconds of some rounds, after one to warm up."""
    action()
    seconds = []
    for _ in range(rounds or ROUNDS):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def machine() -> dict[str, float]:
    """GFLOP/s of a float32 matrix product, GB/s of a copy."""
    a = np.random.default_rng(0).random((SIDE, SIDE), dtype=np.float32)
    t = torch.from_numpy(a)
    product = min(best(lambda: a @ a), best(lambda: t @ t))
    source = np.ones(COPIED, dtype=np.float32)
    tensor, target = torch.from_numpy(source), torch.empty(COPIED)
    copied = best(lambda: target.copy_(tensor))
    return {"gflops": 2 * SIDE**3 / product / 1e9, "gbytes": 2 * source.nbytes / copied / 1e9}


def embedding(data: Path) -> list[dict[str, Any]]:
    """From Parquet to vectors, and the network alone."""
    weights = Weights(offline=True)
    images = ImageSet.open(data / "mnist" / "test.parquet")
    found = []
    for network in (
        build_efficientnet_lite0(None, 160, weights),
        build_efficientnet_lite0(None, 96, weights),
        build_stlpips("alex", 32, weights),
    ):
        (batch,) = images.batches(network.preprocessing, BATCH, rows=np.arange(BATCH))
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            torch_module(network)(torch.from_numpy(batch.pixels[:2]))
        operations = counter.get_total_flops() / 2
        encoder = NetworkEncoder(network, Runtime("cpu"))
        alone = BATCH / best(lambda e=encoder, b=batch: e.encode(b.pixels), 9)  # type: ignore[misc]
        whole = IMAGES / best(
            lambda e=encoder: embed(images, e, rows=np.arange(IMAGES)),  # type: ignore[misc]
            2,
        )
        for stage, rate in (("network alone", alone), ("from files", whole)):
            found.append(
                {
                    "stage": f"{network.name}, {stage}",
                    "rate": f"{rate:.0f} images/s",
                    "gflops": rate * operations / 1e9,
                }
            )
    return found


def recall_stage() -> dict[str, Any]:
    """Exact search: 1,000 queries in 60,000 vectors of 1,280 numbers."""
    rng = np.random.default_rng(0)
    points = rng.random((POINTS, 1_280), dtype=np.float32)
    queries = rng.random((QUERIES, 1_280), dtype=np.float32)
    seconds = best(lambda: nearest(queries, points, 200), 2)
    return {
        "stage": "exact recall",
        "rate": f"{QUERIES / seconds:.0f} queries/s",
        "gflops": 2 * QUERIES * POINTS * 1_280 / seconds / 1e9,
    }


def rerank_stage() -> list[dict[str, Any]]:
    """Distances of pairs of ST-LPIPS vectors, as the streaming re-rank asks for them.

    Then the same with the generated vectors kept in half precision and converted pair by pair.
    """
    dim, held, block, pairs = 36_288, HELD, BATCH, 33
    rng = np.random.default_rng(0)
    generated = rng.random((held, dim), dtype=np.float32)
    train = rng.random((block, dim), dtype=np.float32)
    rows = np.repeat(np.arange(block), pairs)
    others = rng.integers(0, held, len(rows))
    order = np.argsort(others, kind="stable")
    rows, others = rows[order], others[order]
    half = torch.from_numpy(generated).half()
    own = torch.from_numpy(train)

    def converted() -> None:
        for row in range(block):
            chosen = torch.from_numpy(others[rows == row])
            ((half[chosen].float() - own[row]) ** 2).sum(dim=1)

    found = []
    for name, number_bytes, way in (
        ("float32, in place", 4, lambda: pair_squared(train, rows, generated, others)),
        ("float16, converted", 2, converted),
    ):
        seconds = best(way, 9)
        found.append(
            {
                "stage": f"re-rank distances, ST-LPIPS at 32 px, {name}",
                "rate": f"{len(rows) / seconds:.0f} pairs/s",
                "gflops": 3 * len(rows) * dim / seconds / 1e9,
                # each generated vector from memory once; the training vectors stay in the cache
                "gbytes": number_bytes * len(np.unique(others)) * dim / seconds / 1e9,
            }
        )
    return found


if __name__ == "__main__":
    main()
