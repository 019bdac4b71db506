"""One table of all valuers: what docs/results holds on truth, on the paper's criteria, and seconds.

    python benchmarks/truth_table.py --out docs/results

Reads the results of `gmvaluator evaluate lds|counterfactual|planted|c1|c3` that are named below
and writes truth.md and truth.json. A valuer that a study was not asked for has an empty cell.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results import publish

from gmvaluator.certainty.tables import Table
from gmvaluator.evaluation.metrics import Interval
from gmvaluator.evaluation.planted.transformations import EASY
from gmvaluator.evaluation.truth.movement import PIXELS, ratio_interval

COMMAND = "python benchmarks/truth_table.py --out docs/results"
REMOVED = 100  # contributors taken away in the column on counterfactuals
K = "50"  # contributors of the class test
FEW = 10  # and of the attribute test

Found = dict[str, Any]
Column = tuple[str, str, Callable[[Found], Found]]


def main() -> None:
    """Parse, collect, publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    out = parser.parse_args().out
    columns: dict[str, Found] = {}
    sources = {}
    for heading, name, collect in COLUMNS:
        file = out / f"{name}.json"
        if file.is_file():
            columns[heading] = collect(json.loads(file.read_text(encoding="utf-8")))
            sources[heading] = file.name
    valuers = list(dict.fromkeys(name for column in columns.values() for name in column))
    rows = tuple(
        (valuer, *(column.get(valuer) for column in columns.values())) for valuer in valuers
    )
    table = Table("All valuers", ("valuer", *columns), rows)
    publish(
        out,
        "truth",
        {"sources": sources, "table": table.as_json()},
        [table.as_markdown(), "", *NOTES],
        COMMAND,
    )


def lds(loss: str) -> Callable[[Found], Found]:
    """LDS by valuer, and what is attainable."""

    def collect(result: Found) -> Found:
        found = {
            each["valuer"]: _interval(each["lds"])
            for each in result["details"]["lds"]
            if each["loss"] == loss
        }
        (table,) = (each for each in result["tables"] if each["title"].endswith(f", {loss}"))
        return found | {row[0]: row[1] for row in table["rows"] if row[0] == "attainable"}

    return collect


def seconds(result: Found) -> Found:
    """Seconds by valuer, to fit and value."""
    return {each["valuer"]: float(each["s"]) for each in result["details"]["lds"]}


def moved(result: Found) -> Found:
    """How far a generated image moves without its contributors, against random ones."""
    of_valuer = {
        each["valuer"]: each["own"][PIXELS]
        for each in result["details"]["image"]
        if each["k"] == REMOVED
    }
    chance = of_valuer["random"]
    return {valuer: ratio_interval(own, chance) for valuer, own in of_valuer.items()}


def planted(result: Found) -> Found:
    """The lowest recall@10 among the transformations that must be found, mean of the seeds."""
    lowest: dict[str, list[float]] = {}
    for piece in result["details"]["pieces"]:
        if piece["subject"] == "copies":
            kinds = piece["result"]["kinds"]
            least = min(kinds[kind]["recall@10"] for kind in (*EASY, "flip"))
            lowest.setdefault(piece["valuer"], []).append(least)
    return {valuer: sum(each) / len(each) for valuer, each in lowest.items()}


def class_ratio(result: Found) -> Found:
    """ρ by scores at K contributors."""
    table = result["tables"][0]
    at = table["columns"].index(f"by scores, k = {K}")
    return {row[0]: _interval(row[at]) for row in table["rows"] if isinstance(row[at], dict)}


def attributes(result: Found) -> Found:
    """Part of the contributors with all attributes of the image, of drawn images."""
    table = result["tables"][0]
    return {
        row[0]: _interval(row[-1])
        for row in table["rows"]
        if row[1] == FEW and isinstance(row[-1], dict)
    }


def out_of_distribution(result: Found) -> Found:
    """AUROC of noised against clean training images by value, the worst generator's."""
    table = result["tables"][0]
    valuer, area = table["columns"].index("valuer"), table["columns"].index("AUROC")
    found: Found = {}
    for row in table["rows"]:
        mean = row[area]["mean"]
        found[row[valuer]] = min(mean, found.get(row[valuer], mean))
    return found


def _interval(told: Found) -> Interval:
    none = float("nan")
    known = {name: none if told[name] is None else told[name] for name in ("mean", "low", "high")}
    return Interval(**known, n=told["n"])


COLUMNS: tuple[Column, ...] = (
    ("LDS, β-VAE, digits", "lds_mnist_vae", lds("elbo")),
    ("LDS, MLP diffusion, digits", "lds_mnist_mlp_ddpm", lds("denoising")),
    ("LDS, U-Net diffusion, digits", "lds_mnist_ddpm", lds("denoising")),
    ("LDS, GAN (pixels), digits", "lds_mnist_gan", lds("pixels")),
    ("LDS, β-VAE, CIFAR-10", "lds_cifar10_vae", lds("elbo")),
    ("LDS, MLP diffusion, CIFAR-10", "lds_cifar10_mlp_ddpm", lds("denoising")),
    (f"{REMOVED} removed, × random, β-VAE", "counterfactual_mnist_vae", moved),
    (f"{REMOVED} removed, × random, MLP diffusion", "counterfactual_mnist_mlp_ddpm", moved),
    ("planted, digits", "planted_mnist", planted),
    ("planted, CIFAR-10", "planted_cifar10", planted),
    ("C1, digits", "c1_truth_mnist", class_ratio),
    ("C1, CIFAR-10", "c1_truth_cifar10", class_ratio),
    ("C2, emoji", "c2_emoji", attributes),
    ("C3, digits", "c3_truth_mnist", out_of_distribution),
    ("seconds", "lds_mnist_vae", seconds),
)
NOTES = (
    f"× random: how far an image moves (pixels) when its {REMOVED} best contributors are removed "
    "and the model is trained again, relative to random ones.",
    "Planted: the lowest recall@10 of the source among identity, flip, JPEG and a crop of 5 %.",
    f"C1: part of the scores that goes to the class of the image, {K} contributors of real test "
    f"images. C2: part of the {FEW} contributors that have skin, gender and subcategory of the "
    "drawn emoji. C3: AUROC of noised against clean training images by value, of the generator "
    "where it is lowest.",
    "Seconds: 5,000 training and 100 generated images, everything computed anew; see each result "
    "for versions and seeds.",
)


if __name__ == "__main__":
    main()
