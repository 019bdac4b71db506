"""Near copies: which images of a set are copies of which training images, altered ones included.

An image is compared with the training images that two spaces recall for it and its mirror image
(as preset `robust` does), each laid over it as well as it goes (`registration`). Its distance from
one of them is then told in units of its surroundings: divided by the median over all it was
compared with. A copy is far nearer to its source than to anything else; an image that is merely
like many is not. Carlini et al. (2023, Extracting Training Data from Diffusion Models) and Lowe's
ratio test (2004) rest on the same thought.

The threshold comes from training images, each compared with all others: what they show is how near
images come that are no copies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.audit.align import PLACEMENTS, grey_pixels, registered
from gmvaluator.engine.trained import Trained
from gmvaluator.errors import InputError
from gmvaluator.files.store import Store
from gmvaluator.geometry import evenly_spread
from gmvaluator.images import ImageSet, Skip
from gmvaluator.progress import Progress, as_progress
from gmvaluator.valuator import GMValuator

__all__ = ["Calibration", "CopyFinder", "CopySettings", "Matches", "Pair", "calibrate"]

RECALLED = 200
RERANK_WEIGHTS = (1.0, 2.0)
FLOOR_SHARE = 0.5  # of the median surroundings: among many copies of one image everything is near
FAR_OUT = 7.0  # lower standard deviations (of the logarithm) at which a neighbour must be a copy
ROUNDS = 20
LEAST_TRAIN = 20  # training images, for there to be neighbours to calibrate on
QUARTER_NORMAL = 0.6745  # the normal distribution's quartile, in standard deviations


@dataclass(frozen=True)
class CopySettings:
    """How copies are looked for.

    Attributes:
        false_alarms: share of innocent images that may be called copies, between 0 and 0.5.
        candidates: training images each image is laid over.
        calibration: training images that are compared with the others, at most.
        encoder, second_encoder: the two spaces that candidates are recalled in.
    """

    false_alarms: float = 0.01
    candidates: int = 16
    calibration: int = 2_000
    encoder: str = "efficientnet-lite0"
    second_encoder: str = "pixels@14"

    def __post_init__(self) -> None:
        if not 0 < self.false_alarms < 0.5:
            raise InputError(
                f"false_alarms={self.false_alarms}; pass a share above 0 and below 0.5, such as "
                "0.01"
            )
        for name, least in (("candidates", 4), ("calibration", LEAST_TRAIN)):
            if getattr(self, name) < least:
                raise InputError(f"{name}={getattr(self, name)}; pass {name} ≥ {least}")


@dataclass(frozen=True, eq=False)
class Calibration:
    """The threshold, and what it was taken from.

    Attributes:
        threshold: distances up to it are those of copies.
        floor: the least that distances are divided by.
        distances: (c,) from training images to their nearest other one, those taken for copies of
            each other left out; ascending.
        left_out: training images that were left out so.
        alone: those that have no other training image than copies to be compared with.
        method: `quantile` of the distances, or `log-normal`, extrapolated from too few of them.
        false_alarms: what was asked for.
    """

    threshold: float
    floor: float
    distances: NDArray[np.float64]
    left_out: int
    alone: int
    method: str
    false_alarms: float

    def as_json(self) -> dict[str, Any]:
        """Plain types; of the distances their quantiles."""
        shares = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
        found = asdict(self) | {"images": len(self.distances)}
        found["distances"] = {
            f"{share:g}": float(each)
            for share, each in zip(shares, np.quantile(self.distances, shares), strict=True)
        }
        return found | {"stated": self.stated}

    @property
    def stated(self) -> str:
        """What the threshold promises, and under what condition."""
        kind = (
            "the quantile of"
            if self.method == "quantile"
            else "a log-normal distribution fitted to (there are too few for the quantile: an "
            "extrapolation)"
        )
        text = (
            f"At most {100 * self.false_alarms:g} % of images that are no copies are called "
            f"copies, where these are like the training images, by {kind} the distances of "
            f"{len(self.distances):,} training images from their nearest other one."
        )
        if not self.left_out:
            return text
        share = 100 * self.left_out / (self.left_out + len(self.distances))
        return (
            f"{text} {self.left_out:,} more, whose nearest other one is far nearer than usual, "
            f"were taken for copies within the training set and left out; were they none, up to "
            f"{share:.2g} % more innocent images would be called copies."
        )


@dataclass(frozen=True)
class Pair:
    """A generated image beside a training image.

    Attributes:
        generated, train: rows in the run.
        distance: in units of the generated image's surroundings; 0 the same, 1 as usual.
        is_copy: whether that is within the threshold.
        placement: how the generated image is laid over the training image, in words.
        place: its number in `registration.PLACEMENTS`.
        rank: 1 for the training image it is most like.
    """

    generated: int
    train: int
    distance: float
    is_copy: bool
    placement: str
    place: int
    rank: int


@dataclass(frozen=True, eq=False)
class Matches:
    """The training images each image is most like, nearest first.

    Attributes:
        rows: (m,) place of each image in its set; those that cannot be read are missing.
        keys: m content keys.
        candidates: (m, k) training images, by their row among the readable ones.
        distances: (m, k) float64, in units of the surroundings: 0 the same, 1 as usual.
        places: (m, k) how each is laid over, numbers in `registration.PLACEMENTS`.
        skipped: images that cannot be read.
    """

    rows: NDArray[np.int64]
    keys: tuple[str, ...]
    candidates: NDArray[np.int64]
    distances: NDArray[np.float64]
    places: NDArray[np.int64]
    skipped: tuple[Skip, ...] = ()

    def pairs(self, threshold: float, set_rows: NDArray[np.int64]) -> Iterator[Pair]:
        """The best match of each image, then what else is within the threshold.

        Args:
            threshold: distances up to it are those of copies.
            set_rows: row in the run of each image of the set that was matched.
        """
        for j, row in enumerate(self.rows.tolist()):
            near = self.distances[j] <= threshold
            # distances ascend
            for rank in range(max(1, int(near.sum()))):
                place = int(self.places[j, rank])
                yield Pair(
                    generated=int(set_rows[row]),
                    train=int(self.candidates[j, rank]),
                    distance=float(self.distances[j, rank]),
                    is_copy=bool(near[rank]),
                    placement=str(PLACEMENTS[place]),
                    place=place,
                    rank=rank + 1,
                )


class CopyFinder:
    """Finds copies of one training set's images.

    Args:
        train: any source of `ImageSet`, at least 20 readable images.
        settings: how.
        cache, device, backend, progress: as for `GMValuator`.

    Raises:
        InputError: too few training images.
        ImageError: one cannot be read any more.
    """

    def __init__(
        self,
        train: object,
        settings: CopySettings | None = None,
        *,
        cache: bool | str | Path | Store = True,
        device: str = "auto",
        backend: Any = "auto",
        progress: bool | Progress = False,
    ) -> None:
        self.settings = settings or CopySettings()
        self._progress = as_progress(progress)
        self._images = ImageSet.open(train)
        n = len(self._images)
        _check_number(n)
        # one more: a training image finds itself
        self._k = min(self.settings.candidates, n - 1) + 1
        # as preset robust: two spaces, mirror images; its weights order the candidates
        spaces = (self.settings.encoder, self.settings.second_encoder)
        self._valuator = GMValuator(
            encoder=spaces[0],
            second_encoder=spaces[1],
            rerank=dict(zip(spaces, RERANK_WEIGHTS, strict=True)),
            mirror=True,
            # every one of several copies is to be named
            dedup="none",
            quality="none",
            k=self._k,
            candidates=min(RECALLED, n),
            cache=cache,
            device=device,
            backend=backend,
            progress=self._progress,
        ).fit(self._images)
        fitted = self._valuator.fitted_
        if fitted is None:
            raise InputError("nothing was fitted; pass a training set")
        _check_number(len(fitted.train.ids))
        self.fitted: Trained = fitted
        self._pixels = grey_pixels(self._images, fitted.train.rows)

    @cached_property
    def calibration(self) -> Calibration:
        """The threshold of the settings; training images are compared when it is first asked for.

        Raises:
            InputError: too few training images have neighbours that are no copies of them.
        """
        return self.calibration_at(self.settings.false_alarms)

    def calibration_at(self, false_alarms: float) -> Calibration:
        """The threshold for another share of false alarms; nothing is compared anew."""
        return calibrate(*self._train_distances, false_alarms)

    def match(self, images: object) -> Matches:
        """What the readable images of a set are most like.

        Args:
            images: any source of `ImageSet`.

        Raises:
            InputError: none can be read.
        """
        found = self._compare(ImageSet.open(images), "generated")
        candidates, raw = found.candidates[:, : self._k - 1], found.distances[:, : self._k - 1]
        around = _surroundings(raw, self._repeated(candidates))
        relative = raw / np.fmax(around, self.calibration.floor)[:, None]
        order = np.lexsort((candidates, relative), axis=1)
        return Matches(
            rows=found.rows,
            keys=found.keys,
            candidates=np.take_along_axis(candidates, order, axis=1),
            distances=np.take_along_axis(relative, order, axis=1),
            places=np.take_along_axis(found.places, order, axis=1),
            skipped=found.skipped,
        )

    @cached_property
    def _train_distances(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of training images compared with all the others: the nearest of them, and the rest."""
        asked = evenly_spread(len(self.fitted.train.ids), self.settings.calibration)
        # by content, so that it does not depend on how the set is listed
        asked = np.sort(self.fitted.order[asked])
        some = self._images.select(self.fitted.train.rows[asked])
        found = self._compare(some, "calibration")
        _, of_content = np.unique(self.fitted.train.keys, return_inverse=True)
        same = of_content[found.candidates] == of_content[asked][:, None]
        raw = np.where(same, np.nan, found.distances)
        return _nearest(raw), _surroundings(raw, self._repeated(found.candidates))

    def _compare(self, images: ImageSet, stage: str) -> Matches:
        """Each image laid over its candidates; distances as they come, in the recall's order."""
        valuation = self._valuator.value(images)
        place_of = {name: row for row, name in enumerate(images.ids)}
        rows = np.array([place_of[name] for name in valuation.generated_ids], dtype=np.int64)
        candidates = valuation.contributions.rows
        distances, places = registered(
            grey_pixels(images, rows),
            self._pixels,
            candidates,
            progress=self._progress,
            stage=f"lay over ({stage})",
        )
        keys = valuation.generated_keys or ()
        skipped = tuple(skip for side, skip in valuation.skipped if side == "generated")
        return Matches(rows, keys, candidates, distances.astype(np.float64), places, skipped)

    def _repeated(self, candidates: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(m, k) candidates with the very content of one that comes before them."""
        _, of_content = np.unique(self.fitted.train.keys, return_inverse=True)
        contents = of_content[candidates]
        before = np.tri(candidates.shape[1], k=-1, dtype=bool)
        return np.asarray(((contents[:, :, None] == contents[:, None, :]) & before).any(axis=2))


def calibrate(
    nearest: NDArray[np.float64], around: NDArray[np.float64], false_alarms: float
) -> Calibration:
    """A threshold from how near training images come to each other.

    Real sets hold copies of their own images, which tell nothing of innocent ones: distances more
    than `FAR_OUT` lower standard deviations below the median are left out, anew until none is. The
    deviation is taken from median and lower quartile of the logarithms, so up to a quarter of
    copies does not hide them.

    Args:
        nearest: (c,) from each training image to its nearest other one, as laid over it; NaN where
            it has none but copies.
        around: (c,) its surroundings, likewise.
        false_alarms: share of innocent images to be called copies at most.

    Raises:
        InputError: fewer than `LEAST_TRAIN` distances are left.
    """
    known = np.isfinite(nearest) & np.isfinite(around) & (around > 0)
    alone = int((~known).sum())
    floor = FLOOR_SHARE * float(np.median(around[known])) if known.any() else 0.0
    relative = nearest[known] / np.maximum(around[known], floor)
    kept = np.sort(relative)
    for _ in range(ROUNDS):
        centre, spread = _spread(kept)
        within = kept[np.searchsorted(kept, math.exp(centre - FAR_OUT * spread)) :]
        if len(within) == len(kept):
            break
        kept = within
    if len(kept) < LEAST_TRAIN:
        raise InputError(
            f"{len(kept)} of {len(nearest)} training images have neighbours that are no copies of "
            f"them; a threshold takes at least {LEAST_TRAIN}: pass more training images, without "
            "their copies"
        )
    place = math.floor(false_alarms * (len(kept) + 1))
    centre, spread = _spread(kept)
    return Calibration(
        # the n-th smallest of c: one more image of the same kind is as near with n / (c + 1)
        threshold=float(kept[place - 1]) if place else _lowest(centre, spread, false_alarms, kept),
        floor=floor,
        distances=kept,
        left_out=len(relative) - len(kept),
        alone=alone,
        method="quantile" if place else "log-normal",
        false_alarms=false_alarms,
    )


def _lowest(centre: float, spread: float, share: float, distances: NDArray[np.float64]) -> float:
    """The share's quantile of a log-normal distribution, below all that was seen."""
    from statistics import NormalDist

    fitted = math.exp(centre + NormalDist().inv_cdf(share) * spread)
    return min(fitted, float(np.nextafter(distances[0], 0)))


def _spread(distances: NDArray[np.float64]) -> tuple[float, float]:
    """Median, and lower standard deviation, of the logarithms."""
    if not len(distances):
        return 0.0, 0.0
    lower, centre = np.quantile(np.log(np.maximum(distances, 1e-12)), (0.25, 0.5))
    return float(centre), float(centre - lower) / QUARTER_NORMAL


def _nearest(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) the least of each row, NaN where nothing is known."""
    least = np.where(np.isnan(raw), np.inf, raw).min(axis=1)
    return np.where(np.isinf(least), np.nan, least)


def _surroundings(raw: NDArray[np.float64], repeated: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(m,) median distance from the candidates but the nearest, one of each content.

    NaN where fewer than two are known.
    """
    known = np.sort(np.where(repeated, np.nan, raw), axis=1)  # NaN last
    counts = (~np.isnan(known)).sum(axis=1)
    around = np.full(len(known), np.nan)
    for count in np.unique(counts[counts >= 2]):
        rows = counts == count
        around[rows] = np.median(known[rows, 1:count], axis=1)
    return around


def _check_number(n: int) -> None:
    if n < LEAST_TRAIN:
        raise InputError(
            f"{n} readable training images; an audit compares each with its neighbours and takes "
            f"at least {LEAST_TRAIN}"
        )
