"""The paper's own task, MNIST with n = 60,000 and m = 10,000, stage by stage; and the obvious way.

    python benchmarks/paper_scale.py --data DATA --out docs/results

Every re-rank runs cold in a process of its own, so that its peak memory is its own. In the same
run the obvious loop is timed on samples and extrapolated: a torch encoder in batches of 64,
faiss's default product quantization, one call of the perceptual network a pair, as the public
demo of the paper has it; same weights, same sizes, images already read from disk. DreamSim has no
weights here: its architecture with random ones is timed on a sample. DATA holds mnist/ (Hugging
Face layout).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from results import arguments, publish

N, M, CANDIDATES = 60_000, 10_000, 200
SIZES = (10, 100, 1_000, 10_000)
ENCODER = "efficientnet-lite0@96"
PERCEPTUAL = "st-lpips:alex@32"
VARIANTS = ("none", "l2", PERCEPTUAL)
PAPER = {"none": 2_137, "l2": 3_388, PERCEPTUAL: 4_771, "dreamsim": 17_086}
OBVIOUS_INDEX, PQ_SAMPLE = "PCAR256,PQ64", 10_000
TIMED_IMAGES, TIMED_PAIRS, TIMED_VITS = 512, 200, 48
TRUNKS = ("vit_base_patch16_224",) * 3  # of DreamSim's ensemble


def main() -> None:
    """Parse, measure each part in a process of its own, write."""
    parser = arguments(__doc__)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        print(json.dumps(PARTS[args.part](args.data, args.part)))
        return
    file = args.out / "paper_scale.json"
    parts: dict[str, Any] = json.loads(file.read_text())["parts"] if file.exists() else {}
    for part in args.parts:
        command = [sys.executable, __file__, "--data", str(args.data), "--part", part]
        load = os.getloadavg()[0]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        parts[part] = {"load_before": round(load, 2)} | json.loads(done.stdout.splitlines()[-1])
        print(part, json.dumps(parts[part]), flush=True)
    result = {"encoder": ENCODER, "paper_seconds_on_rtx_3080": PAPER, "parts": parts}
    publish(args.out, "paper_scale", result, tables(parts).splitlines())


def ours(data: Path, rerank: str) -> dict[str, Any]:
    """Fit once, value m generated images for each m; nothing is taken from a cache."""
    from gmvaluator import GMValuator, ImageSet

    valuator = GMValuator(
        encoder=ENCODER, rerank=rerank, candidates=CANDIDATES, cache=False, progress=True
    )
    start = time.perf_counter()
    valuator.fit(data / "mnist" / "train.parquet")
    fit = time.perf_counter() - start
    test = ImageSet.open(data / "mnist" / "test.parquet")
    rows = np.random.default_rng(0).permutation(len(test))
    runs = []
    for m in SIZES if rerank == PERCEPTUAL else (M,):
        start = time.perf_counter()
        valuation = valuator.value(test.select(rows[:m]))
        seconds = time.perf_counter() - start
        stages = dict(valuation.record.seconds)
        index = valuation.record.settings.index_used
        runs.append({"m": m, "seconds": fit + seconds, "stages": stages, "index": index})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return {"peak_gb": round(peak, 2), "runs": runs}


def obvious(data: Path, _: str) -> dict[str, Any]:
    """Seconds an image, an index and a pair of the loop people would write first."""
    import faiss
    import torch
    from embedding_speed import one_image

    from gmvaluator import Weights
    from gmvaluator.encoders.backends import torch_module
    from gmvaluator.encoders.efficientnet import build as build_efficientnet_lite0
    from gmvaluator.encoders.stlpips import build as build_stlpips

    column = pq.read_table(data / "mnist" / "train.parquet", columns=["image"])["image"]
    encoder = build_efficientnet_lite0(None, 96, Weights(offline=True))
    perceptual = build_stlpips("alex", 32, Weights(offline=True))
    encode, compare = torch_module(encoder), torch_module(perceptual)
    generator = np.random.default_rng(0)

    def pixels(row: int, network: Any) -> torch.Tensor:
        content = column[row]["bytes"].as_py()
        return torch.from_numpy(one_image(content, network.preprocessing.size))[None]

    with torch.inference_mode():
        rows = generator.integers(0, N, TIMED_IMAGES).tolist()
        encode(pixels(0, encoder))
        start = time.perf_counter()
        for at in range(0, TIMED_IMAGES, 64):
            encode(torch.cat([pixels(row, encoder) for row in rows[at : at + 64]]))
        per_image = (time.perf_counter() - start) / TIMED_IMAGES
        start = time.perf_counter()
        for row in rows[:TIMED_PAIRS]:
            a = compare(pixels(row, perceptual))
            b = compare(pixels(rows[-1], perceptual))
            float(((a - b) ** 2).sum())
        per_pair = (time.perf_counter() - start) / TIMED_PAIRS
    # random vectors: the seconds of k-means and of its code order do not depend on their meaning
    vectors = generator.normal(size=(PQ_SAMPLE, 1280)).astype(np.float32)
    index = faiss.index_factory(1280, OBVIOUS_INDEX)
    start = time.perf_counter()
    index.train(vectors)
    training = time.perf_counter() - start
    start = time.perf_counter()
    index.add(vectors)
    adding = (time.perf_counter() - start) * N / PQ_SAMPLE
    for _round in range(N // PQ_SAMPLE - 1):
        index.add(vectors)
    start = time.perf_counter()
    index.search(vectors[:100], CANDIDATES)
    per_query = (time.perf_counter() - start) / 100
    return {
        "seconds_per_image": per_image,
        "seconds_per_pair": per_pair,
        "pq_training_on_10000": training,
        "adding": adding,
        "seconds_per_query": per_query,
        "totals": {
            m: {
                "embed": per_image * (N + m),
                "index": training + adding,
                "recall": per_query * m,
                "rerank": per_pair * m * CANDIDATES,
            }
            for m in SIZES
        },
    }


def dreamsim(data: Path, _: str) -> dict[str, Any]:
    """DreamSim's ensemble is three ViT-B/16 at 224 px; seconds an image with random weights."""
    import timm
    import torch

    from gmvaluator import ImageSet
    from gmvaluator.encoders._modules import Normalise, frozen
    from gmvaluator.encoders.backends import NetworkEncoder, Runtime
    from gmvaluator.encoders.base import Network
    from gmvaluator.images import Preprocessing

    class Ensemble(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = torch.nn.ModuleList(timm.create_model(n, num_classes=0) for n in TRUNKS)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.cat([part(pixels) for part in self.parts], dim=1)

    torch.manual_seed(0)
    module = frozen(Normalise.from_unit([0.5] * 3, [0.5] * 3), Ensemble())
    network = Network("dreamsim-architecture@224", module, Preprocessing(224), "cosine")
    train = ImageSet.open(data / "mnist" / "train.parquet")
    batches = list(train.batches(network.preprocessing, 16, rows=np.arange(TIMED_VITS)))
    seconds = {}
    for backend in ("openvino", "torch"):
        encoder = NetworkEncoder(network, Runtime("cpu", backend))
        encoder.encode(batches[0].pixels)
        start = time.perf_counter()
        for batch in batches:
            encoder.encode(batch.pixels)
        seconds[backend] = (time.perf_counter() - start) / TIMED_VITS
    return {"seconds_per_image": seconds, "extrapolated_rerank": seconds["openvino"] * (N + M)}


PARTS: dict[str, Any] = dict.fromkeys(VARIANTS, ours) | {
    "obvious": obvious,
    "dreamsim": dreamsim,
}


def tables(parts: dict[str, Any]) -> str:
    """What the page shows."""
    lines = [
        "| re-rank | embed train | fit | embed generated | recall | rerank | quality, values "
        "| total, s | paper on its GPU, s | × faster | peak memory, GB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in VARIANTS:
        run, peak = parts[name]["runs"][-1], parts[name]["peak_gb"]
        s = run["stages"]
        cells = [s["embed train"], s["fit"], s["embed generated"], s["recall"], s["rerank"]]
        cells.append(s["quality"] + s["values"])
        row = " | ".join(f"{cell:.0f}" for cell in cells)
        lines.append(
            f"| {name} | {row} | {run['seconds']:.0f} | {PAPER[name]} "
            f"| {PAPER[name] / run['seconds']:.1f} | {peak:.2f} |"
        )
    base = parts["none"]["runs"][-1]["seconds"]
    total = base + parts["dreamsim"]["extrapolated_rerank"]
    lines.append(
        f"| DreamSim's architecture (extrapolated) | | | | | "
        f"{parts['dreamsim']['extrapolated_rerank']:.0f} | | {total:.0f} | {PAPER['dreamsim']} "
        f"| {PAPER['dreamsim'] / total:.2f} | |"
    )
    lines += [
        "",
        f"Against the obvious loop, {PERCEPTUAL}, seconds by stage (ours / obvious = ratio):",
        "",
        "| m | embed | index and recall | rerank | total | × faster |",
        "|---|---|---|---|---|---|",
    ]
    for run in parts[PERCEPTUAL]["runs"]:
        other = parts["obvious"]["totals"][str(run["m"])]
        s = run["stages"]
        pairs = [
            (s["embed train"] + s["embed generated"], other["embed"]),
            (s["recall"], other["index"] + other["recall"]),
            (s["rerank"], other["rerank"]),
            (run["seconds"], sum(other.values())),
        ]
        cells = [f"{a:.1f} / {b:.0f} = {b / a:.1f}" for a, b in pairs]
        ratio = pairs[-1][1] / pairs[-1][0]
        lines.append(f"| {run['m']} | " + " | ".join(cells) + f" | {ratio:.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
