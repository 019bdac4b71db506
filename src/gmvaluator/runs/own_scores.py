"""A valuation from scores that another program computed: what `Valuation.from_scores` does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmvaluator import versions
from gmvaluator.errors import InputError
from gmvaluator.images import ImageSet, ImageSource, set_fingerprint
from gmvaluator.images.ids import code_points, repeated
from gmvaluator.runs.record import Input, Inputs, RecordedSettings, RunRecord
from gmvaluator.scoring.scores import Contributions

# of sums of float32 scores, which many programs compute
_ROUNDING = 1e-6


def fields_of_scores(
    scores: Any,
    train: ImageSource | Sequence[str],
    generated: ImageSource | Sequence[str],
    *,
    distances: ArrayLike | None = None,
    quality: ArrayLike | None = None,
    name: str = "own scores",
) -> dict[str, Any]:
    """The fields of `Valuation.from_scores`."""
    sides = {"training": _opened(train), "generated": _opened(generated)}
    ids = {kind: _ids(side, kind) for kind, side in sides.items()}
    n, m = (len(names) for names in ids.values())
    contributions = contributions_of(scores, n, m, distances)
    handed_out, signed = _quality(contributions.scores, quality)
    keys = {kind: _content_keys(side) for kind, side in sides.items()}
    inputs = {kind: _input(side, ids[kind], keys[kind]) for kind, side in sides.items()}
    settings = {"valuer": name, "k": contributions.rows.shape[1], "signed": signed}
    return {
        "train_ids": ids["training"],
        "train_labels": _labels(sides["training"]),
        "generated_ids": ids["generated"],
        "generated_labels": _labels(sides["generated"]),
        "quality": handed_out,
        "contributions": contributions,
        "skipped": (),
        "record": RunRecord(
            settings=RecordedSettings(settings),
            n_train=n,
            n_generated=m,
            versions=versions.installed(),
            weights={},
            inputs=Inputs(inputs["training"], inputs["generated"]),
        ),
        # a run records the contents of both sides, or of none
        "train_keys": keys["training"] if all(keys.values()) else None,
        "generated_keys": keys["generated"] if all(keys.values()) else None,
    }


def contributions_of(
    scores: Any, n: int, m: int, distances: ArrayLike | None = None, *, least: int = 1
) -> Contributions:
    """The scores as the k contributors of each generated image, highest score first.

    Args:
        scores: (n, m) array or SciPy sparse array of finite numbers.
        n, m: number of training and of generated images.
        distances: (n, m) finite numbers. Default: minus the scores.
        least: smallest k. k is the largest number of scores other than 0 of a generated image;
            images of score 0 fill the lists of the others.

    Raises:
        InputError: another shape, no numbers, NaN or infinite numbers.
    """
    from scipy.sparse import csc_array, issparse

    matrix = scores if issparse(scores) else _numbers(scores, "scores")
    _check_shape(matrix.shape, n, m, "scores")
    by_image = csc_array(matrix, dtype=np.float64)
    by_image.sum_duplicates()
    by_image.eliminate_zeros()
    if not np.isfinite(by_image.data).all():
        at = int(np.flatnonzero(~np.isfinite(by_image.data))[0])
        column = int(np.searchsorted(by_image.indptr, at, side="right")) - 1
        raise InputError(
            f"scores has {by_image.data[at]} at training image {by_image.indices[at]} and "
            f"generated image {column}; pass finite numbers"
        )
    k = int(max(np.diff(by_image.indptr).max(), min(least, n)))
    rows, best = np.empty((m, k), dtype=np.int64), np.zeros((m, k))
    for j in range(m):
        part = slice(by_image.indptr[j], by_image.indptr[j + 1])
        scored, given = by_image.indices[part].astype(np.int64), by_image.data[part]
        if missing := k - len(scored):
            # as many images of score 0 as are missing are among the first k, whatever is scored
            filling = np.setdiff1d(np.arange(k), scored)[:missing]
            scored = np.concatenate([scored, filling])
            given = np.concatenate([given, np.zeros(missing)])
        order = np.lexsort((scored, -given))
        rows[j], best[j] = scored[order], given[order]
    if distances is None:
        apart = -best
    else:
        given_distances = _numbers(distances, "distances")
        _check_shape(given_distances.shape, n, m, "distances")
        if not np.isfinite(given_distances).all():
            raise InputError("distances has NaN or infinite numbers; pass finite ones")
        apart = given_distances[rows, np.arange(m)[:, None]]
    return Contributions(rows, apart.astype(np.float32), best, n)


def _quality(
    scores: NDArray[np.float64], quality: ArrayLike | None
) -> tuple[NDArray[np.float64], bool]:
    """(m,) quality, and whether the scores are influences, which hand out no quality."""
    m, sums = len(scores), scores.sum(axis=1)
    given = None if quality is None else _numbers(quality, "quality")
    if given is not None and (given.shape != (m,) or not bool(np.all((given >= 0) & (given <= 1)))):
        raise InputError(
            f"quality has shape {given.shape} and must be ({m},), one number from 0 (bad) to 1 "
            "(good) for each generated image"
        )
    wanted = np.minimum(sums, 1) if given is None else given
    if bool(np.all(scores >= 0)) and bool(np.all(np.abs(sums - wanted) <= _ROUNDING)):
        # the sums themselves: a law of every run compares them to nine digits
        scores /= np.maximum(sums, 1)[:, None]
        return np.minimum(sums, 1), False
    return np.ones(m) if given is None else given, True


def _numbers(given: ArrayLike, what: str) -> NDArray[np.float64]:
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} are no numbers ({error}); pass an array of numbers") from None


def _check_shape(shape: tuple[int, ...], n: int, m: int, what: str) -> None:
    if shape != (n, m):
        turned = "; transpose it" if shape == (m, n) else ""
        raise InputError(
            f"{what} has shape {shape} for {n} training and {m} generated images; pass one of "
            f"({n}, {m}), a row for each training image{turned}"
        )


def _opened(side: ImageSource | Sequence[str]) -> ImageSet | tuple[str, ...]:
    """An image set, or ids where a list of texts was given."""
    if isinstance(side, Iterable) and not isinstance(side, str | ImageSet):
        names = list(side)
        if names and all(isinstance(name, str) for name in names):
            return tuple(map(str, names))
    return ImageSet.open(side)


def _ids(side: ImageSet | tuple[str, ...], kind: str) -> tuple[str, ...]:
    ids = side.ids if isinstance(side, ImageSet) else side
    if same := repeated(ids):
        shown = " or ".join(dict.fromkeys(map(code_points, same)))
        raise InputError(f"two {kind} images have the id {shown}; pass an id for each image")
    return ids


def _labels(side: ImageSet | tuple[str, ...]) -> tuple[str | None, ...] | None:
    return side.labels if isinstance(side, ImageSet) else None


def _content_keys(side: ImageSet | tuple[str, ...]) -> tuple[str, ...] | None:
    if not isinstance(side, ImageSet):
        return None
    return tuple(side.content_key(row) for row in range(len(side)))


def _input(
    side: ImageSet | tuple[str, ...], ids: tuple[str, ...], keys: tuple[str, ...] | None
) -> Input:
    if not isinstance(side, ImageSet) or keys is None:
        return Input()
    return Input(side.location, set_fingerprint(ids, keys))
