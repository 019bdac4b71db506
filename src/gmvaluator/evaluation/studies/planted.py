"""Do valuers find the sources of generated images whose sources are known?

The generated images are copies of training images under graded transformations, mixtures of two
training images, and sets in which each owner of training images has a known share. The study needs
neither a generator nor labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.certainty.tables import StudyResult, listed
from gmvaluator.errors import InputError
from gmvaluator.evaluation.named import NamedValuer
from gmvaluator.evaluation.planted.known_sources import Pool, Truth
from gmvaluator.evaluation.planted.makers import MIXTURES, planted_subjects
from gmvaluator.evaluation.planted.source_metrics import (
    BIN_EDGES,
    FIRST,
    Reliability,
    brier_scores,
    found_sources,
    owner_shares,
    score_shares,
    source_shares,
    split_of,
)
from gmvaluator.evaluation.studies.planted_tables import NOTES, PlantedTables
from gmvaluator.evaluation.study import Context, FittedValuer, Inputs, check_weighted, walk
from gmvaluator.evaluation.subjects.subject import Subject
from gmvaluator.runs.valuation import Valuation


def planted(
    context: Context, k: int = 50, owners: int = 5, *, name: str = "planted"
) -> StudyResult:
    """Recall of known sources, calibration of scores, and shares of owners.

    Args:
        context: its training set gives the sources. Its m is the number of images of each
            transformation, of each mixture and of each set of owners. Its subjects are not used.
        k: number of contributors per generated image, at least 10.
        owners: number of owners. Each training image is dealt to one of them.
        name: name of the result.

    Raises:
        InputError: a valuer's scores are no shares, k or owners is out of range, or there are too
            few training images.
        ImageError: a training image cannot be read.
    """
    check_planted(context, k)
    pool = Pool.read(context.train)
    subjects = planted_subjects(pool, context.work, owners=owners)
    context = replace(context, subjects=list(subjects.values()))

    def prepare(valuer: NamedValuer) -> Callable[[Subject, int], Mapping[str, Any]]:
        fitted = FittedValuer(valuer, context.train, k)

        def compute(subject: Subject, seed: int) -> Mapping[str, Any]:
            made = subjects[subject.name].planted(context.m, seed)
            separate = made.train is not context.train
            valuing = FittedValuer(valuer, made.train, k) if separate else fitted
            return MEASURES[subject.name](valuing.value(made.images, seed), made.truth)

        return compute

    extra = {"k": k, "first": FIRST, "bins": list(BIN_EDGES)}
    pieces = walk(context, "planted", extra, prepare)
    planted_tables = PlantedTables(pieces, [valuer.name for valuer in context.valuers])
    twins = len(context.train) - len(pool.single)
    return StudyResult(
        name=name,
        title="Generated images with known sources",
        tables=planted_tables.all(f"{context.train_name}, m = {context.m}, k = {k}"),
        parameters=context.parameters() | {"k": k, "owners": owners, "side": pool.side},
        notes=(
            *NOTES,
            f"{twins} of {len(context.train)} training images equal another one and are no source.",
        ),
        details=pieces.details(),
        plots={
            "recall": planted_tables.draw_recall,
            "calibration": planted_tables.draw_calibration,
            "owners": planted_tables.draw_owners,
        },
    )


def check_planted(context: Inputs, k: int) -> None:
    """Raises `InputError` if scores are no shares, or k is out of range."""
    check_weighted(context, "scores that are shares of an image")
    for valuer in context.valuers:
        if valuer.settings.get("valuer") == "same-class":
            raise InputError(
                "same-class goes by labels, which these images have none of; leave it out"
            )
    if not FIRST <= k <= len(context.train):
        raise InputError(
            f"k={k} of {len(context.train)} training images; recall@{FIRST} needs k ≥ {FIRST}, "
            "and no more than there are"
        )


def measure_copies(valuation: Valuation, truth: Truth) -> dict[str, Any]:
    """Recall and share of the source by transformation; reliability over all copies."""
    rows, shares = _shares(valuation)
    sources = truth.sources
    of_source = source_shares(rows, shares, sources)[:, 0]
    at_once, soon = (found_sources(rows, sources, first)[:, 0] for first in (1, FIRST))
    by_kind = {
        str(kind): {
            "recall@1": float(at_once[of_kind].mean()),
            f"recall@{FIRST}": float(soon[of_kind].mean()),
            "share": _mean(of_source[of_kind]),
            "quality": float(valuation.quality[of_kind].mean()),
        }
        for kind, of_kind in _by_kind(truth)
    }
    is_source = rows == sources
    # the best contributor has the highest score; rows are in the order of distances
    best = np.argmax(np.nan_to_num(shares), axis=1)[:, None]
    surest = [np.take_along_axis(part, best, axis=1) for part in (shares, is_source)]
    return {
        "kinds": by_kind,
        f"recall@{FIRST}": float(soon.mean()),
        "all": _reliability_record(Reliability.of(shares, is_source)),
        "best": _reliability_record(Reliability.of(surest[0], surest[1].astype(bool))),
        "brier": _mean(brier_scores(rows, shares, sources)),
        "without score": int(np.isnan(shares[:, 0]).sum()),
    }


def measure_mixtures(valuation: Valuation, truth: Truth) -> dict[str, Any]:
    """Recall of both sources by mixture, and the agreement of scores with the mixed shares."""
    rows, shares = _shares(valuation)
    recalled = found_sources(rows, truth.sources, FIRST)
    of_sources = source_shares(rows, shares, truth.sources)
    split = split_of(of_sources)
    by_kind = {
        str(kind): {
            "first": float(recalled[of_kind, 0].mean()),
            "second": float(recalled[of_kind, 1].mean()),
            "both": float(recalled[of_kind].all(axis=1).mean()),
            "share": _mean(of_sources[of_kind].sum(axis=1)),
            "split": _mean(split[of_kind]),
        }
        for kind, of_kind in _by_kind(truth)
    }
    blended = np.isin(truth.kinds, list(MIXTURES))
    mixed, scored = truth.weights[blended, 0], split[blended]
    has_split = ~np.isnan(scored)
    varied = has_split.sum() > 1 and np.ptp(scored[has_split]) > 0 and np.ptp(mixed[has_split]) > 0
    return {
        "kinds": by_kind,
        "correlation": float(np.corrcoef(mixed[has_split], scored[has_split])[0, 1])
        if varied
        else None,
        "error": _mean(np.abs(scored - mixed)),
        "with split": float(has_split.mean()),
    }


def measure_owners(valuation: Valuation, truth: Truth) -> dict[str, Any]:
    """Known shares of owners, shares by values, and shares by first contributors, by set."""
    rows, scores = valuation.contributions.rows, valuation.contributions.scores
    first = np.ones((len(rows), 1))
    by_set = {}
    for name, known_shares in zip(truth.sets, truth.known, strict=True):
        in_set = truth.kinds == name
        by_values = owner_shares(rows[in_set], scores[in_set], truth.owners)
        by_first = owner_shares(rows[in_set, :1], first[in_set], truth.owners)
        by_set[str(name)] = {
            "known": listed(known_shares),
            "values": listed(by_values),
            "first": listed(by_first),
        }
    return {"sets": by_set, "held": (np.bincount(truth.owners) / len(truth.owners)).tolist()}


MEASURES: Mapping[str, Callable[[Valuation, Truth], dict[str, Any]]] = {
    "copies": measure_copies,
    "mixtures": measure_mixtures,
    "owners": measure_owners,
    "style": measure_owners,
}


def _shares(valuation: Valuation) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    contributions = valuation.contributions
    return contributions.rows, score_shares(contributions.scores)


def _by_kind(truth: Truth) -> list[tuple[str, NDArray[np.bool_]]]:
    kinds = truth.kinds[np.sort(np.unique(truth.kinds, return_index=True)[1])]
    return [(kind, truth.kinds == kind) for kind in kinds]


def _reliability_record(reliability: Reliability) -> dict[str, Any]:
    return {
        "counts": reliability.counts.tolist(),
        "confidence": reliability.confidence.tolist(),
        "right": reliability.right.tolist(),
        "error": listed(np.array([reliability.error]))[0],
    }


def _mean(numbers: NDArray[np.float64]) -> float | None:
    """Mean of the numbers that are not NaN. None if all are NaN."""
    finite = numbers[~np.isnan(numbers)]
    return float(finite.mean()) if len(finite) else None
