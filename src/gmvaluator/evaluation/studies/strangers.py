"""Error rates of the test for images without a contributor, on sets of known origin.

Held-out images of the training set's kind are exchangeable with the null sample, so the level
bounds the share of them that the test withholds. The test should withhold nearly all images of
other domains, few that a generator drew of the training set, and no copy of a training image. Each
valuer is tested by the `null_measure` of its settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gmvaluator.certainty.tables import StudyResult, Table
from gmvaluator.errors import InputError
from gmvaluator.evaluation.layout import table
from gmvaluator.evaluation.metrics import mean_interval
from gmvaluator.evaluation.named import NamedValuer
from gmvaluator.evaluation.study import Context, Inputs, check_variants
from gmvaluator.evaluation.valuers import EACH_BY_ITSELF
from gmvaluator.images import ImageSet
from gmvaluator.images.pixels import random_subset
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.conformal import DEFAULT_LEVEL, null_size
from gmvaluator.valuator import GMValuator

LEVELS = (0.01, 0.02, 0.05)
COPIES, HELD_OUT, NOISE = "training images", "held-out images", "noise"
NULLS = ("leave-one-out", "holdout")


def strangers(
    context: Context,
    held_out: ImageSet | None,
    others: Mapping[str, ImageSet],
    side: int,
    *,
    level: float = DEFAULT_LEVEL,
    name: str = "strangers",
) -> StudyResult:
    """The share of each set's images that the test calls images without a contributor.

    Args:
        context: each of its valuers is tested. Its subjects are not used.
        held_out: images of the training set's kind outside the training set. Each repetition takes
            one part as the null sample `holdout` and tests another part.
        others: sets of other domains, or drawn by a generator of the training set, by name.
        side: side of the noise images in pixels.
        level: level of the test, which sets the size of the null samples.
        name: name of the result.

    Raises:
        InputError: a valuer is no variant of GMValuator, or there are too few held-out images.
    """
    held_out = check_held_out(context, held_out, level)
    pieces: list[dict[str, Any]] = []
    for valuer in context.valuers:
        fitted = _fitted(valuer, context.train, level)
        for seed in range(context.seeds):
            sets, holdout = _sets(context, held_out, others, side, seed, level)
            for null in NULLS:
                for kind, images in sets.items():
                    valuation = fitted.value(images, holdout=holdout if null == "holdout" else None)
                    measured = _measured(valuation)
                    place = {"valuer": valuer.name, "seed": seed, "null": null, "images": kind}
                    pieces.append(place | measured)
    return StudyResult(
        name=name,
        title="Images without a contributor, of sets that were not made of the training set",
        tables=(_table(context, pieces),),
        parameters=context.parameters()
        | {
            "level": level,
            "n_held_out": len(held_out),
            "others": {set_name: len(images) for set_name, images in others.items()},
        },
        notes=(_cost(pieces),),
        details={"pieces": pieces},
    )


def check_held_out(inputs: Inputs, held_out: ImageSet | None, level: float) -> ImageSet:
    """The held-out images. InputError if there are too few, or a valuer has no test."""
    if held_out is None:
        raise InputError("real images outside the training set are wanted; pass --held-out SET")
    check_variants(inputs, "test")
    if not 0 < level < 1:
        raise InputError(f"level={level}; pass a number between 0 and 1")
    wanted = null_size(level) + 1
    if len(held_out) < wanted:
        raise InputError(
            f"{len(held_out)} held-out images; pass at least {wanted}: {wanted - 1} make a null "
            "sample, and the others are tested"
        )
    return held_out


def _fitted(valuer: NamedValuer, train: ImageSet, level: float) -> GMValuator:
    test = {"null": "report", "null_level": level}
    return GMValuator(**{**EACH_BY_ITSELF, **valuer.settings, **test}).fit(train)


def _sets(
    context: Context,
    held_out: ImageSet,
    others: Mapping[str, ImageSet],
    side: int,
    seed: int,
    level: float,
) -> tuple[dict[str, ImageSet], ImageSet]:
    """The sets to test, at most m images each, and the holdout."""
    rng = np.random.default_rng([seed, len(held_out)])
    order, n = rng.permutation(len(held_out)), null_size(level)
    m = context.m
    noise = rng.integers(0, 256, (m, side, side, 3), dtype=np.uint8)
    sets = {
        COPIES: random_subset(context.train, m, seed),
        HELD_OUT: held_out.select(order[n : n + m]),
        **{name: random_subset(images, m, seed) for name, images in others.items()},
        NOISE: ImageSet.open(noise),
    }
    return sets, held_out.select(order[:n])


def _measured(valuation: Valuation) -> dict[str, Any]:
    p, test, seconds = valuation.match_p, valuation.record.unattributed, valuation.record.seconds
    if p is None or test is None:
        raise InputError("the valuation was not tested; leave null out of the valuer's settings")
    return {
        "m": len(p),
        "n_null": test.n_null,
        "shares": {str(level): float((p <= level).mean()) for level in LEVELS},
        "seconds": {"null": seconds["null"], "all": sum(seconds.values())},
    }


def _table(context: Context, pieces: Sequence[dict[str, Any]]) -> Table:
    by_key: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for piece in pieces:
        by_key.setdefault((piece["valuer"], piece["images"], piece["null"]), []).append(piece)
    levels = [str(level) for level in LEVELS]
    rows = (
        [*key, by_key[key][0]["m"]]
        + [mean_interval([piece["shares"][level] for piece in by_key[key]]) for level in levels]
        for key in sorted(by_key, key=lambda key: key[0])
    )
    title = (
        f"{context.train_name}, n = {len(context.train)}: share without a contributor at each "
        f"level, {pieces[0]['n_null']} images in the null sample"
    )
    return table(title, ("valuer", "images", "null", "m", *(f"level {x}" for x in levels)), rows)


def _cost(pieces: Sequence[dict[str, Any]]) -> str:
    """The seconds of the default null sample, which is made once and cached."""
    first = pieces[0]
    spent, total = first["seconds"]["null"], first["seconds"]["all"]
    return (
        f"The leave-one-out null sample took {spent:.1f} s of the {total:.1f} s in which "
        f"{first['m']} images were valued, fitting included."
    )
