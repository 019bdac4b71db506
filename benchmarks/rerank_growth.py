"""Re-rank time against the training set's size and against the recalled number (Figures 10, 12).

    python benchmarks/rerank_growth.py --data DATA --out docs/results

MNIST, 100 generated images, ST-LPIPS. Each point is the re-rank alone: the recall is done before.
DATA holds mnist/ (Hugging Face layout).
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
from results import arguments, publish

from gmvaluator import ImageSet, Weights
from gmvaluator.encoders import load_encoder
from gmvaluator.encoders.backends import Runtime
from gmvaluator.encoders.embedding import embed
from gmvaluator.geometry import Space
from gmvaluator.matching.placed import PlacedSet
from gmvaluator.matching.recall import search_space
from gmvaluator.matching.rerank import Term, rerank
from gmvaluator.matching.search.build import build_index

M = 100
SIZES = (1_000, 3_000, 10_000, 30_000)
CANDIDATES = 200
RECALLED = (50, 100, 200, 400, 800)


def main() -> None:
    """Parse, measure, write."""
    parser = arguments(__doc__)
    args = parser.parse_args()
    load = os.getloadavg()[0]
    weights, runtime = Weights(offline=True), Runtime("cpu")
    encoder = load_encoder("efficientnet-lite0@96", weights, runtime)
    perceptual = load_encoder("st-lpips:alex@32", weights, runtime)
    perceptual.prepare()
    train = ImageSet.open(args.data / "mnist" / "train.parquet")
    test = ImageSet.open(args.data / "mnist" / "test.parquet")
    rows = np.random.default_rng(0).permutation(len(train))[: max(SIZES)]
    asked = np.random.default_rng(1).permutation(len(test))[:M]
    learned, embedded = embed(train, encoder, rows=rows), embed(test, encoder, rows=asked)
    placed = Space("cosine").place(learned.vectors)
    queries = Space("cosine").place(embedded.vectors)
    generated = PlacedSet(test, asked, embedded.keys, {}, kind="generated")

    def point(n: int, recalled: int) -> dict[str, Any]:
        index = build_index(placed[:n], "exact")
        found = search_space(index, Space("cosine"), queries, recalled, n_train=n)
        term = Term(perceptual, Space(perceptual.metric))
        start = time.perf_counter()
        training = PlacedSet(train, rows[:n], learned.keys[:n], {}, kind="train")
        rerank(found, training, generated, [term], min(30, recalled))
        seconds = time.perf_counter() - start
        distinct = len(np.unique(found.rows))
        return {"n": n, "recalled": recalled, "seconds": seconds, "shortlisted": distinct}

    point(SIZES[0], RECALLED[0])
    points = [point(n, CANDIDATES) for n in SIZES] + [point(max(SIZES), each) for each in RECALLED]
    lines = ["| n | recalled | different images shortlisted | seconds |", "|---|---|---|---|"]
    lines += [
        f"| {p['n']} | {p['recalled']} | {p['shortlisted']} | {p['seconds']:.1f} |" for p in points
    ]
    publish(args.out, "rerank_growth", {"load_before": load, "points": points}, lines)


if __name__ == "__main__":
    main()
