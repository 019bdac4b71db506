"""IF4GAN on digits: do its estimates order images as removing them does, and what do they find?

    python benchmarks/if4gan.py --data DATA --out docs/results

Points: the published GAN of the plane, 10,000 points, its last epoch recorded, by log-likelihood;
with the ReLU of the publication, and with tanh. Kendall's tau of the estimates against truly
leaving out 100 points, and how many of these the estimate gives to a hundredth.

Digits: a fully connected GAN of 5,000 digits, 100 of them noised copies, is trained with a trace of
its last epoch; a metric's classifier learns 5,000 other digits. For each metric and seed: Kendall's
tau of the estimates against truly leaving out 40 images one at a time, whether noised images rank
low (AUROC), and seconds. Then the images with the lowest values are left out of the recorded epoch,
a hundredth and a tenth of all, against as many random ones; FID by other held-out digits judges it.

DATA holds mnist/ (Hugging Face layout).
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import arguments, publish
from scipy.stats import kendalltau
from torch import nn

from gmvaluator import ImageSet
from gmvaluator.baselines.gan_metrics import (
    FrechetDistance,
    GANMetric,
    LogInceptionScore,
    LogLikelihood,
    train_metric_classifier,
)
from gmvaluator.baselines.gan_steps import (
    OFFICIAL_POINTS,
    GANRecipe,
    mlp_gan,
    official_points_gan,
)
from gmvaluator.baselines.gan_trace import train_traced
from gmvaluator.baselines.if4gan import (
    IF4GAN,
    cleanse,
    measured_after,
    removal_effects,
    signed_images,
    true_effects,
)
from gmvaluator.evaluation.metrics import auroc, mean_interval
from gmvaluator.evaluation.planted.noise import plant_noised
from gmvaluator.files.pieces import Workspace
from gmvaluator.generators.training import torch_threads
from gmvaluator.images.pixels import known_labels

N, NOISED, HELD_OUT = 5_000, 100, 5_000
SIGMA = 0.8
CHECKED = 40
DTYPE = torch.float64  # in float32 rounding exceeds what one image changes
POINTS, HELD_OUT_POINTS, CHECKED_POINTS = 10_000, 1_000, 100
SHARES = (0.01, 0.1)


def main() -> None:
    """Parse, measure, write."""
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--learning-rate", type=float, default=GANRecipe().learning_rate)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, torch_threads(1):
        plane = [
            points(activation, Workspace(scratch), seed)
            for activation in (nn.ReLU, nn.Tanh)
            for seed in range(args.seeds)
        ]
        runs = [
            run
            for seed in range(args.seeds)
            for run in trial(args.data, Workspace(scratch), seed, args.epochs, args.learning_rate)
        ]
    found = {"points": plane, "n": N, "noised": NOISED, "runs": runs}
    publish(args.out, "if4gan", found, [*point_lines(plane), *lines(runs)])


def points(activation: type[nn.Module], work: Workspace, seed: int) -> dict[str, Any]:
    """One seed of the published GAN of the plane."""
    rng = np.random.default_rng(seed)

    def drawn(n: int) -> torch.Tensor:
        return torch.from_numpy(rng.multivariate_normal([1, 1], [[1, 0.8], [0.8, 1]], n))

    data, metric = drawn(POINTS), LogLikelihood(drawn(HELD_OUT_POINTS))
    folder = work.path("traces", f"{activation.__name__}-seed{seed}")
    recipe = replace(OFFICIAL_POINTS, seed=seed)
    trace = train_traced(official_points_gan(seed, activation), data, folder, recipe)
    chance = torch.Generator().manual_seed(seed)
    codes = torch.randn((POINTS // 10, trace.pair.latent), generator=chance, dtype=data.dtype)
    rows = rng.permutation(POINTS)[:CHECKED_POINTS]
    estimated = removal_effects(trace, data, metric, codes)[rows]
    true = true_effects(trace, data, metric, codes, rows)
    found = {
        "activation": activation.__name__,
        "seed": seed,
        "kendall_tau": float(kendalltau(estimated, true).statistic),
        "exact": float(np.mean(np.isclose(estimated, true, rtol=0.01, atol=0))),
    }
    print(found, flush=True)
    return found


def point_lines(runs: list[dict[str, Any]]) -> list[str]:
    """As a table."""
    table = [
        f"**Points of the plane, n = {POINTS:,}, {CHECKED_POINTS} true removals**",
        "",
        "| activation | Kendall's tau | estimates within a hundredth of the truth |",
        "|---|---|---|",
    ]
    for name in dict.fromkeys(run["activation"] for run in runs):
        own = [run for run in runs if run["activation"] == name]
        table.append(
            f"| {name} | {_interval(own, 'kendall_tau', 2)} | {_interval(own, 'exact', 2)} |"
        )
    return [*table, "", f"**Digits, n = {N:,}, {NOISED} of them noised**", ""]


def _interval(runs: list[dict[str, Any]], name: str, digits: int) -> str:
    return mean_interval([run[name] for run in runs]).shown(digits)


def trial(
    data: Path, work: Workspace, seed: int, epochs: int, learning_rate: float
) -> list[dict[str, Any]]:
    """One seed: a row a metric."""
    train = ImageSet.open(data / "mnist" / "train.parquet")
    order = np.random.default_rng(seed).permutation(len(train))
    clean = train.select(np.sort(order[: N - NOISED]))
    planted = plant_noised(clean, work, size=28, n_noised=NOISED, sigma=SIGMA, seed=seed)
    held_out = train.select(np.sort(order[N : N + HELD_OUT]))
    others = signed_images(held_out)
    labels = torch.from_numpy(known_labels(held_out, "held-out images").astype(np.int64))
    classifier = train_metric_classifier(others, labels, epochs=6, seed=seed)
    pixels = signed_images(planted.images).to(DTYPE)
    others, classifier = others.to(DTYPE), classifier.to(DTYPE)
    start = time.perf_counter()
    folder = work.path("traces", f"seed{seed}")
    recipe = GANRecipe(
        epochs=epochs, learning_rate=learning_rate, critic_rate=learning_rate, seed=seed
    )
    trace = train_traced(mlp_gan((1, 28, 28), dtype=DTYPE, seed=seed), pixels, folder, recipe)
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
        taus = [run["kendall_tau"] for run in own]
        cells = [", ".join("undefined" if tau is None else f"{tau:.2f}" for tau in taus)]
        for name, digits in (
            ("auroc", 2), ("training_seconds", 0), ("backward_seconds", 1),
            ("removal_seconds", 2), ("fid", 4),
            *((f"fid_without_{which}_{s:g}", 4) for s in SHARES for which in ("least", "random")),
        ):  # fmt: skip
            seconds = name.endswith("seconds")
            mean = f"{np.mean([run[name] for run in own]):.{digits}f}"
            cells.append(mean if seconds else _interval(own, name, digits))
        table.append(f"| {metric} | {' | '.join(cells)} |")
    seeds = len({run["seed"] for run in runs})
    note = (
        f"Means over {seeds} seeds with 95 % intervals, but for tau: a number a seed. float64, one "
        "thread."
    )
    return [*table, "", note]


if __name__ == "__main__":
    main()
