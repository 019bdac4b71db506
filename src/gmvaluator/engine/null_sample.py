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

With `null_measure` `domain` an image is strange by `gmvaluator.engine.domain` in place of this. A
copy of a training image, with equal content or an equal vector, is not.
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
from gmvaluator.engine.domain import domain_encoder, domain_of, small_pictures
from gmvaluator.engine.match import in_every_space, place, rank, recall
from gmvaluator.engine.trained import Trained
from gmvaluator.errors import ImageError, InputError, either
from gmvaluator.geometry import blocks, nearest_other, pair_squared
from gmvaluator.images import ImageSet, Skip, set_fingerprint
from gmvaluator.images.ids import letters
from gmvaluator.matching.duplicates.find import ROUNDING
from gmvaluator.matching.placed import PlacedSet
from gmvaluator.matching.recall import Candidates
from gmvaluator.matching.rerank import Contributors
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
    # the training images that the null sample reads are not counted for the valuation
    trained = trained.counting(Tally())
    compared = _compared(context, trained)
    if holdout is not None:
        null = held_out(context, trained, holdout, compared, strict=strict)
    else:
        null = trained.memo.get(
            ("leave-one-out", settings.null_measure, settings.null_level, compared),
            lambda: leave_one_out(context, trained, compared),
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
    compared = _compared(context, trained)
    # a single training image: there is no null sample to compare with either
    strangeness = np.zeros(len(generated.rows))
    if context.settings.null_measure == "domain":
        domain = None if null.missing else domain_of(context, trained)
        if domain is not None:
            strangeness = domain.strangeness(small_pictures(context, generated))
            strangeness[_is_training_image(context, trained, generated)] = 0.0
    elif compared:
        if candidates is None or ranked is None:
            candidates = recall(context, trained, generated, compared)
            ranked = rank(context, trained.counting(Tally()), generated, candidates)
        strangeness = _strangeness(trained, candidates.rows[:, :compared], ranked)
    level = context.settings.null_level
    return Verdict(null, level, null.p_values(strangeness))


def _compared(context: Context, trained: Trained) -> int:
    """Candidates that strangeness is measured by; one of the training images may be left out."""
    _, n_candidates = context.settings.counts
    return min(COMPARED, n_candidates, len(trained.order) - 1)


def leave_one_out(context: Context, trained: Trained, compared: int) -> Null:
    """The null of training images, each left out in turn; its copies are left out with it.

    The sample is drawn by content: it does not depend on how the set is listed. There is no null
    where a training image of the sample can no longer be read.

    Args:
        compared: candidates that strangeness is measured by.

    Raises:
        RunError: a training image has changed since it was embedded.
    """
    null = Null("leave-one-out", np.empty(0))
    if not compared:
        return replace(null, missing="a single training image has no others")
    by_domain = context.settings.null_measure == "domain"
    if trained.placed.images is None:
        if by_domain and domain_encoder(context).fingerprint not in trained.placed.vectors:
            missing = "the training images, which null_measure domain reads, were in memory"
            return replace(null, missing=missing)
        if context.settings.mirror and not by_domain:
            missing = "the training images, which mirror reads, were in memory"
            return replace(null, missing=missing)
    try:
        strangeness = _strangeness_of_training(context, trained, compared)
    except ImageError as error:
        # values do not need the null sample, so an unreadable image must not end a run
        reason = f"a training image of the null sample can no longer be read ({error})"
        return replace(null, missing=reason)
    return replace(null, strangeness=np.sort(strangeness[~np.isnan(strangeness)]))


def _strangeness_of_training(
    context: Context, trained: Trained, compared: int
) -> NDArray[np.float64]:
    """(N,) strangeness of training images that are left out."""
    if context.settings.null_measure == "domain":
        domain = domain_of(context, trained)
        if domain is None:
            return np.empty(0)
        sample = trained.placed.select(domain.held_back)
        return domain.strangeness(small_pictures(context, sample))
    numbers = trained.order[: null_size(context.settings.null_level)]
    sample = in_every_space(context, trained, trained.placed.select(numbers))
    return _strangeness_of_sample(context, trained, sample, compared)


def _is_training_image(context: Context, trained: Trained, batch: PlacedSet) -> NDArray[np.bool_]:
    """(m,) whether an image has the content or the vector of its nearest training image."""
    nearest = recall(context, trained, batch, 1)
    return _same_images(trained, batch, nearest.rows)[:, 0]


def held_out(
    context: Context, trained: Trained, images: ImageSet, compared: int, *, strict: bool
) -> Null:
    """The null of images that are known not to be training images.

    A sample by content is taken of many. Training images among the held-out images are left out and
    counted: images of the same bytes, and in the sample images of the same vector.

    Raises:
        InputError: no readable image that is not a training image.
    """
    if not compared:
        raise InputError("a single training image has no others; pass at least 2 training images")
    encoder = context.encoders[0]
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
        measured = _strangeness_of_held_out(context, trained, batch, compared)
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


def _strangeness_of_held_out(
    context: Context, trained: Trained, batch: PlacedSet, compared: int
) -> NDArray[np.float64]:
    """(N,) strangeness of held-out images; NaN for training images among them."""
    if context.settings.null_measure != "domain":
        return _strangeness_of_sample(context, trained, batch, compared)
    domain = domain_of(context, trained)
    if domain is None:
        return np.zeros(len(batch.rows))
    strangeness = domain.strangeness(small_pictures(context, batch))
    return np.where(_is_training_image(context, trained, batch), np.nan, strangeness)


def _strangeness_of_sample(
    context: Context, trained: Trained, sample: PlacedSet, compared: int
) -> NDArray[np.float64]:
    """(N,) strangeness of images of a null sample, to the training images that are others.

    NaN where too few of the candidates are others.
    """
    # a training image is left out with its copies, so more candidates than are compared are needed
    n = min(len(trained.order), 2 * compared + 1) if sample.kind == "train" else compared
    candidates = recall(context, trained, sample, n)
    same = _same_images(trained, sample, candidates.rows)
    others = np.argsort(same, axis=1, kind="stable")[:, :compared]
    candidates = candidates.take(others)
    ranked = rank(context, trained, sample, candidates)
    too_few = np.take_along_axis(same, others, axis=1).any(axis=1)
    return np.where(too_few, np.nan, _strangeness(trained, candidates.rows, ranked))


def _strangeness(
    trained: Trained, compared: NDArray[np.int64], ranked: Contributors
) -> NDArray[np.float64]:
    """(m,) strangeness of images: d₁ · d₁₀ / s.

    Args:
        compared: (m, c) training images that d₁₀ and s are measured by.
        ranked: these and perhaps other candidates, nearest first; d₁ is of the nearest.
    """
    is_compared = np.zeros(ranked.rows.shape, dtype=bool)
    for column in compared.T:
        is_compared |= ranked.rows == column[:, None]
    columns = np.argsort(~is_compared, axis=1, kind="stable")[:, : compared.shape[1]]
    rows = np.take_along_axis(ranked.rows, columns, axis=1)
    tenth = columns[:, [min(TENTH, columns.shape[1]) - 1]]
    d_tenth = np.take_along_axis(ranked.distances, tenth, axis=1)[:, 0]
    return ranked.distances[:, 0].astype(np.float64) * d_tenth / _spacing(trained, rows)


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


def _same_images(trained: Trained, batch: PlacedSet, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(m, c) whether a training image has the content or the vector of an image, or is its mirror.

    The vector up to the distance that an encoder may place equal pixels apart. A null sample
    without such images is stranger, which makes p-values larger if anything, so the images need
    not be decoded and compared.

    Args:
        rows: (m, c) of the training images.
    """
    queries, (m, c) = batch.vectors[trained.spaces[0].encoder.fingerprint], rows.shape
    n_forms = len(queries) // m
    repeated = np.repeat(np.arange(len(queries)), c)
    squared = pair_squared(queries, repeated, trained.vectors, np.tile(rows.ravel(), n_forms))
    lengths = np.einsum("ij,ij->i", queries[:m], queries[:m])
    same_vector = squared.reshape(n_forms, m, c).min(axis=0) <= ROUNDING**2 * lengths[:, None]
    keys = trained.placed.keys
    same_key = [
        [keys[row] == key for row in own]
        for key, own in zip(batch.keys, rows.tolist(), strict=True)
    ]
    return np.asarray(same_vector | np.asarray(same_key))


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
