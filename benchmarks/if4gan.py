"""IF4GAN on digits: do its estimates order images as removing them does, and what do they find?

    python benchmarks/if4gan.py --data DATA --out docs/results

A fully connected GAN of 5,000 digits, 100 of them noised copies, is trained with a trace of its
last epoch; a metric's classifier learns 5,000 other digits. For each metric and seed: Kendall's tau
of the estimates against truly leaving out 40 images one at a time, whether noised images rank low
(AUROC), and seconds. Then the images with the lowest values are left out of the recorded epoch, a
hundredth and a tenth of all, against as many random ones; FID by other held-out digits judges it.

DATA holds mnist/ (Hugging Face layout).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import publish

from gmvaluator import ImageSet
from gmvaluator.arrays import known_labels
from gmvaluator.baselines.gan_metrics import (
    FrechetDistance,
    GANMetric,
    LogInceptionScore,
    LogLikelihood,
    train_metric_classifier,
)
from gmvaluator.baselines.gan_steps import GANRecipe, mlp_gan
from gmvaluator.baselines.gan_trace import train_traced
from gmvaluator.baselines.if4gan import (
    IF4GAN,
    cleanse,
    measured_after,
    removal_effects,
    signed_images,
)
from gmvaluator.evaluation.metrics import auroc, mean_interval
from gmvaluator.evaluation.planting import plant_noised
from gmvaluator.evaluation.workspace import Workspace
from gmvaluator.generators.training import torch_threads

N, NOISED, HELD_OUT = 5_000, 100, 5_000
SIGMA = 0.8
CHECKED = 40
SHARES = (0.01, 0.1)


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=80)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, torch_threads(1):
        runs = [
            run
            for seed in range(args.seeds)
            for run in trial(args.data, Workspace(scratch), seed, args.epochs)
        ]
    publish(args.out, "if4gan", {"n": N, "noised": NOISED, "runs": runs}, lines(runs))


def trial(data: Path, work: Workspace, seed: int, epochs: int) -> list[dict[str, Any]]:
    """One seed: a row a metric."""
    train = ImageSet.open(data / "mnist" / "train.parquet")
    order = np.random.default_rng(seed).permutation(len(train))
    clean = train.select(np.sort(order[: N - NOISED]))
    planted = plant_noised(clean, work, size=28, n_noised=NOISED, sigma=SIGMA, seed=seed)
    held_out = train.select(np.sort(order[N : N + HELD_OUT]))
    others = signed_images(held_out)
    labels = torch.from_numpy(known_labels(held_out, "held-out images").astype(np.int64))
    classifier = train_metric_classifier(others, labels, epochs=6, seed=seed)
    pixels = signed_images(planted.images)
    start = time.perf_counter()
    folder = work.path("traces", f"seed{seed}")
    recipe = GANRecipe(epochs=epochs, seed=seed)
    trace = train_traced(mlp_gan((1, 28, 28), seed=seed), pixels, folder, recipe)
    training = time.perf_counter() - start
    metrics: list[GANMetric] = [
        FrechetDistance(classifier.features, others[: HELD_OUT // 2]),
        LogInceptionScore(classifier),
        LogLikelihood(others[:1_000]),
    ]
    # cleansing is judged by digits that no value was computed from
    judge = FrechetDistance(classifier.features, others[HELD_OUT // 2 :])
    rows = []
    for metric in metrics:
        valuer = IF4GAN(trace, metric, checked=CHECKED, seed=seed).fit(planted.images)
        start = time.perf_counter()
        effects = removal_effects(trace, pixels, metric, valuer.codes)
        backward = time.perf_counter() - start
        start = time.perf_counter()
        agreement = valuer.agreement(effects)
        removal = (time.perf_counter() - start) / CHECKED
        values = metric.helpful * effects
        now = measured_after(trace, pixels, judge, valuer.codes)
        left_out = cleanse(trace, pixels, judge, valuer.codes, values, SHARES, seed=seed)
        rows.append(
            {
                "seed": seed,
                "metric": metric.name,
                "kendall_tau": agreement.kendall_tau,
                "auroc": auroc(-values, planted.noised),
                "training_seconds": training,
                "backward_seconds": backward,
                "removal_seconds": removal,
                "fid": now,
                **{f"fid_without_least_{each.share:g}": each.least for each in left_out},
                **{f"fid_without_random_{each.share:g}": each.random for each in left_out},
            }
        )
        print(rows[-1], flush=True)
    return rows


def lines(runs: list[dict[str, Any]]) -> list[str]:
    """As a table: means over seeds with 95 % intervals."""
    head = (
        "| metric | Kendall's tau, 40 true removals | AUROC of noised | training, s | backward, s "
        "| a true removal, s | FID | "
        + " | ".join(f"without the lowest {s:.0%} | without a random {s:.0%}" for s in SHARES)
        + " |"
    )
    table = [head, "|---" * head.count(" |") + "|"]
    for metric in dict.fromkeys(run["metric"] for run in runs):
        own = [run for run in runs if run["metric"] == metric]
        cells = []
        for name, digits in (
            ("kendall_tau", 2), ("auroc", 2), ("training_seconds", 0), ("backward_seconds", 1),
            ("removal_seconds", 2), ("fid", 4),
            *((f"fid_without_{which}_{s:g}", 4) for s in SHARES for which in ("least", "random")),
        ):  # fmt: skip
            found = mean_interval([run[name] for run in own])
            half = (found.high - found.low) / 2
            shown = f"{found.mean:.{digits}f}"
            plain = len(own) == 1 or name.endswith("seconds")
            cells.append(shown if plain else f"{shown} ± {half:.{digits}f}")
        table.append(f"| {metric} | {' | '.join(cells)} |")
    seeds = len({run["seed"] for run in runs})
    return [*table, "", f"Means over {seeds} seeds with 95 % intervals; one thread."]


if __name__ == "__main__":
    main()
