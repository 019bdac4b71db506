"""Near copies: which images of a set are copies of which training images, altered copies too.

Two spaces recall training images for an image and its mirror image, as preset `robust` does. The
image is aligned with each of them (`align`), and its distances are divided by its surroundings:
the median distance from all of them. A copy is far nearer to its source than to any other image;
an image that is similar to many is not. Carlini et al. (2023, Extracting Training Data from
Diffusion Models) and Lowe's ratio test (2004) use the same idea.

The threshold comes from training images. Each is compared with all other training images, which
shows how near images come that are no copies.
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

from gmvaluator.arguments import real_number, whole_number
from gmvaluator.audit.align import PLACEMENTS, aligned_distances, grey_pixels
from gmvaluator.engine.trained import Trained
from gmvaluator.errors import InputError
from gmvaluator.files.store import Store
from gmvaluator.geometry import evenly_spread
from gmvaluator.images import ImageSet, ImageSource, Skip
from gmvaluator.progress import Progress, as_progress
from gmvaluator.shown import short_repr
from gmvaluator.valuator import GMValuator

__all__ = ["Calibration", "CopyFinder", "CopySettings", "Matches", "Pair", "calibrate"]

RECALLED = 200
RERANK_WEIGHTS = (1.0, 2.0)
FLOOR_SHARE = 0.5  # of the median surroundings, for an image that is near to all its candidates
FAR_OUT = 7.0  # lower standard deviations (of the logarithm) beyond which a neighbour is a copy
ROUNDS = 20
LEAST_TRAIN = 20  # fewest training images to calibrate on
QUARTER_NORMAL = 0.6745  # the normal distribution's quartile, in standard deviations


@dataclass(frozen=True)
class CopySettings:
    """Settings of an audit.

    Attributes:
        false_alarms: largest share of innocent images that may be called copies, 0 … 0.5.
        candidates: number of training images that each image is aligned with.
        calibration: largest number of training images that the threshold is taken from.
        encoder, second_encoder: the two spaces for recall.
    """

    false_alarms: float = 0.01
    candidates: int = 16
    calibration: int = 2_000
    encoder: str = "efficientnet-lite0"
    second_encoder: str = "pixels@14"

    def __post_init__(self) -> None:
        _check_false_alarms(self.false_alarms)
        for name, least in (("candidates", 4), ("calibration", LEAST_TRAIN)):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least))


@short_repr
@dataclass(frozen=True, eq=False)
class Calibration:
    """The threshold, and the distances that it was taken from.

    Attributes:
        threshold: largest distance of a copy.
        floor: smallest number that distances are divided by.
        distances: (c,) distance of training images from their nearest other one, ascending,
            without those that count as copies within the training set.
        left_out: number of training images that count as such copies.
        alone: number of training images whose candidates are all of equal content.
        method: `quantile` of the distances, or `log-normal`, an extrapolation from few distances.
        false_alarms: of the settings.
    """

    threshold: float
    floor: float
    distances: NDArray[np.float64]
    left_out: int
    alone: int
    method: str
    false_alarms: float

    def as_json(self) -> dict[str, Any]:
        """Plain types, with quantiles of the distances."""
        shares = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
        quantiles = np.quantile(self.distances, shares).tolist()
        return asdict(self) | {
            "images": len(self.distances),
            "distances": {f"{s:g}": q for s, q in zip(shares, quantiles, strict=True)},
            "stated": self.stated,
        }

    @property
    def stated(self) -> str:
        """The promise of the threshold and its condition, in words."""
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
        distance: in units of the generated image's surroundings; 0 equal, 1 usual.
        is_copy: whether the distance is within the threshold.
        placement: how the generated image lies over the training image, in words.
        place: place of the placement in `align.PLACEMENTS`.
        rank: 1 for the nearest training image.
    """

    generated: int
    train: int
    distance: float
    is_copy: bool
    placement: str
    place: int
    rank: int


@short_repr
@dataclass(frozen=True, eq=False)
class Matches:
    """The nearest training images of each image, nearest first.

    Attributes:
        rows: (m,) place of each image in its set, without images that cannot be read.
        keys: m content keys.
        candidates: (m, k) training images, by their row among the readable ones.
        distances: (m, k) float64, in units of the surroundings: 0 equal, 1 usual.
        places: (m, k) best placements, places in `align.PLACEMENTS`.
        skipped: images that cannot be read.
    """

    rows: NDArray[np.int64]
    keys: tuple[str, ...]
    candidates: NDArray[np.int64]
    distances: NDArray[np.float64]
    places: NDArray[np.int64]
    skipped: tuple[Skip, ...] = ()

    def pairs(self, threshold: float, set_rows: NDArray[np.int64]) -> Iterator[Pair]:
        """The nearest training image of each image, then the further ones within the threshold.

        Args:
            threshold: largest distance of a copy.
            set_rows: row in the run of each image of the matched set.
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
    """Finds copies of the images of one training set.

    Args:
        train: any source of `ImageSet`, at least 20 readable images.
        settings: of the audit.
        cache, device, backend, progress: as for `GMValuator`.

    Raises:
        InputError: too few training images.
        ImageError: a training image can no longer be read.
    """

    def __init__(
        self,
        train: ImageSource,
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
        # one candidate more, because a training image finds itself
        self._k = min(self.settings.candidates, n - 1) + 1
        # as preset robust: two spaces, mirror images; the weights order the candidates
        spaces = (self.settings.encoder, self.settings.second_encoder)
        self._valuator = GMValuator(
            encoder=spaces[0],
            second_encoder=spaces[1],
            rerank=dict(zip(spaces, RERANK_WEIGHTS, strict=True)),
            mirror=True,
            # the audit names every copy
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
        """The threshold of the settings. The first access compares training images.

        Raises:
            InputError: too few training images have neighbours that are no copies of them.
        """
        return self.calibration_at(self.settings.false_alarms)

    def calibration_at(self, false_alarms: float) -> Calibration:
        """The threshold for another share of false alarms, without comparing images again.

        Raises:
            InputError: a share that is not above 0 and below 0.5.
        """
        _check_false_alarms(false_alarms)
        return calibrate(*self._train_distances, false_alarms)

    def match(self, images: ImageSource) -> Matches:
        """The nearest training images of the readable images of a set.

        Args:
            images: any source of `ImageSet`.

        Raises:
            InputError: no image can be read.
        """
        compared = self._compare(ImageSet.open(images), "generated")
        candidates = compared.candidates[:, : self._k - 1]
        raw = compared.distances[:, : self._k - 1]
        around = _surroundings(raw, self._repeated(candidates))
        relative = raw / np.fmax(around, self.calibration.floor)[:, None]
        order = np.lexsort((candidates, relative), axis=1)
        return Matches(
            rows=compared.rows,
            keys=compared.keys,
            candidates=np.take_along_axis(candidates, order, axis=1),
            distances=np.take_along_axis(relative, order, axis=1),
            places=np.take_along_axis(compared.places, order, axis=1),
            skipped=compared.skipped,
        )

    @cached_property
    def _train_distances(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(c,) distance of training images from the nearest other one, and (c,) surroundings."""
        spread = evenly_spread(len(self.fitted.train.ids), self.settings.calibration)
        # spread by content, so that the order of the training set does not matter
        sample = np.sort(self.fitted.order[spread])
        images = self._images.select(self.fitted.train.rows[sample])
        compared = self._compare(images, "calibration")
        same = self._contents[compared.candidates] == self._contents[sample][:, None]
        raw = np.where(same, np.nan, compared.distances)
        return _nearest(raw), _surroundings(raw, self._repeated(compared.candidates))

    def _compare(self, images: ImageSet, stage: str) -> Matches:
        """Each image aligned with its candidates: plain distances, in the order of recall."""
        valuation = self._valuator.value(images)
        place_of = {name: row for row, name in enumerate(images.ids)}
        rows = np.array([place_of[name] for name in valuation.generated_ids], dtype=np.int64)
        candidates = valuation.contributions.rows
        distances, places = aligned_distances(
            grey_pixels(images, rows),
            self._pixels,
            candidates,
            progress=self._progress,
            stage=f"lay over ({stage})",
        )
        keys = valuation.generated_keys or ()
        skipped = tuple(skip for side, skip in valuation.skipped if side == "generated")
        return Matches(rows, keys, candidates, distances.astype(np.float64), places, skipped)

    @cached_property
    def _contents(self) -> NDArray[np.int64]:
        """(n,) number of each training image's content."""
        _, contents = np.unique(self.fitted.train.keys, return_inverse=True)
        return np.asarray(contents, dtype=np.int64)

    def _repeated(self, candidates: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(m, k) whether an earlier candidate has the same content."""
        contents = self._contents[candidates]
        before = np.tri(candidates.shape[1], k=-1, dtype=bool)
        return np.asarray(((contents[:, :, None] == contents[:, None, :]) & before).any(axis=2))


def calibrate(
    nearest: NDArray[np.float64], around: NDArray[np.float64], false_alarms: float
) -> Calibration:
    """A threshold from the distances between training images.

    Real training sets hold copies of their own images, whose distances say nothing about innocent
    images. Distances more than `FAR_OUT` lower standard deviations below the median are therefore
    left out, repeatedly until none is left. The deviation comes from the median and the lower
    quartile of the logarithms, so that up to a quarter of copies does not hide them.

    Args:
        nearest: (c,) distance of each training image from its nearest other one; NaN if all its
            candidates have its own content.
        around: (c,) its surroundings, or NaN.
        false_alarms: largest share of innocent images that may be called copies.

    Raises:
        InputError: fewer than `LEAST_TRAIN` distances are left.
    """
    measured = np.isfinite(nearest) & np.isfinite(around) & (around > 0)
    alone = int((~measured).sum())
    floor = FLOOR_SHARE * float(np.median(around[measured])) if measured.any() else 0.0
    relative = nearest[measured] / np.maximum(around[measured], floor)
    distances = np.sort(relative)
    for _ in range(ROUNDS):
        centre, spread = _spread(distances)
        within = distances[np.searchsorted(distances, math.exp(centre - FAR_OUT * spread)) :]
        if len(within) == len(distances):
            break
        distances = within
    if len(distances) < LEAST_TRAIN:
        raise InputError(
            f"{len(distances)} of {len(nearest)} training images have neighbours that are no "
            f"copies of them; a threshold takes at least {LEAST_TRAIN}: pass more training images, "
            "without their copies"
        )
    place = math.floor(false_alarms * (len(distances) + 1))
    return Calibration(
        # one more image of the same kind is as near as the i-th of c with probability i / (c + 1)
        threshold=float(distances[place - 1]) if place else _below_all(distances, false_alarms),
        floor=floor,
        distances=distances,
        left_out=len(relative) - len(distances),
        alone=alone,
        method="quantile" if place else "log-normal",
        false_alarms=false_alarms,
    )


def _below_all(distances: NDArray[np.float64], share: float) -> float:
    """Quantile of a log-normal distribution fitted to `distances`, below the first of them."""
    from statistics import NormalDist

    centre, spread = _spread(distances)
    fitted = math.exp(centre + NormalDist().inv_cdf(share) * spread)
    return min(fitted, float(np.nextafter(distances[0], 0)))


def _spread(distances: NDArray[np.float64]) -> tuple[float, float]:
    """Median and lower standard deviation of the logarithms."""
    if not len(distances):
        return 0.0, 0.0
    lower, centre = np.quantile(np.log(np.maximum(distances, 1e-12)), (0.25, 0.5))
    return float(centre), float(centre - lower) / QUARTER_NORMAL


def _nearest(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) least number of each row; NaN if all are NaN."""
    least = np.where(np.isnan(raw), np.inf, raw).min(axis=1)
    return np.where(np.isinf(least), np.nan, least)


def _surroundings(raw: NDArray[np.float64], repeated: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(m,) median distance from all candidates but the nearest one; each content counts once.

    NaN with fewer than two known distances.
    """
    ascending = np.sort(np.where(repeated, np.nan, raw), axis=1)  # NaN last
    counts = (~np.isnan(ascending)).sum(axis=1)
    around = np.full(len(ascending), np.nan)
    for count in np.unique(counts[counts >= 2]):
        rows = counts == count
        around[rows] = np.median(ascending[rows, 1:count], axis=1)
    return around


def _check_false_alarms(false_alarms: float) -> None:
    wanted = "a share above 0 and below 0.5, such as 0.01"
    if not 0 < real_number("false_alarms", false_alarms, wanted) < 0.5:
        raise InputError(f"false_alarms={false_alarms}; pass {wanted}")


def _check_number(n: int) -> None:
    if n < LEAST_TRAIN:
        raise InputError(
            f"{n} readable training images; an audit compares each with its neighbours and takes "
            f"at least {LEAST_TRAIN}"
        )
