"""Near copies: which images of a set are copies of which training images, altered copies too.

Two spaces recall training images for an image and its mirror image, as preset `robust` does. The
image is aligned with each of them (`align`), and its distances are divided by its surroundings:
the median distance from all of them. A copy is far nearer to its source than to any other image;
an image that is similar to many is not. Carlini et al. (2023, Extracting Training Data from
Diffusion Models) and Lowe's ratio test (2004) use the same idea.

The threshold comes from training images (`calibration`). Each is compared with all other training
images, which shows how near images come that are no copies.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator import versions
from gmvaluator.arguments import real_number, whole_number
from gmvaluator.audit.align import DESIGN, PLACEMENTS, GreyPixels, aligned_distances, grey_pixels
from gmvaluator.audit.alterations import ALTERATIONS, altered_pixels
from gmvaluator.audit.calibration import (
    LEAST_TRAIN,
    AlteredDistances,
    Calibration,
    TrainDistances,
    calibrate,
    nearest_of,
    surroundings,
)
from gmvaluator.encoders.base import arithmetic_of
from gmvaluator.engine.trained import Trained
from gmvaluator.errors import InputError
from gmvaluator.files.store import KeptFile, Store, as_store
from gmvaluator.geometry import evenly_spread
from gmvaluator.images import READING_RULES, ImageSet, ImageSource, Skip
from gmvaluator.memory import once
from gmvaluator.progress import Advance, Progress, as_progress
from gmvaluator.shown import short_repr
from gmvaluator.valuator import GMValuator

__all__ = ["Calibration", "CopyFinder", "CopySettings", "Matches", "Pair"]

RECALLED = 200
RERANK_WEIGHTS = (1.0, 2.0)
ALTERED = 60  # training images that are altered on purpose, to learn which copies are found


@dataclass(frozen=True)
class CopySettings:
    """Settings of an audit.

    Attributes:
        false_alarms: largest share of innocent images that may be called copies, 0 … 0.5.
        candidates: number of training images that each image is aligned with.
        calibration: largest number of training images that the threshold is taken from.
        encoder, second_encoder: the two spaces for recall.
        threshold: largest distance of a copy, above 0; takes the place of `false_alarms`. None: the
            threshold follows from `false_alarms`.
    """

    false_alarms: float = 0.01
    candidates: int = 16
    calibration: int = 2_000
    encoder: str = "efficientnet-lite0"
    second_encoder: str = "pixels@14"
    threshold: float | None = None

    def __post_init__(self) -> None:
        _check_false_alarms(self.false_alarms)
        for name, least in (("candidates", 4), ("calibration", LEAST_TRAIN)):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least))
        wanted = "a distance above 0, such as 0.4 (0: the same image, 1: as far as usual)"
        if self.threshold is not None and not (
            0 < real_number("threshold", self.threshold, wanted) < math.inf
        ):
            raise InputError(f"threshold={self.threshold}; pass {wanted}")


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
        self._progress = _NamedStages(as_progress(progress))
        self._store = as_store(cache)
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
            null="off",
            k=self._k,
            candidates=min(RECALLED, n),
            cache=self._store or False,
            device=device,
            backend=backend,
            progress=self._progress,
        ).fit(self._images)
        fitted = self._valuator.fitted_
        if fitted is None:
            raise InputError("nothing was fitted; pass a training set")
        _check_number(len(fitted.train.ids))
        self.fitted: Trained = fitted
        self._pixels = GreyPixels(self._images, fitted.train.rows)

    @property
    @once
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
        return calibrate(self._train_distances, false_alarms, self.settings.threshold)

    def match(self, images: ImageSource) -> Matches:
        """The nearest training images of the readable images of a set.

        Args:
            images: any source of `ImageSet`.

        Raises:
            InputError: no image can be read.
        """
        compared = self._compare(ImageSet.open(images), "generated images with training images")
        candidates = compared.candidates[:, : self._k - 1]
        raw = compared.distances[:, : self._k - 1]
        around = surroundings(raw, self._repeated(candidates))
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

    @property
    @once
    def _train_distances(self) -> TrainDistances:
        """Training images compared with each other: from the cache, or now."""
        kept = None if self._store is None else self._store.calibration(self._description)
        distances = None if kept is None else _read(kept)
        if distances is None:
            distances = self._measure_train()
            if kept is not None:
                kept.write(distances.save)
        return distances

    @property
    @once
    def _description(self) -> dict[str, Any]:
        """What decides `_train_distances`; plain types."""
        train = self.fitted.train
        # the order and the names of the images do not matter
        contents = hashlib.sha256("".join(sorted(train.keys)).encode()).hexdigest()
        return {
            "calibration": "audit",
            "n": len(train.keys),
            "train": contents,
            "candidates": self._k,
            "images": self.settings.calibration,
            "recalled": RECALLED,
            "weights": RERANK_WEIGHTS,
            "encoders": [
                (space.encoder.fingerprint, arithmetic_of(space.encoder))
                for space in self.fitted.spaces
            ],
            "alignment": DESIGN,
            "alterations": [*ALTERATIONS, ALTERED],
            "reading": READING_RULES,
            "versions": versions.installed(("gmvaluator", "numpy", "torch", "pillow")),
        }

    def _measure_train(self) -> TrainDistances:
        spread = evenly_spread(len(self.fitted.train.ids), self.settings.calibration)
        # spread by content, so that the order of the training set does not matter
        sample = np.sort(self.fitted.order[spread])
        images = self._images.select(self.fitted.train.rows[sample])
        with self._progress.comparing("training images"):
            compared = self._compare(images, "training images with each other")
        raw = np.where(self._same(compared.candidates, sample), np.nan, compared.distances)
        around = surroundings(raw, self._repeated(compared.candidates))
        rank = np.argsort(self.fitted.order)[sample]
        chosen = np.argsort(rank)[evenly_spread(len(sample), ALTERED)]
        return TrainDistances(
            nearest=nearest_of(raw),
            around=around,
            altered=self._alter(sample[chosen], compared.candidates[chosen]),
        )

    def _alter(self, rows: NDArray[np.int64], candidates: NDArray[np.int64]) -> AlteredDistances:
        """Training images altered in every way of `ALTERATIONS`, and compared with themselves.

        Args:
            rows: (s,) training images.
            candidates: (s, k) of the unaltered images.
        """
        # the image itself is the nearest candidate, unless copies of it take all places
        candidates = np.column_stack([rows, candidates])
        same = self._same(candidates, rows)
        images = altered_pixels(self._images, self.fitted.train.rows[rows])
        ways, number = images.shape[:2]
        raw, _ = aligned_distances(
            images.reshape(-1, *images.shape[2:]),
            self._pixels,
            np.tile(candidates, (ways, 1)),
            progress=self._progress,
            stage="comparing altered training images with their sources",
        )
        distances = raw.astype(np.float64).reshape(ways, number, -1)
        own = np.stack([nearest_of(np.where(same, one, np.nan)) for one in distances])
        other = np.stack([nearest_of(np.where(same, np.nan, one)) for one in distances])
        repeated = self._repeated(candidates)
        around = np.stack([surroundings(one, repeated) for one in distances])
        return AlteredDistances(own, other, around)

    def _same(self, candidates: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(m, k) whether candidates have the content of m training images."""
        return np.asarray(self._contents[candidates] == self._contents[rows][:, None])

    def _compare(self, images: ImageSet, what: str) -> Matches:
        """Each image aligned with its candidates: plain distances, in the order of recall.

        Args:
            images: the images.
            what: what is compared with what, for the progress bar.
        """
        valuation = self._valuator.value(images)
        place_of = {name: row for row, name in enumerate(images.ids)}
        rows = np.array([place_of[name] for name in valuation.generated_ids], dtype=np.int64)
        candidates = valuation.contributions.rows
        distances, places = aligned_distances(
            grey_pixels(images, rows),
            self._pixels,
            candidates,
            progress=self._progress,
            stage=f"comparing {what}",
        )
        keys = valuation.generated_keys or ()
        skipped = tuple(skip for side, skip in valuation.skipped if side == "generated")
        return Matches(rows, keys, candidates, distances.astype(np.float64), places, skipped)

    @property
    @once
    def _contents(self) -> NDArray[np.int64]:
        """(n,) number of each training image's content."""
        _, contents = np.unique(self.fitted.train.keys, return_inverse=True)
        return np.asarray(contents, dtype=np.int64)

    def _repeated(self, candidates: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(m, k) whether an earlier candidate has the same content."""
        contents = self._contents[candidates]
        before = np.tri(candidates.shape[1], k=-1, dtype=bool)
        return np.asarray(((contents[:, :, None] == contents[:, None, :]) & before).any(axis=2))


def _check_false_alarms(false_alarms: float) -> None:
    wanted = "a share above 0 and below 0.5, such as 0.01"
    if not 0 < real_number("false_alarms", false_alarms, wanted) < 0.5:
        raise InputError(f"false_alarms={false_alarms}; pass {wanted}")


class _NamedStages:
    """Progress that names the images that are compared, where a stage is called `… generated`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._compared = "generated"

    @contextmanager
    def comparing(self, compared: str) -> Iterator[None]:
        """Call the compared images so in the stages of this block."""
        self._compared = compared
        try:
            yield
        finally:
            self._compared = "generated"

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        stem = name.removesuffix("generated")
        return self._progress.stage(name if stem == name else stem + self._compared, total)


def _check_number(n: int) -> None:
    if n < LEAST_TRAIN:
        raise InputError(
            f"{n} readable training images; an audit compares each with its neighbours and takes "
            f"at least {LEAST_TRAIN}"
        )


def _read(kept: KeptFile) -> TrainDistances | None:
    """Distances that are kept in the cache; None where there are none."""
    path = kept.check()
    if path is None:
        return None
    try:
        return TrainDistances.open(path)
    except OSError as error:
        kept.faults.report("read", error)
        return None
