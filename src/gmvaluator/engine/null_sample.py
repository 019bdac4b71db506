"""Images that are known to have no source in the training set, and the verdict beside them.

The test itself is in `gmvaluator.scoring.conformal`, and how strange an image is to the training
set in `gmvaluator.engine.strangeness`. The null sample is held out by the user or, by default, made
of the training images, each left out in turn. A left-out training image is compared with n − 1
others, not n: nothing else distinguishes it from a new image of the same kind.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal

import numpy as np

from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.embedding import Tally
from gmvaluator.engine.context import Context
from gmvaluator.engine.match import place
from gmvaluator.engine.strangeness import strangeness_of
from gmvaluator.engine.trained import Trained
from gmvaluator.errors import ImageError, InputError, either
from gmvaluator.images import ImageSet, Skip, set_fingerprint
from gmvaluator.images.ids import letters
from gmvaluator.matching.placed import PlacedSet
from gmvaluator.matching.recall import Candidates
from gmvaluator.matching.rerank import Contributors
from gmvaluator.scoring.conformal import Null, Verdict, fresh_rows, null_size


def null_sample(
    context: Context, trained: Trained, holdout: ImageSet | None, *, strict: bool
) -> Null | None:
    """The null sample; None where the settings leave the test out.

    Args:
        context: with settings whose counts are resolved.
        holdout: images that are known not to be training images; None: training images, left out.
        strict: fail on the first held-out image that cannot be read.

    Raises:
        InputError: a holdout without a test, or, with null `withhold`, too few images to tell.
    """
    settings = context.settings
    if settings.null == "off":
        if holdout is not None:
            raise InputError(
                "a holdout was given, and null 'off' leaves out the test; pass "
                + either("null='report'", "--null report")
            )
        return None
    # the training images that the null sample reads are not counted for the valuation
    trained = trained.counting(Tally())
    if holdout is not None:
        null = held_out(context, trained, holdout, strict=strict)
    else:
        null = trained.memo.get(
            ("leave-one-out", settings.null_measure, settings.null_level, settings.counts),
            lambda: leave_one_out(context, trained),
        )
    null = null.usable(settings.null_level)
    if settings.null == "withhold" and (reason := null.needs(settings.null_level)):
        raise InputError(f"null asks which images have no contributor, but {reason}")
    return null


def judge_matches(
    context: Context,
    trained: Trained,
    generated: PlacedSet,
    candidates: Candidates | None,
    ranked: Contributors | None,
    null: Null | None,
) -> Verdict | None:
    """The verdict on each generated image; None where the settings leave the test out.

    Args:
        candidates, ranked: of the generated images; None where none were ranked.
        null: the sample that the images are compared with.
    """
    if null is None:
        return None
    # beside an empty null sample no image is strange
    strangeness = np.zeros(len(generated.rows))
    if len(null.strangeness):
        measure = strangeness_of(context, trained)
        strangeness = measure.of_generated(generated, candidates, ranked)
    level = context.settings.null_level
    return Verdict(null, level, null.p_values(strangeness))


def leave_one_out(context: Context, trained: Trained) -> Null:
    """The null of training images, each left out in turn; its copies are left out with it.

    The sample is drawn by content: it does not depend on how the set is listed. There is no null
    where a training image of the sample can no longer be read.

    Raises:
        RunError: a training image has changed since it was embedded.
    """
    null = Null("leave-one-out", np.empty(0))
    if len(trained.order) < 2:
        return replace(null, missing="a single training image has no others")
    measure = strangeness_of(context, trained)
    if trained.placed.images is None and (setting := measure.wanted_by):
        missing = f"the training images, which {setting} reads, were in memory"
        return replace(null, missing=missing)
    try:
        strangeness = measure.of_left_out()
    except ImageError as error:
        # values do not need the null sample, so an unreadable image must not end a run
        reason = f"a training image of the null sample can no longer be read ({error})"
        return replace(null, missing=reason)
    return replace(null, strangeness=np.sort(strangeness[~np.isnan(strangeness)]))


def held_out(context: Context, trained: Trained, images: ImageSet, *, strict: bool) -> Null:
    """The null of images that are known not to be training images.

    A sample by content is taken of many. Training images among the held-out images are left out and
    counted: images of the same bytes, and in the sample images of the same vector.

    Raises:
        InputError: no readable image that is not a training image.
    """
    if len(trained.order) < 2:
        raise InputError("a single training image has no others; pass at least 2 training images")
    encoder, measure = context.encoders[0], strangeness_of(context, trained)
    key_of, skipped = _content_keys(images, encoder, strict=strict)
    # a run is extended by the same sample after its holdout was copied to another system
    ids = list(map(letters, images.ids))
    fresh = fresh_rows(key_of, ids, trained.train.keys)
    in_training, size = len(key_of) - len(fresh), null_size(context.settings.null_level)
    readable = _readable(images, encoder, fresh, skipped, strict=strict)
    strangeness: list[float] = []
    sampled: list[int] = []
    # as many again as were training images
    while rows := list(islice(readable, size - len(sampled))):
        batch = place(context, trained, images, "holdout", rows=rows)
        measured = measure.of_held_out(batch)
        new = ~np.isnan(measured)
        in_training += int((~new).sum())
        strangeness += measured[new].tolist()
        sampled += batch.rows[new].tolist()
    readable.close()
    if not sampled:
        raise InputError(_none_held_out(images, in_training, skipped))
    return Null(
        "holdout",
        np.sort(np.asarray(strangeness)),
        in_training=in_training,
        skipped=tuple(skipped),
        source=images.location,
        fingerprint=set_fingerprint(
            [ids[row] for row in sampled], [key_of[row] for row in sampled]
        ),
    )


def _none_held_out(images: ImageSet, in_training: int, skipped: Sequence[Skip]) -> str:
    where = f"holdout {images.location or 'in memory'}"
    if in_training:
        return (
            f"all {in_training} readable images of {where} are training images; pass images that "
            "the model was not trained on"
        )
    first = f": {skipped[0].id}: {skipped[0].reason}" if skipped else ""
    return (
        f"none of the {len(images)} images of {where} can be read{first}; pass at least one "
        "readable image"
    )


def _content_keys(
    images: ImageSet, encoder: Encoder, *, strict: bool
) -> tuple[dict[int, str], list[Skip]]:
    """Content key of each row whose file can be read, and the other rows; nothing is decoded."""
    if strict and images.problems:
        problem = images.problems[0]
        raise InputError(f"{problem.id}: {problem.reason}; repair it or leave strict out")
    key_of: dict[int, str] = {}
    skipped = list(images.problems)
    on_error: Literal["raise", "skip"] = "raise" if strict else "skip"
    for batch in images.batches(encoder.preprocessing, on_error=on_error, known=lambda _: True):
        key_of.update(zip(batch.rows.tolist(), batch.keys, strict=True))
        skipped += [skip for _, skip in batch.skipped]
    return key_of, skipped


def _readable(
    images: ImageSet, encoder: Encoder, rows: Sequence[int], skipped: list[Skip], *, strict: bool
) -> Generator[int, None, None]:
    """Those of `rows` that can be decoded, in their order; the others are added to `skipped`."""
    on_error: Literal["raise", "skip"] = "raise" if strict else "skip"
    for batch in images.batches(encoder.preprocessing, rows=rows, on_error=on_error):
        skipped += [skip for _, skip in batch.skipped]
        yield from batch.rows.tolist()
