"""Value: the order of the stages, from fitted training images and generated ones to a Valuation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator import versions
from gmvaluator.engine.context import Context
from gmvaluator.engine.domain import distances_to_domain, domain_encoder, with_small_pictures
from gmvaluator.engine.match import place, rank_for_weighting, recall_for_weighting
from gmvaluator.engine.null_sample import judge_matches, null_sample
from gmvaluator.engine.timing import timed
from gmvaluator.engine.train import learn_temperature
from gmvaluator.engine.trained import Trained
from gmvaluator.images import ImageSet, set_fingerprint
from gmvaluator.matching.placed import PlacedSet
from gmvaluator.matching.recall import Candidates
from gmvaluator.matching.rerank import Contributors
from gmvaluator.runs.record import Input, Inputs, RecordedSettings, RunRecord, Unattributed
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.conformal import Verdict
from gmvaluator.scoring.quality import Judged
from gmvaluator.scoring.scores import Contributions, contribute
from gmvaluator.scoring.weightings import Choice
from gmvaluator.settings import Settings, resolve_counts


def value_images(
    context: Context,
    trained: Trained,
    generated: ImageSet,
    holdout: ImageSet | None = None,
    *,
    strict: bool = False,
) -> Valuation:
    """Value the training images by a set of generated images.

    Args:
        holdout: images that the model was not trained on; None: training images are left out.
        strict: fail on the first image that cannot be read.

    Raises:
        InputError: no readable image, or, with null `withhold`, too few images to tell which have
            no contributor.
        RunError: a training image has changed since it was embedded.
    """
    context, trained = _ready(context, trained)
    seconds = dict(trained.seconds)
    with timed(seconds, "embed generated"):
        batch = with_small_pictures(context, place(context, trained, generated, strict=strict))
    with timed(seconds, "recall"):
        candidates = recall_for_weighting(context, trained, batch)
    with timed(seconds, "null"):
        null = null_sample(context, trained, holdout, strict=strict)
    with timed(seconds, "rerank"):
        ranked = rank_for_weighting(context, trained, batch, candidates)
        verdict = judge_matches(context, trained, batch, candidates, ranked, null)
    with timed(seconds, "weights"):
        contributors = _choose(context, trained, batch, candidates, ranked)
    with timed(seconds, "quality"):
        quality = _judge(context, trained, batch)
    with timed(seconds, "values"):
        temperature, dimension = learn_temperature(context, trained)
        scores = contribute(contributors, quality, context.settings.weighting, temperature)
        if verdict is not None and context.settings.null == "withhold":
            scores = scores.without(verdict.without)
        nearest = _nearest_distances(trained, ranked)
    used: dict[str, Any] = {
        "index_used": ", ".join(candidates.indexes if candidates else ("none",)),
        "temperature_used": temperature,
    }
    if dimension is not None:
        used["dimension_used"] = dimension
    valuation = _assemble(
        context, trained, generated, batch, scores, quality, verdict, used, seconds
    )
    return replace(valuation, nearest_distances=nearest)


def _ready(context: Context, trained: Trained) -> tuple[Context, Trained]:
    """The context with resolved counts, and the training set with a tally for this valuation.

    Raises:
        InputError: k or candidates exceed the training set, or the re-rank or the quality reads
            training images that are not at hand.
    """
    settings = resolve_counts(context.settings, len(trained.order), copies=trained.n_copies)
    readers = list(context.rerankers)
    if context.quality.by_domain:
        readers.append(domain_encoder(context))
    if any(encoder.fingerprint not in trained.placed.vectors for encoder in readers):
        trained.placed.source()
    return replace(context, settings=settings), trained.counting(trained.placed.tally.copy())


def _choose(
    context: Context,
    trained: Trained,
    batch: PlacedSet,
    candidates: Candidates | None,
    ranked: Contributors | None,
) -> Contributors:
    """The contributors P_j of each generated image."""
    first, last = trained.spaces[0], trained.spaces[-1]
    choice = Choice(
        first=first,
        last=last,
        order=trained.order,
        # the images as they are: their mirror images, if any, come after them
        generated=batch.vectors[first.encoder.fingerprint][: len(batch.rows)],
        forms=batch.vectors[last.encoder.fingerprint],
        candidates=candidates,
        ranked=ranked,
        reranked=bool(trained.terms),
        seed=context.settings.seed,
        memo=trained.memo,
        budget=context.budget,
        progress=context.progress,
    )
    k, _ = context.settings.counts
    return context.weighting.choose(choice, k)


def _nearest_distances(trained: Trained, ranked: Contributors | None) -> NDArray[np.float32] | None:
    """(n,) the smallest distance of each training image as a candidate; NaN where it never was."""
    if ranked is None:
        return None
    nearest = np.full(len(trained.order), np.nan, dtype=np.float32)
    np.fmin.at(nearest, ranked.rows, ranked.distances)
    if (clusters := trained.clusters) is None:
        return nearest
    return nearest[np.searchsorted(clusters.kept, clusters.representatives)]


def _judge(context: Context, trained: Trained, batch: PlacedSet) -> NDArray[np.float64]:
    """(m,) q_j."""
    return context.quality.measure(
        Judged(
            batch,
            trained.spaces[0],
            trained.realism,
            context.weights,
            context.device,
            context.progress,
            lambda: distances_to_domain(context, trained, batch),
        )
    )


def _assemble(
    context: Context,
    trained: Trained,
    generated: ImageSet,
    batch: PlacedSet,
    scores: Contributions,
    quality: NDArray[np.float64],
    verdict: Verdict | None,
    used: dict[str, Any],
    seconds: Mapping[str, float],
) -> Valuation:
    """The valuation of all n training images, with its record.

    Args:
        used: what `auto` settings came to, for the record.
    """
    train, settings = trained.train, context.settings
    ids = tuple(generated.ids[row] for row in batch.rows)
    labels = generated.labels
    null = None if verdict is None else verdict.null
    return Valuation(
        train_ids=train.ids,
        train_labels=train.labels,
        generated_ids=ids,
        generated_labels=None if labels is None else tuple(labels[row] for row in batch.rows),
        quality=quality,
        contributions=replace(scores, rows=trained.in_whole(scores.rows), n_train=len(train.ids)),
        skipped=(
            *(("train", skip) for skip in train.skipped),
            *(("generated", skip) for skip in batch.skipped),
            *(("holdout", skip) for skip in (null.skipped if null else ())),
        ),
        record=RunRecord(
            settings=RecordedSettings(settings.as_json() | used),
            n_train=len(train.ids),
            n_generated=len(ids),
            versions=versions.installed(),
            weights={**trained.weights, **context.quality.hashes(context.weights)},
            encoders=trained.encoders,
            seed=settings.seed,
            device=context.device,
            images={"train": _counts(trained.placed), "generated": _counts(batch)},
            seconds={stage: round(spent, 3) for stage, spent in seconds.items()},
            inputs=Inputs(
                train=Input(train.location, train.fingerprint),
                generated=Input(generated.location, set_fingerprint(ids, batch.keys)),
                holdout=Input(null.source, null.fingerprint) if null and null.fingerprint else None,
            ),
            unattributed=None if verdict is None else _unattributed(settings, quality, verdict),
        ),
        train_keys=train.keys,
        generated_keys=batch.keys,
        clusters=trained.clusters,
        match_p=None if verdict is None else verdict.p,
    )


def _counts(placed: PlacedSet) -> dict[str, dict[str, int]]:
    """Images of a set by what became of them, and what lay beside them."""
    left_out = {} if placed.images is None else placed.images.left_out.as_json()
    return placed.tally.as_json() | ({"left_out": left_out} if left_out else {})


def _unattributed(
    settings: Settings, quality: NDArray[np.float64], verdict: Verdict
) -> Unattributed:
    """The verdict as a run records it."""
    null, level, total = verdict.null, verdict.level, float(quality.sum())
    return Unattributed(
        share=float(quality[verdict.without].sum()) / total if total > 0 else 0.0,
        images=int(verdict.without.sum()),
        level=level,
        null=null.kind,
        n_null=len(null.strangeness),
        error_rate=null.error_rate(level),
        threshold=null.threshold(level),
        applied=settings.null == "withhold",
        holdout_in_training=null.in_training if null.kind == "holdout" else None,
        reason=null.needs(level),
    )
