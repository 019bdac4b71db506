"""Identical class ratio of the top 30 contributors, for the choices behind the offline preset.

Real test images stand in for generated ones, so their class is known. For each data set and
encoder input size the training set is embedded once; similarity and re-rank vary on top.

    python benchmarks/class_ratio.py --data DATA --out docs/results

DATA holds mnist/{train,test}.parquet and cifar10/{train,test}.parquet (Hugging Face layout).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gmvaluator import GMValuator, ImageSet, Weights, versions
from gmvaluator.embeddings import embed
from gmvaluator.encoders import load_encoder
from gmvaluator.encoders.backends import Runtime
from gmvaluator.encoders.base import Encoder
from gmvaluator.fitted import training_set
from gmvaluator.fitting import learn_scales
from gmvaluator.geometry import Metric, Space
from gmvaluator.progress import Bars
from gmvaluator.recall import build_index, recall
from gmvaluator.rerank import Side, Term, rerank

TOP = 30
CANDIDATES = 200
DRAW = 100
TARGETS = {"mnist": 0.91, "cifar10": 0.63}
METRICS: tuple[Metric, ...] = ("centred-cosine", "cosine")


@dataclass(frozen=True)
class Row:
    """One line of the table: mean ratio over draws of 100 test images, and its 95 % interval."""

    data: str
    size: int
    similarity: str
    rerank: str
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Embedded:
    """A data set embedded by one encoder."""

    train: ImageSet
    test: ImageSet
    rows: NDArray[np.int64]
    order: NDArray[np.int64]
    train_vectors: NDArray[np.float32]
    test_vectors: NDArray[np.float32]


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--sets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[96, 128, 160])
    parser.add_argument("--draws", type=int, default=10, help="draws of 100 test images")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start = time.perf_counter()
    rows: list[Row] = []
    for name in args.sets:
        train = ImageSet.open(args.data / name / "train.parquet")
        test = draw_test(args.data / name / "test.parquet", args.draws, args.seed)
        for size in args.sizes:
            encoder = load_encoder(f"efficientnet-lite0@{size}", Weights(), Runtime())
            for row in measure(name, size, encoder, train, test):
                rows.append(row)
                print(f"{name:8} {size:4} {row.similarity:15} {row.rerank:30} {row.ratio:.3f}")
    report(args, rows, time.perf_counter() - start)


def draw_test(path: Path, draws: int, seed: int) -> ImageSet:
    """`draws` · 100 different test images; draw d is the d-th hundred."""
    test = ImageSet.open(path)
    chosen = np.random.default_rng(seed).permutation(len(test))[: draws * DRAW]
    return test.select(chosen)


def measure(
    name: str, size: int, encoder: Encoder, train: ImageSet, test: ImageSet
) -> Iterator[Row]:
    """All similarities and re-ranks on one embedding of the data set."""
    learned = embed(train, encoder, progress=Bars(), stage=f"{name} at {size} px")
    asked = embed(test, encoder)
    known = training_set(train.ids, train.labels, train.location, learned)
    data = Embedded(train, test, known.rows, known.order, learned.vectors, asked.vectors)
    own = encoder.name.split("@")[0]
    variants = (("none",), ("l2",), ("st-lpips:alex@32",), (own, "l2"))
    for metric in METRICS:
        for variant in variants if metric == METRICS[0] else (("none",), (own, "l2")):
            ratios = class_ratios(data, encoder, metric, variant)
            low, high = interval(ratios)
            mean = float(ratios.mean())
            yield Row(name, size, metric, " + ".join(variant), mean, low, high)


def class_ratios(
    data: Embedded, encoder: Encoder, metric: Metric, variant: tuple[str, ...]
) -> NDArray[np.float64]:
    """(draws,) share of the top 30 contributors that have the class of the image."""
    space = Space.fit(metric, data.train_vectors)
    placed, asked = space.place(data.train_vectors), space.place(data.test_vectors)
    n = len(placed)
    candidates = recall(build_index(placed, "exact"), space, asked, CANDIDATES, n_train=n)
    side = Side(data.train, data.rows, {encoder.fingerprint: placed})
    other = Side(data.test, np.arange(len(asked)), {encoder.fingerprint: asked})
    terms = []
    for each in variant if variant != ("none",) else ():
        if each == encoder.name.split("@")[0]:
            terms.append(Term(encoder, space))
        else:
            second = load_encoder(each, Weights(), Runtime())
            terms.append(Term(second, Space(second.metric)))
    if len(terms) > 1:
        scales = learn_scales(terms, side, placed, data.order, CANDIDATES)
        terms = [
            Term(term.encoder, term.space, scale=scale)
            for term, scale in zip(terms, scales, strict=True)
        ]
    found = rerank(candidates, side, other, terms, TOP)
    labels = np.asarray(data.train.labels)[data.rows]
    same = labels[found.rows] == np.asarray(data.test.labels)[:, None]
    return np.asarray(same.reshape(-1, DRAW * TOP).mean(axis=1))


def interval(ratios: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the mean over draws, by Student's t."""
    from scipy.stats import t

    half = t.ppf(0.975, len(ratios) - 1) * ratios.std(ddof=1) / len(ratios) ** 0.5
    return float(ratios.mean() - half), float(ratios.mean() + half)


def report(args: argparse.Namespace, rows: list[Row], seconds: float) -> None:
    """Write class_ratio.json and class_ratio.md."""
    default = GMValuator().settings.as_json()
    result = {
        "command": f"python benchmarks/class_ratio.py --draws {args.draws} --seed {args.seed}",
        "default_settings": default,
        "targets": TARGETS,
        "versions": versions.installed(),
        "seconds": round(seconds),
        "rows": [asdict(row) for row in rows],
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "class_ratio.json").write_text(json.dumps(result, indent=2) + "\n")
    lines = [
        "| data | input px | similarity | re-rank | top-30 class ratio | 95 % interval |",
        "|---|---|---|---|---|---|",
        *(
            f"| {r.data} | {r.size} | {r.similarity} | {r.rerank} | {r.ratio:.3f} "
            f"| {r.low:.3f} to {r.high:.3f} |"
            for r in rows
        ),
    ]
    (args.out / "class_ratio.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
