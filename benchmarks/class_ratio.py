"""Identical class ratio of the top 30 contributors, for the choices behind the offline preset.

Real test images stand in for generated ones, so their class is known. For each data set and
encoder the training set is embedded once; similarity and re-rank vary on top.

    python benchmarks/class_ratio.py --data DATA --out docs/results

DATA holds mnist/{train,test}.parquet and cifar10/{train,test}.parquet (Hugging Face layout).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator import GMValuator, ImageSet, Weights, versions
from gmvaluator.encoders import load_encoder
from gmvaluator.encoders.backends import Runtime
from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.embedding import embed
from gmvaluator.engine.train import learn_scales
from gmvaluator.engine.trained import TrainingSet
from gmvaluator.geometry import Metric, Space
from gmvaluator.matching.placed import PlacedSet, RecallSpace
from gmvaluator.matching.recall import search_space
from gmvaluator.matching.rerank import Term, rerank
from gmvaluator.matching.search.build import build_index
from gmvaluator.progress import Bars
from gmvaluator.settings import PRESETS

TOP = 30
CANDIDATES = 200
DRAW = 100
TARGETS = {"mnist": 0.91, "cifar10": 0.63}
METRICS: tuple[Metric, ...] = ("centred-cosine", "cosine")
OWN = "efficientnet-lite0"  # stands for the encoder measured, whatever its variant and size
ENCODERS = [f"{OWN}{form}@160" for form in ("", ":plain")]
Case = tuple[Metric, dict[str, float]]
VARIANTS: tuple[dict[str, float], ...] = (
    {},
    dict(PRESETS["offline-1"]["rerank"]),
    {OWN: 1.0, "l2": 0.25},
    {OWN: 1.0, "l2": 1.0},
    {"l2": 1.0},
    {"st-lpips:alex@32": 1.0},
)


@dataclass(frozen=True)
class Row:
    """One line of the table: mean ratio over draws of 100 test images, and its 95 % interval."""

    data: str
    encoder: str
    similarity: str
    rerank: str
    ratio: float
    low: float
    high: float
    draws: int


@dataclass(frozen=True)
class Embedded:
    """A data set embedded by one encoder."""

    train: ImageSet
    test: ImageSet
    known: TrainingSet
    test_keys: tuple[str, ...]
    train_vectors: NDArray[np.float32]
    test_vectors: NDArray[np.float32]


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--sets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--encoders", nargs="+", default=ENCODERS, metavar="NAME")
    parser.add_argument("--draws", type=int, default=10, help="draws of 100 test images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--st-lpips", action="store_true", help="measure ST-LPIPS too (slow)")
    parser.add_argument("--default-only", action="store_true", help="only the preset's re-rank")
    args = parser.parse_args()
    for name in args.sets:
        train = ImageSet.open(args.data / name / "train.parquet")
        test = draw_test(args.data / name / "test.parquet", args.draws, args.seed)
        for asked in args.encoders:
            encoder = load_encoder(asked, Weights(), Runtime())
            rows = list(measure(name, encoder, train, test, cases(args)))
            # written after each embedding: an interrupted benchmark keeps what it has measured
            report(args, rows)


def draw_test(path: Path, draws: int, seed: int) -> ImageSet:
    """`draws` · 100 different test images; draw d is the d-th hundred."""
    test = ImageSet.open(path)
    chosen = np.random.default_rng(seed).permutation(len(test))[: draws * DRAW]
    return test.select(chosen)


def cases(args: argparse.Namespace) -> list[Case]:
    """The (similarity, re-rank) pairs that were asked for."""
    default: Case = (METRICS[0], dict(PRESETS["offline-1"]["rerank"]))
    if args.default_only:
        return [default]
    kept = [v for v in VARIANTS if args.st_lpips or "st-lpips:alex@32" not in v]
    return [(METRICS[0], variant) for variant in kept] + [(METRICS[1], v) for v in VARIANTS[:2]]


def measure(
    name: str, encoder: Encoder, train: ImageSet, test: ImageSet, asked_for: list[Case]
) -> Iterator[Row]:
    """All similarities and re-ranks on one embedding of the data set."""
    learned = embed(train, encoder, progress=Bars(), stage=f"{name}: {encoder.name}")
    asked = embed(test, encoder)
    known = TrainingSet.of(train, learned)
    data = Embedded(train, test, known, asked.keys, learned.vectors, asked.vectors)
    for metric, variant in asked_for:
        ratios = class_ratios(data, encoder, metric, variant)
        low, high = interval(ratios)
        mean = float(ratios.mean())
        print(f"{name:8} {encoder.name} {metric:15} {title(variant):30} {mean:.3f}", flush=True)
        yield Row(name, encoder.name, metric, title(variant), mean, low, high, len(ratios))


def title(variant: dict[str, float]) -> str:
    """How a re-rank stands in the table."""
    names = {OWN: "encoder"}
    terms = (f"{weight:g} {names.get(name, name)}" for name, weight in variant.items())
    return " + ".join(terms) or "none"


def class_ratios(
    data: Embedded, encoder: Encoder, metric: Metric, variant: dict[str, float]
) -> NDArray[np.float64]:
    """(draws,) share of the top 30 contributors that have the class of the image."""
    space = Space.fit(metric, data.train_vectors)
    placed, asked = space.place(data.train_vectors), space.place(data.test_vectors)
    n = len(placed)
    candidates = search_space(build_index(placed, "exact"), space, asked, CANDIDATES, n_train=n)
    name, known = encoder.fingerprint, data.known
    train = PlacedSet(data.train, known.rows, known.keys, {name: placed}, kind="train")
    rows = np.arange(len(asked))
    test = PlacedSet(data.test, rows, data.test_keys, {name: asked}, kind="generated")
    terms = []
    for each, weight in variant.items():
        if each == OWN:
            terms.append(Term(encoder, space, weight))
        else:
            second = load_encoder(each, Weights(), Runtime())
            terms.append(Term(second, Space(second.metric), weight))
    if len(terms) > 1:
        scales = learn_scales(
            terms, train, RecallSpace(encoder, space, placed), known.order, CANDIDATES
        )
        terms = [
            Term(term.encoder, term.space, term.weight, scale)
            for term, scale in zip(terms, scales, strict=True)
        ]
    found = rerank(candidates, train, test, terms, TOP)
    labels = np.asarray(data.train.labels)[known.rows]
    same = labels[found.rows] == np.asarray(data.test.labels)[:, None]
    return np.asarray(same.reshape(-1, DRAW * TOP).mean(axis=1))


def interval(ratios: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the mean over draws, by Student's t."""
    from scipy.stats import t

    half = t.ppf(0.975, len(ratios) - 1) * ratios.std(ddof=1) / len(ratios) ** 0.5
    return float(ratios.mean() - half), float(ratios.mean() + half)


def report(args: argparse.Namespace, rows: list[Row]) -> None:
    """Merge rows into class_ratio.json, where they replace those of the same setting."""
    file = args.out / "class_ratio.json"
    earlier = json.loads(file.read_text())["rows"] if file.exists() else []
    merged = {key(row): row for row in [*earlier, *map(asdict, rows)]}
    ordered = sorted(merged.values(), key=lambda row: (row["data"] != "mnist", row["encoder"]))
    result = {
        "command": "python benchmarks/class_ratio.py --data DATA --out docs/results",
        "seed": args.seed,
        "default_settings": GMValuator().settings.as_json(),
        "targets": TARGETS,
        "versions": versions.installed(),
        "rows": ordered,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + "\n")
    lines = [
        "| data | encoder | similarity | re-rank | draws | top-30 class ratio | 95 % interval |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {r['data']} | {r['encoder']} | {r['similarity']} | {r['rerank']} | {r['draws']} "
            f"| {r['ratio']:.3f} | {r['low']:.3f} to {r['high']:.3f} |"
            for r in ordered
        ),
    ]
    (args.out / "class_ratio.md").write_text("\n".join(lines) + "\n")


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What identifies a row."""
    return row["data"], row["encoder"], row["similarity"], row["rerank"], row["draws"]


if __name__ == "__main__":
    main()
