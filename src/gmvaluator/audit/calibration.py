"""The calibration of an audit: distances of training images go in, the threshold comes out.

The distances are measured once (`near_copies`) and kept in the cache. A calibration also says what
its threshold finds: of training images that were altered on purpose, and of images that are no
copies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.audit.alterations import ALTERATIONS
from gmvaluator.errors import InputError
from gmvaluator.memory import once
from gmvaluator.shown import short_repr

FLOOR_SHARE = 0.5  # of the median surroundings, for an image that is near to all its candidates
FAR_OUT = 7.0  # lower standard deviations (of the logarithm) beyond which a neighbour is a copy
ROUNDS = 20
LEAST_TRAIN = 20  # fewest training images to calibrate on
QUARTER_NORMAL = 0.6745  # the normal distribution's quartile, in standard deviations
LEAST_FOUND = 0.8  # part of the altered training images; with less the audit warns
WANTED_FOUND = 0.9  # part of the altered training images that a proposed threshold finds
MOST_LEFT_OUT = 0.02  # part of the training images; with more the audit warns


@short_repr
@dataclass(frozen=True, eq=False)
class AlteredDistances:
    """Training images that were altered on purpose, compared with training images.

    Attributes:
        own: (a, s) float64, distance to the image itself: a alterations of s images.
        other: (a, s) to the nearest other one; NaN where there is none.
        around: (a, s) surroundings, or NaN.
    """

    own: NDArray[np.float64]
    other: NDArray[np.float64]
    around: NDArray[np.float64]


@short_repr
@dataclass(frozen=True, eq=False)
class TrainDistances:
    """Distances between training images, in plain units.

    Attributes:
        nearest: (c,) float64, from each training image to the nearest other one; NaN if all its
            candidates have its own content.
        around: (c,) its surroundings, or NaN.
        altered: distances of altered training images.
    """

    nearest: NDArray[np.float64]
    around: NDArray[np.float64]
    altered: AlteredDistances

    def save(self, file: Path) -> None:
        """Write all arrays; `open` reads them."""
        arrays = {field.name: getattr(self.altered, field.name) for field in fields(self.altered)}
        with file.open("wb") as stream:
            np.savez(stream, nearest=self.nearest, around_each=self.around, **arrays)

    @staticmethod
    def open(file: Path) -> TrainDistances:
        """Read what `save` wrote.

        Raises:
            OSError: the file cannot be read.
        """
        with np.load(file, allow_pickle=False) as kept:
            altered = AlteredDistances(kept["own"], kept["other"], kept["around"])
            return TrainDistances(kept["nearest"], kept["around_each"], altered)


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
        method: `quantile` of the distances; `log-normal`, an extrapolation from few distances; or
            `given` by the user.
        false_alarms: of the settings.
        altered: (a, s) distance of altered training images from their source, for each way of
            `ALTERATIONS`.
        source_nearest: part of these images that are nearer to their source than to any other
            training image.
    """

    threshold: float
    floor: float
    distances: NDArray[np.float64]
    left_out: int
    alone: int
    method: str
    false_alarms: float
    altered: NDArray[np.float64]
    source_nearest: float

    def as_json(self) -> dict[str, Any]:
        """Plain types, with quantiles of the distances."""
        shares = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
        quantiles = np.quantile(self.distances, shares).tolist()
        return {
            "threshold": self.threshold,
            "floor": self.floor,
            "distances": {f"{s:g}": q for s, q in zip(shares, quantiles, strict=True)},
            "left_out": self.left_out,
            "alone": self.alone,
            "method": self.method,
            "false_alarms": self.false_alarms,
            "images": len(self.distances),
            "altered": self.altered.shape[1],
            "found": self.found,
            "source_nearest": self.source_nearest,
            "stated": self.stated,
        }

    @property
    def found(self) -> dict[str, float]:
        """Part of the altered training images within the threshold, by alteration."""
        shares = (self.altered <= self.threshold).mean(axis=1).tolist()
        return dict(zip(ALTERATIONS, shares, strict=True))

    def alarms(self, threshold: float) -> float:
        """Part of the training images whose nearest other one lies within a threshold.

        Those that count as copies within the training set are left out.
        """
        return float((self.distances <= threshold).mean())

    @property
    def stated(self) -> str:
        """The promise of the threshold and its condition, in words."""
        n = f"{len(self.distances):,}"
        promise = (
            f"At most {100 * self.false_alarms:g} % of images that are no copies are called "
            "copies, where these are like the training images"
        )
        if self.method == "given":
            text = (
                f"The threshold {self.threshold:g} was given. Of {n} training images "
                f"{_percent(self.alarms(self.threshold))} have another one within it, and about "
                "as many images that are no copies are called copies, where these are like the "
                "training images."
            )
        elif self.method == "quantile":
            text = (
                f"{promise}, by the quantile of the distances of {n} training images from their "
                "nearest other one."
            )
        else:
            needed = math.ceil(1 / self.false_alarms) - 1
            text = (
                f"{promise}. This is an extrapolation: {n} training images are too few to see how "
                f"near the nearest {100 * self.false_alarms:g} % of such images come ({needed:,} "
                "are enough). The threshold is that of a log-normal distribution, fitted to the "
                "distances of the training images from their nearest other one."
            )
        if not self.left_out:
            return text
        return (
            f"{text} {self.left_out:,} more, whose nearest other one is far nearer than usual, "
            f"were taken for copies within the training set and left out; were they none, up to "
            f"{100 * self._left_out_share:.2g} % more innocent images would be called copies."
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What keeps the threshold from being of use on this training set, in words."""
        return tuple(filter(None, (self._missed, self._twins, self._few)))

    @property
    @once
    def proposed(self) -> float:
        """A threshold that finds nine in ten training images altered in any of the ways."""
        return float(np.quantile(self.altered, WANTED_FOUND, axis=1, method="higher").max())

    @property
    def _left_out_share(self) -> float:
        return self.left_out / (self.left_out + len(self.distances))

    @property
    def _missed(self) -> str | None:
        if min(self.found.values()) >= LEAST_FOUND:
            return None
        n = self.altered.shape[1]
        listed = ", ".join(f"{share * n:.0f} {way}" for way, share in self.found.items())
        # rounded up, so that the number as it is written finds as many
        wider = math.ceil(1000 * self.proposed) / 1000
        cause = (
            ""
            if self.method == "given"
            else "The training set has different images that are nearly alike, and their distances "
            "set the threshold. "
        )
        return (
            f"The threshold {self.threshold:.3f} misses copies. {n} training images were altered "
            f"on purpose in each of {len(self.found)} ways; the audit finds {listed}. {cause}Look "
            "at the nearest pairs as well, although they are not called copies: "
            f"{_percent(self.source_nearest)} of the altered images are nearest to their source. "
            f"With --threshold {wider:.3f} the audit finds nine in ten of them, and takes "
            f"{_percent(self.alarms(wider))} of the images that are no copies for copies."
        )

    @property
    def _twins(self) -> str | None:
        share = self._left_out_share
        if share <= max(self.false_alarms, MOST_LEFT_OUT):
            return None
        return (
            f"Of {self.left_out + len(self.distances):,} training images {self.left_out:,} "
            f"({_percent(share)}) count as copies of another training image. If they are "
            "different images that are nearly alike, such as drawings of one shape, then the audit "
            f"calls new images of that kind copies too: more than {100 * self.false_alarms:g} % of "
            "images that are no copies. Look at the pairs before you rely on their number."
        )

    @property
    def _few(self) -> str | None:
        if self.method != "log-normal":
            return None
        return (
            f"The threshold is an extrapolation from {len(self.distances):,} training images. "
            f"More than {100 * self.false_alarms:g} % of images that are no copies may be called "
            "copies."
        )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def calibrate(
    measured: TrainDistances, false_alarms: float, threshold: float | None = None
) -> Calibration:
    """A threshold from the distances between training images.

    Real training sets hold copies of their own images, whose distances say nothing about innocent
    images. Distances more than `FAR_OUT` lower standard deviations below the median are therefore
    left out, repeatedly until none is left. The deviation comes from the median and the lower
    quartile of the logarithms, so that up to a quarter of copies does not hide them.

    Args:
        measured: distances of the training images.
        false_alarms: largest share of innocent images that may be called copies.
        threshold: the threshold, if the user has one. Otherwise the distances give it.

    Raises:
        InputError: fewer than `LEAST_TRAIN` distances are left.
    """
    nearest, around = measured.nearest, measured.around
    known = np.isfinite(nearest) & np.isfinite(around) & (around > 0)
    alone = int((~known).sum())
    floor = FLOOR_SHARE * float(np.median(around[known])) if known.any() else 0.0
    relative = nearest[known] / np.maximum(around[known], floor)
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
    if threshold is not None:
        method = "given"
    elif place:
        # one more image of the same kind is as near as the i-th of c with probability i / (c + 1)
        threshold, method = float(distances[place - 1]), "quantile"
    else:
        threshold, method = _below_all(distances, false_alarms), "log-normal"
    altered = measured.altered
    return Calibration(
        threshold=threshold,
        floor=floor,
        distances=distances,
        left_out=len(relative) - len(distances),
        alone=alone,
        method=method,
        false_alarms=false_alarms,
        altered=altered.own / np.fmax(altered.around, floor),
        # also where there is no other one
        source_nearest=float((~(altered.own > altered.other)).mean()),
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


def nearest_of(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) least number of each row; NaN if all are NaN."""
    least = np.where(np.isnan(raw), np.inf, raw).min(axis=1)
    return np.where(np.isinf(least), np.nan, least)


def surroundings(raw: NDArray[np.float64], repeated: NDArray[np.bool_]) -> NDArray[np.float64]:
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
