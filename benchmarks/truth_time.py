"""How long the retraining studies of docs/truth.md take in all, on as many processors as are here.

    python benchmarks/truth_time.py --data DATA --out docs/results

Trains one generator of each recipe that the committed results name, on half of the images as most
trainings are, as many side by side as there are processors, one thread each. That time counts once
for each training the results needed, and each valuer's own seconds once. DATA holds
{mnist,cifar10}/train.parquet. `evaluate spaces` uses the trainings of `evaluate lds`.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from results import arguments, publish

from gmvaluator import ImageSet
from gmvaluator.certainty.tables import Cell, Table
from gmvaluator.evaluation.subjects.recipes import Job, Recipe, train_job
from gmvaluator.evaluation.workers import side_by_side
from gmvaluator.files.pieces import Workspace
from gmvaluator.images.pixels import random_subset
from gmvaluator.progress import Silent

SECONDS = ".seconds"
STUDIES = ("lds_*.json", "counterfactual_*.json")


def main() -> None:
    """Parse, time one training of each recipe, multiply, write."""
    parser = arguments(__doc__)
    args = parser.parse_args()
    files = sorted(file for pattern in STUDIES for file in args.out.glob(pattern))
    studies = {file.stem: json.loads(file.read_text()) for file in files}
    timed: dict[str, float] = {}
    rows = []
    for name, study in studies.items():
        asked = study["parameters"]
        for recipe_name, recipe in asked["recipes"].items():
            key = json.dumps([asked["train"], asked["n_train"], recipe], sort_keys=True)
            if key not in timed:
                source = args.data / asked["train"] / "train.parquet"
                timed[key] = seconds_of_one(Recipe(**recipe), source, asked["n_train"])
            count, valuing = trainings(study), valuer_seconds(study)
            rows.append((name, recipe_name, count, timed[key], timed[key] * count + valuing))
    total = sum(whole for *_, whole in rows)
    shown: list[tuple[Cell, ...]] = [(*row[:-1], row[-1] / 3600) for row in rows]
    shown.append(("all", None, sum(row[2] for row in rows), None, total / 3600))
    columns = ("study", "recipe", "trainings", "seconds a training", "hours")
    table = Table("Time of the retraining studies", columns, tuple(shown), digits=2)
    publish(
        args.out, "truth_time", {"table": table.as_json(), "seconds": total}, [table.as_markdown()]
    )


def seconds_of_one(recipe: Recipe, source: Path, n: int) -> float:
    """Wall seconds a training costs while every processor trains one, and its process runs."""
    train = random_subset(ImageSet.open(source), n)
    halves = np.random.default_rng(0).permutation(n)[: n // 2]
    workers = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        jobs = [Job("half", recipe, train.select(halves), seed=seed) for seed in range(workers)]
        files = [job.file(Workspace(folder)) for job in jobs]
        tasks = [partial(timed, job, file) for job, file in zip(jobs, files, strict=True)]
        side_by_side(tasks, "train", Silent())
        found = [float(file.with_suffix(SECONDS).read_text()) for file in files]
    return sum(found) / workers**2


def timed(job: Job, file: Path) -> None:
    """Train, and say beside the file how long it took."""
    start = time.perf_counter()
    train_job(job, file)
    file.with_suffix(SECONDS).write_text(str(time.perf_counter() - start))


def trainings(study: dict[str, Any]) -> int:
    """How many trainings a result needed, at most: some removals may have been the same."""
    asked = study["parameters"]
    if "subsets" in asked:
        return 1 + int(asked["subsets"]) * int(asked["trainings_of_each"])
    valuers, draws = len(asked["valuers"]), len(asked["seeds"])
    count = 1
    if "image" in asked["parts"]:
        count += len(asked["ks"]) * (valuers * int(asked["images"]) + draws)
    if "model" in asked["parts"]:
        count += len(asked["shares"]) * (2 * valuers + draws)
    return count


def valuer_seconds(study: dict[str, Any]) -> float:
    """What the valuers of a result took, where it says so."""
    found = {
        (each["valuer"], each["generator"]): float(each["s"])
        for each in study["details"].get("lds", ())
    }
    return sum(found.values())


if __name__ == "__main__":
    main()
