"""Images that are known to have no source in the training set, and how strange images are to it.

The test itself is in `gmvaluator.scoring.conformal`. The null sample is held out by the user or, by
default, made of the training images, each left out in turn. A left-out training image is compared
with n − 1 others, not n: nothing else distinguishes it from a new image of the same kind.

The strangeness of an image is d₁ · d₁₀ / s. d₁ is the distance of the best match: a copy of a
training image is never strange, however lonely the training image. d₁₀ is the distance of the tenth
nearest, and s the median distance from one of the ten to its nearest other one: an image that is as
far from its matches as the matches are from each other lies among them, an image that is farther
lies beside them. d₁ alone does not find a stranger to a varied training set, which always has
something as near.

d₁₀ and s are of the `COMPARED` nearest in the recall space, and so is d₁ of the null sample. d₁ of
a generated image is of all its candidates, which makes its p-value larger if anything. s is a
distance in the first recall space; d₁ and d₁₀ are distances of the run: of the re-rank, or of the
recall where there is no re-rank.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.embedding import Tally
from gmvaluator.engine.context import Context
from gmvaluator.engine.place import mirrored, place
from gmvaluator.engine.recall import find_candidates
from gmvaluator.engine.trained import Trained
from gmvaluator.errors import ImageError, InputError, either
from gmvaluator.geometry import blocks, nearest_other, pair_squared
from gmvaluator.images import ImageSet, Skip, set_fingerprint
from gmvaluator.matching.duplicates.find import ROUNDING
from gmvaluator.matching.placed import PlacedSet
from gmvaluator.matching.recall import Candidates
from gmvaluator.matching.rerank import Contributors, rerank
from gmvaluator.scoring.conformal import Null, Verdict, fresh_rows, null_size

COMPARED = 20
"""Candidates of an image that its strangeness is measured by: the nearest in the recall space."""
TENTH = 10
"""Of these, the rank of the second distance in the measure."""


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
    if holdout is not None:
        null = held_out(context, trained, holdout, strict=strict)
    else:
        null = trained.memo.get(
            ("leave-one-out", settings.null_level, compared(context, trained)),
            lambda: leave_one_out(context, trained),
        )
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
    if compared(context, trained) < 1:
        # a single training image: there is no null sample to compare with either
        strangeness = np.zeros(len(generated.rows))
    elif candidates is None or ranked is None:
        strangeness = _strangeness(context, trained, generated)
    else:
        strangeness = _strangeness_of_ranked(context, trained, candidates, ranked)
    return Verdict.of(null, strangeness, context.settings.null_level)


def compared(context: Context, trained: Trained) -> int:
    """Candidates that strangeness is measured by; one of the training images may be left out."""
    _, n_candidates = context.settings.counts
    return min(COMPARED, n_candidates, len(trained.order) - 1)


def leave_one_out(context: Context, trained: Trained) -> Null:
    """The null of training images, each left out in turn; its copies are left out with it.

    The sample is drawn by content: it does not depend on how the set is listed. There is no null
    where a training image of the sample can no longer be read.

    Raises:
        RunError: a training image has changed since it was embedded.
    """
    level, none = context.settings.null_level, np.empty(0)
    if compared(context, trained) < 1:
        return Null("leave-one-out", none, missing="a single training image has no others")
    if trained.placed.images is None and context.settings.mirror:
        return Null(
            "leave-one-out",
            none,
            missing="the training images, which mirror reads, were in memory",
        )
    numbers = trained.order[: null_size(level)]
    sample = replace(trained.placed.select(numbers), tally=Tally())
    try:
        sample = mirrored(context, trained, sample)
        strangeness = _strangeness(context, trained, sample, left_out=numbers)
    except ImageError as error:
        # values do not need the null sample, so an unreadable image must not end a run
        reason = f"a training image of the null sample can no longer be read ({error})"
        return Null("leave-one-out", none, missing=reason)
    null = Null("leave-one-out", np.sort(strangeness[~np.isnan(strangeness)]))
    return _without_zero_threshold(null, level)


def held_out(context: Context, trained: Trained, images: ImageSet, *, strict: bool) -> Null:
    """The null of images that are known not to be training images.

    A sample by content is taken of many. Training images among the held-out images are left out and
    counted: images of the same bytes, and in the sample images of the same vector.

    Raises:
        InputError: no readable image that is not a training image.
    """
    if compared(context, trained) < 1:
        raise InputError("a single training image has no others; pass at least 2 training images")
    level, encoder = context.settings.null_level, context.encoders[0]
    key_of, skipped = _content_keys(images, encoder, strict=strict)
    fresh = fresh_rows(key_of, images.ids, trained.train.keys)
    in_training, size = len(key_of) - len(fresh), null_size(level)
    readable = _readable(images, encoder, fresh, skipped, strict=strict)
    strangeness: list[float] = []
    sampled: list[int] = []
    # as many again as were training images
    while rows := list(islice(readable, size - len(sampled))):
        batch, measured = _of_held_out(context, trained, images, rows)
        new = ~np.isnan(measured)
        in_training += int((~new).sum())
        strangeness += measured[new].tolist()
        sampled += batch.rows[new].tolist()
    readable.close()
    if not sampled:
        raise InputError(_none_held_out(images, in_training, skipped))
    null = Null(
        "holdout",
        np.sort(np.asarray(strangeness)),
        in_training=in_training,
        skipped=tuple(skipped),
        source=images.location,
        fingerprint=set_fingerprint(
            [images.ids[row] for row in sampled], [key_of[row] for row in sampled]
        ),
    )
    return _without_zero_threshold(null, level)


def _of_held_out(
    context: Context, trained: Trained, images: ImageSet, rows: Sequence[int]
) -> tuple[PlacedSet, NDArray[np.float64]]:
    """Held-out images, and how strange each is; NaN where an image is a training image."""
    batch = place(context, trained, images, "holdout", rows=rows)
    near = find_candidates(context, trained, batch, compared(context, trained))
    known = _same_vectors(trained, batch, near.rows).any(axis=1)
    return batch, np.where(known, np.nan, _strangeness(context, trained, batch))


def _strangeness_of_ranked(
    context: Context, trained: Trained, candidates: Candidates, ranked: Contributors
) -> NDArray[np.float64]:
    """(m,) strangeness of images whose candidates were all ranked.

    Args:
        candidates: (m, c) in the order of the recall.
        ranked: the same training images, nearest first.
    """
    first = candidates.rows[:, : compared(context, trained)]
    among_first = np.zeros(ranked.rows.shape, dtype=bool)
    for column in first.T:
        among_first |= ranked.rows == column[:, None]
    columns = np.argsort(~among_first, axis=1, kind="stable")[:, : first.shape[1]]
    rows = np.take_along_axis(ranked.rows, columns, axis=1)
    distances = np.take_along_axis(ranked.distances, columns, axis=1)
    return _measure(trained, rows, distances, ranked.distances[:, 0])


def _strangeness(
    context: Context,
    trained: Trained,
    batch: PlacedSet,
    left_out: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """(m,) strangeness of images; NaN where too many candidates are copies of the image.

    Args:
        left_out: (m,) rows of the training images that the images are; these rows and their copies
            are no candidates.
    """
    n, c = len(trained.order), compared(context, trained)
    n_candidates = c if left_out is None else min(n, 2 * c + 1)
    candidates = find_candidates(context, trained, batch, n_candidates)
    spoilt = np.zeros(len(candidates.rows), dtype=np.bool_)
    if left_out is not None:
        copies = _copies(trained, batch, left_out, candidates.rows)
        columns = np.argsort(copies, axis=1, kind="stable")[:, :c]
        spoilt |= np.take_along_axis(copies, columns, axis=1).any(axis=1)
        candidates = Candidates(
            np.take_along_axis(candidates.rows, columns, axis=1),
            np.take_along_axis(candidates.distances, columns, axis=1),
            n,
        )
    ranked = rerank(
        candidates,
        # the training images that the null sample reads are not counted for the valuation
        replace(trained.placed, tally=Tally()),
        batch,
        trained.terms,
        c,
        ties=trained.ties,
        budget=context.budget,
    )
    strangeness = _measure(trained, ranked.rows, ranked.distances, ranked.distances[:, 0])
    return np.where(spoilt, np.nan, strangeness)


def _measure(
    trained: Trained,
    rows: NDArray[np.int64],
    distances: NDArray[np.float32],
    best: NDArray[np.float32],
) -> NDArray[np.float64]:
    """d₁ · d₁₀ / s of (m, c) training images, nearest first."""
    last = min(TENTH, rows.shape[1]) - 1
    return best.astype(np.float64) * distances[:, last] / _spacing(trained, rows)


def _spacing(trained: Trained, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(m,) median distance from the first `TENTH` of (m, c) training images to the nearest other.

    Copies are not others; 1 where there are no others.
    """
    vectors, space = trained.vectors, trained.space
    m, c = rows.shape
    near = min(TENTH, c)
    spacing = np.ones(m)
    # three numbers a pair
    for part in blocks(m, 24 * near * c):
        images = rows[part]
        left = np.repeat(images[:, :near], c, axis=1).ravel()
        right = np.tile(images, (1, near)).ravel()
        squared = pair_squared(vectors, left, vectors, right).reshape(-1, near, c)
        nearest = nearest_other(squared)
        has_other = np.isfinite(nearest)
        distances = np.where(has_other, space.distance(np.where(has_other, nearest, 0)), np.nan)
        any_other = has_other.any(axis=1)
        spacing[part][any_other] = np.nanmedian(distances[any_other], axis=1)
    return spacing


def _same_vectors(trained: Trained, batch: PlacedSet, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(m, c) whether a training image has the vector of an image, or of its mirror image.

    Up to the distance that an encoder may place equal pixels apart. A null sample without such
    images is stranger, which makes p-values larger if anything, so the images need not be decoded
    and compared.

    Args:
        rows: (m, c) of the training images.
    """
    queries, (m, c) = batch.vectors[trained.spaces[0].encoder.fingerprint], rows.shape
    n_forms = len(queries) // m
    repeated = np.repeat(np.arange(len(queries)), c)
    squared = pair_squared(queries, repeated, trained.vectors, np.tile(rows.ravel(), n_forms))
    lengths = np.einsum("ij,ij->i", queries[:m], queries[:m])
    near: NDArray[np.bool_] = squared.reshape(n_forms, m, c).min(axis=0) <= (
        ROUNDING**2 * lengths[:, None]
    )
    return near


def _copies(
    trained: Trained, batch: PlacedSet, left_out: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(m, c) whether a candidate is the left-out image, or has its content or its vector."""
    keys = trained.placed.keys
    copies: NDArray[np.bool_] = _same_vectors(trained, batch, rows)
    copies |= rows == left_out[:, None]
    repeated = np.repeat(left_out, rows.shape[1]).tolist()
    same_key = [keys[a] == keys[b] for a, b in zip(repeated, rows.ravel(), strict=True)]
    copies |= np.reshape(same_key, rows.shape)
    return copies


def _without_zero_threshold(null: Null, level: float) -> Null:
    """The null sample; without its images where the threshold is 0.

    Every image that is no copy of a training image would be beyond a threshold of 0.
    """
    if null.threshold(level) != 0:
        return null
    n, strange = len(null.strangeness), int((null.strangeness > 0).sum())
    reason = f"all but {strange} of the {n} images of the null sample match a training image at 0"
    return replace(null, strangeness=np.empty(0), missing=reason)


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
