"""VAE-TracIn against what is known of it, and its cost at the published size.

    python benchmarks/vae_tracin.py --data DATA --out docs/results

Three parts, each of which can be run alone (--part):

- airplanes: the authors' network of CIFAR-10's airplanes, last checkpoint, 300 airplanes at 64 px
  as the pool: how often is one of 64 of them its own strongest proponent?
- digits: a β-VAE of 5,000 digits with plain SGD and five snapshots, 100 digits that it draws: the
  class of the first 30, 50 and 100 contributors, and seconds, beside GMValuator's on the same
  images; and how near influence by few draws, opposite or independent, is to that by 256.
- size: seconds and peak memory at the published size on MNIST, from a measured share of the 60,000
  images and one of the 30 checkpoints, extrapolated.

DATA holds mnist/, cifar10/ (Hugging Face layout) and vae_tracin_cifar_airplane/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from index_choice import PeakMemory
from results import arguments, publish
from scipy.stats import spearmanr

from gmvaluator import ImageSet
from gmvaluator.baselines.vae_gradients import Loss
from gmvaluator.baselines.vae_models import VAECheckpoint, official_checkpoints
from gmvaluator.baselines.vae_tracin import VAETracIn
from gmvaluator.evaluation.metrics import Interval
from gmvaluator.evaluation.paper import SECONDS_A_SAMPLE, VAE_TRACIN_RATIO
from gmvaluator.evaluation.setup import Setup
from gmvaluator.evaluation.studies.identical_class import identical_class
from gmvaluator.evaluation.study import FittedValuer
from gmvaluator.generators import load_generator
from gmvaluator.generators.beta_vae import BetaVAE, BetaVAEConfig, kl_divergence
from gmvaluator.generators.training import train_generator
from gmvaluator.images.pixels import load_pixels, random_subset

NAME = "vae_tracin"
POOL, ASKED = 300, 64
PAPER_SECONDS = SECONDS_A_SAMPLE["vae-tracin"]
KS = (30, 50, 100)
# training images of the β-VAE, and how many of them its divergence is measured on
DIGITS, MEASURED = 5_000, 500
# few draws against many, on a share of the digits
FEW_DRAWS, MANY_DRAWS, N_DRAWN, M_DRAWN, TOP = (4, 16), 256, 200, 30, 30
# of the published MNIST network and evaluation
OFFICIAL = BetaVAEConfig(hidden=(1024, 512, 256), latent=128, beta=4.0)
CHECKPOINTS, DRAWS, N, M = 30, 16, 60_000, 100


def main() -> None:
    """Parse, measure, write."""
    parser = arguments(__doc__)
    parser.add_argument("--part", choices=list(PARTS), action="append", help="only this, merged in")
    parser.add_argument(
        "--share", type=int, default=1_000, help="training images measured for size"
    )
    parser.add_argument("--child", type=int, metavar="DRAWS", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure_size(args, args.child)))
        return
    file = args.out / f"{NAME}.json"
    kept = json.loads(file.read_text()) if args.part and file.is_file() else {}
    found = {name: kept[name] for name in PARTS if name in kept}
    for name in args.part or PARTS:
        found[name] = PARTS[name](args)
        print(name, json.dumps(found[name]), flush=True)
    publish(args.out, NAME, found, [line for name in found for line in LINES[name](found[name])])


def airplanes(args: argparse.Namespace) -> dict[str, Any]:
    """Share of images that are their own strongest proponent, by loss."""
    train = ImageSet.open(args.data / "cifar10" / "train.parquet")
    rows = [row for row, label in enumerate(train.labels or ()) if label == "airplane"][:POOL]
    pool = train.select(rows)
    last = official_checkpoints(args.data / "vae_tracin_cifar_airplane")[-1:]
    found: dict[str, Any] = {}
    losses: tuple[Loss, ...] = ("official", "squared-error")
    for loss in losses:
        start = time.perf_counter()
        valuer = VAETracIn(last, loss=loss, draws=4).fit(pool)
        influence = valuer.influence(pool.select(range(ASKED)))
        own = influence.argmax(axis=0) == np.arange(ASKED)
        found[loss] = {"own": float(own.mean()), "seconds": time.perf_counter() - start}
    return found


def airplane_lines(found: dict[str, Any]) -> list[str]:
    """As a table."""
    head = ["| loss | own strongest proponent | seconds |", "|---|---|---|"]
    rows = [f"| {n} | {100 * r['own']:.1f} % | {r['seconds']:.1f} |" for n, r in found.items()]
    return [f"**{ASKED} of {POOL} airplanes, last checkpoint, 4 draws**", "", *head, *rows, ""]


def digits(args: argparse.Namespace) -> dict[str, Any]:
    """Class purity and seconds beside GMValuator's, on what one β-VAE draws."""
    with tempfile.TemporaryDirectory() as scratch:
        setup, train = _digits_setup(args, Path(scratch))
        # classes are named by a classifier of all digits, valued are the 5,000 of the β-VAE
        context = replace(setup.context(), train=train, train_name="mnist-5000")
        study = identical_class(context, KS)
        table = study.tables[0]
        rows: dict[str, Any] = {}
        for row in table.rows:
            cells = dict(zip(table.columns, row, strict=True))
            rows[str(cells["valuer"])] = {str(k): vars(cells[f"k = {k}"]) for k in KS}
        images = context.subjects[0].sample(setup.m, 0).images
        for valuer in context.valuers:
            bound = valuer.suited(context.subjects[0].generator) or valuer
            start = time.perf_counter()
            FittedValuer(bound, context.train, KS[-1]).value(images)
            rows[valuer.name]["seconds_an_image"] = (time.perf_counter() - start) / setup.m
        return {
            "valuers": rows,
            "draws": _draws(setup.generators["vae"], context.train, images),
            "kl": _divergence(setup.generators["vae"], context.train),
            "note": " ".join(study.notes),
        }


def _digits_setup(args: argparse.Namespace, scratch: Path) -> tuple[Setup, ImageSet]:
    train = args.data / "mnist" / "train.parquet"
    images = random_subset(ImageSet.open(train), DIGITS)
    settings = {
        "beta": 4, "latent": 32, "hidden": "256,128,64", "optimizer": "sgd",
        "learning_rate": 1e-2, "schedule": "constant", "batch_size": 64,
    }  # fmt: skip
    vae = scratch / "vae.safetensors"
    train_generator("beta-vae", images, vae, steps=30_000, keep=5, settings=settings, threads=1)
    file = scratch / "valuers.toml"
    # GMValuator embeds anew, so that the seconds are those of a first valuation
    file.write_text(
        '[vae-tracin]\nvaluer = "vae-tracin"\ndraws = 4\n[default]\ncache = false\n'
        '[low-pass]\nencoder = "pixels@14"\nrerank = "none"\ncache = false\n'
    )
    setup = Setup.open(
        train=train,
        generators=(str(vae),),
        held_out=args.data / "mnist" / "test.parquet",
        valuers=("random",),
        valuers_file=file,
        work=scratch / "work",
        train_name="mnist",
    )
    return setup, images


def _draws(vae: Any, train: ImageSet, images: ImageSet) -> list[dict[str, Any]]:
    """How near influence by few draws is to that by many, for both ways of drawing."""
    train, images = train.select(range(N_DRAWN)), images.select(range(M_DRAWN))

    def influence(draws: int, *, antithetic: bool, seed: int = 0) -> Any:
        valuer = VAETracIn(vae, draws=draws, antithetic=antithetic, seed=seed)
        return valuer.fit(train).influence(images)

    wanted = influence(MANY_DRAWS, antithetic=True, seed=1)
    rows = []
    for antithetic in (False, True):
        for draws in FEW_DRAWS:
            found = influence(draws, antithetic=antithetic)
            pairs = list(zip(found.T, wanted.T, strict=True))
            shared = [len(set(np.argsort(-a)[:TOP]) & set(np.argsort(-b)[:TOP])) for a, b in pairs]
            rows.append(
                {
                    "draws": draws,
                    "antithetic": antithetic,
                    "error": float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted)),
                    "spearman": float(np.mean([spearmanr(a, b).statistic for a, b in pairs])),
                    "top": float(np.mean(shared)) / TOP,
                }
            )
    return rows


def _divergence(generator: Any, train: ImageSet) -> float:
    """Mean KL divergence of some training images' codes, in nats: near 0 is a collapsed VAE."""
    model: Any = load_generator(generator)
    pixels = load_pixels(train.select(range(MEASURED)), 28)
    with torch.no_grad():
        mean, spread = model.encode(torch.from_numpy(pixels)[:, None].float() / 255)
    return float(kl_divergence(mean, spread).mean())


def digits_lines(found: dict[str, Any]) -> list[str]:
    """As a table."""
    lines = [
        "**5,000 digits, 100 images of a β-VAE (SGD, five snapshots, 4 draws)**",
        "",
        f"| valuer | {' | '.join(f'k = {k}' for k in KS)} | seconds a generated image |",
        "|---" * (len(KS) + 2) + "|",
    ]
    paper = " | ".join(f"{VAE_TRACIN_RATIO['mnist'][k] / 100:.3f}" for k in KS)
    lines.append(f"| vae-tracin, paper | {paper} | {PAPER_SECONDS:.3f} (another size) |")
    for name, row in found["valuers"].items():
        shown = [Interval(**row[str(k)]).shown(3) for k in KS]
        lines.append(f"| {name} | {' | '.join(shown)} | {row['seconds_an_image']:.4f} |")
    lines += [
        "",
        f"Codes hold {found['kl']:.1f} nats. {found['note']}",
        "",
        f"**Influence by few draws against that by {MANY_DRAWS}: {N_DRAWN} digits, {M_DRAWN} drawn "
        "images, the same five checkpoints**",
        "",
        f"| draws | relative error | Spearman | in common of the {TOP} strongest |",
        "|---|---|---|---|",
    ]
    for row in found["draws"]:
        kind = "in opposite pairs" if row["antithetic"] else "independent"
        lines.append(
            f"| {row['draws']} {kind} | {row['error']:.2f} | {row['spearman']:.3f} "
            f"| {row['top']:.3f} |"
        )
    return [*lines, ""]


def size(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds a generated image and peak memory at the published size, by draws."""
    found = {}
    for draws in (DRAWS, 4):
        command = [sys.executable, __file__, "--data", str(args.data), "--share", str(args.share)]
        command += ["--child", str(draws)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[str(draws)] = json.loads(done.stdout)
    return found


def measure_size(args: argparse.Namespace, draws: int) -> dict[str, Any]:
    """One checkpoint on a share of the training images, in this process."""
    model = BetaVAE(OFFICIAL, seed=0)
    checkpoint = VAECheckpoint("published size", 50_000, 1e-4, 64, lambda: model)
    train = ImageSet.open(args.data / "mnist" / "train.parquet")
    asked = ImageSet.open(args.data / "mnist" / "test.parquet").select(range(M))
    with PeakMemory() as peak:
        # what a first call pays once is not counted; the whole training set stays in memory
        whole = VAETracIn([checkpoint], draws=draws, memory="1GB").fit(train)
        VAETracIn([checkpoint], draws=2).fit(train.select(range(64))).influence(asked)
        seconds = {}
        for n in (args.share, 2 * args.share):
            part = VAETracIn([checkpoint], draws=draws, memory="1GB").fit(train.select(range(n)))
            start = time.perf_counter()
            part.influence(asked)
            seconds[n] = time.perf_counter() - start
        del whole
    an_image = (seconds[2 * args.share] - seconds[args.share]) / args.share
    fixed = max(0.0, seconds[args.share] - args.share * an_image)
    total = CHECKPOINTS * (fixed + N * an_image)
    return {
        "parameters": model.n_parameters,
        "measured": {str(n): spent for n, spent in seconds.items()},
        "seconds_a_generated_image": total / M,
        "times_faster_than_paper": PAPER_SECONDS / (total / M),
        "peak_gb": peak.whole_gb,
    }


def size_lines(found: dict[str, Any]) -> list[str]:
    """As a table."""
    lines = [
        f"**Published size ({next(iter(found.values()))['parameters']:,} weights), n = {N:,}, m = "
        f"{M}, {CHECKPOINTS} checkpoints, extrapolated from a share**",
        "",
        "| draws | seconds a generated image | paper on its GPU | × faster | peak memory, GB |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {draws} | {row['seconds_a_generated_image']:.1f} | {PAPER_SECONDS:.1f} "
        f"| {row['times_faster_than_paper']:.1f} | {row['peak_gb']:.2f} |"
        for draws, row in found.items()
    ]
    return [*lines, ""]


PARTS = {"airplanes": airplanes, "digits": digits, "size": size}
LINES = {"airplanes": airplane_lines, "digits": digits_lines, "size": size_lines}


if __name__ == "__main__":
    main()
