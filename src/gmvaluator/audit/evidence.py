"""The evidence of an audit: pictures and differences of image pairs, written as pages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gmvaluator.audit.align import PLACEMENTS, laid_over
from gmvaluator.audit.calibration import Calibration
from gmvaluator.audit.near_copies import Pair
from gmvaluator.audit.pages import EvidenceData, PairCard, Sample, write_evidence_pages
from gmvaluator.errors import ImageError
from gmvaluator.images.decoding import encode_png
from gmvaluator.runs.folder import Run
from gmvaluator.runs.images import RunSide

PICTURE_SIDE = 160
NEAR_MISSES = 10  # pairs shown that are not quite copies, for comparison
DOUBTED = 50  # the same, where the calibration warns
UNSEEN = 128  # grey of pixels that the generated image does not cover


def write_evidence(
    run: Run, best: Sequence[Pair], calibration: Calibration, folder: Path, most: int
) -> list[Path]:
    """Write pages of the pairs called copies, nearest first, and of the nearest other pairs.

    Args:
        run: with its images.
        best: nearest training image of each audited generated image, nearest pair first.
        calibration: of the threshold.
        folder: folder of the pages. Pages of an earlier audit are removed.
        most: largest number of copies to show.

    Returns:
        The pages in their order.

    Raises:
        RunError: the pages cannot be written.
    """
    copies = [pair for pair in best if pair.is_copy]
    others = [pair for pair in best if not pair.is_copy]
    shown = DOUBTED if calibration.warnings else NEAR_MISSES
    data = EvidenceData(
        run=run.folder.resolve().name,
        seal=run.seal,
        n_audited=len(best),
        n_generated=len(run.generated.ids),
        n_train=len(run.train.ids),
        n_copies=len(copies),
        threshold=calibration.threshold,
        promise=calibration.stated,
        warnings=calibration.warnings,
        calibration=tuple(calibration.distances.tolist()),
        nearest=tuple(pair.distance for pair in best),
        copies=tuple(_card(run, pair) for pair in copies[:most]),
        others=tuple(_card(run, pair) for pair in others[:shown]),
    )
    return write_evidence_pages(data, folder)


def _card(run: Run, pair: Pair) -> PairCard:
    sides = ((run.generated, pair.generated), (run.train, pair.train))
    generated, train = (_sample(side, row) for side, row in sides)
    over, under = (_pixels(side, row) for side, row in sides)
    return PairCard(
        generated=generated,
        train=train,
        difference=None if over is None or under is None else _difference(over, under, pair.place),
        distance=pair.distance,
        placement=pair.placement,
    )


def _sample(side: RunSide, row: int) -> Sample:
    sha256 = None
    place = int(side.rows[row])
    if side.images is not None and place >= 0:
        try:
            sha256 = hashlib.sha256(side.images.read_bytes(place)).hexdigest()
        except ImageError:
            sha256 = None
    label = None if side.labels is None else side.labels[row]
    return Sample(side.ids[row], side.png(row, PICTURE_SIDE), sha256, label)


def _pixels(side: RunSide, row: int) -> NDArray[np.uint8] | None:
    place = int(side.rows[row])
    if side.images is None or place < 0:
        return None
    try:
        return side.images[place]
    except ImageError:
        return None


def _difference(generated: NDArray[np.uint8], train: NDArray[np.uint8], place: int) -> bytes:
    """PNG of |generated − train|, with the generated image in its best placement.

    Brightness and contrast are not adjusted. Pixels that the generated image does not cover are
    grey.
    """
    side = int(min(PICTURE_SIDE, max(*generated.shape[:2], *train.shape[:2])))
    # the first placement changes nothing
    under, _ = laid_over(train, PLACEMENTS[0], side)
    over, covered = laid_over(generated, PLACEMENTS[place], side)
    difference = np.abs(over.astype(np.int16) - under).astype(np.uint8)
    difference[~covered] = UNSEEN
    return encode_png(difference)
