"""Appendix I: what the quality q_j does when low-quality images are among the generated ones.

Noised copies of generated images are mixed in. Without calibration they hand out as much as good
images, partly to noised training images; with it they hand out little (Figures 8 and 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gmvaluator.errors import InputError
from gmvaluator.evaluation.metrics import Interval, mean_interval
from gmvaluator.evaluation.planted.noise import SIGMA, NoisedSet, add_gaussian_noise
from gmvaluator.evaluation.results import Cell, StudyResult, Table, grid
from gmvaluator.evaluation.studies.out_of_distribution import rank_noised
from gmvaluator.evaluation.study import (
    Context,
    Piece,
    check_weighted,
    measure,
    over_seeds,
    shares_of,
    values_of,
)
from gmvaluator.evaluation.subjects.subject import Sample, Subject
from gmvaluator.files.atomic import publish_file
from gmvaluator.files.pieces import Workspace
from gmvaluator.images import ImageSet
from gmvaluator.images.pixels import known_labels, load_pixels
from gmvaluator.runs.valuation import Valuation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 20


class MixedSubject:
    """Another subject's images, the last `share` of them noised.

    Args:
        subject: draws the images.
        share: of noised ones, between 0 and 1.
        work: keeps the mixed sets.
        size: side in pixels.
    """

    def __init__(
        self, subject: Subject, share: float, work: Workspace, *, size: int, sigma: float = SIGMA
    ) -> None:
        if not 0 < share < 1:
            raise InputError(f"a share of {share} noised images; pass one between 0 and 1")
        self._subject = subject
        self._share = share
        self._work = work
        self._size = size
        self._sigma = sigma

    @property
    def name(self) -> str:
        return self._subject.name

    @property
    def fingerprint(self) -> str:
        return f"{self._subject.fingerprint}|{self._share}|{self._sigma}|{self._size}"

    @property
    def generator(self) -> Path | None:
        return self._subject.generator

    @property
    def accuracy(self) -> float | None:
        return self._subject.accuracy

    def n_noised(self, m: int) -> int:
        """How many of m images are noised: the last ones."""
        return max(1, round(self._share * m))

    def sample(self, m: int, seed: int) -> Sample:
        sample = self._subject.sample(m, seed)
        pixels = load_pixels(sample.images, self._size)
        spoilt = slice(m - self.n_noised(m), m)
        pixels[spoilt] = add_gaussian_noise(pixels[spoilt], self._sigma, seed)
        mixture = f"mixed-{self._subject.name}-m{m}-noised{self.n_noised(m)}-seed{seed}.npz"
        file = self._work.path("sets", mixture)
        labels = known_labels(sample.images, "generated images").astype(str)
        with publish_file(file) as part, part.open("wb") as handle:
            np.savez_compressed(handle, images=pixels, labels=labels)
        return Sample(ImageSet.open(file), sample.legibility)


def calibration(
    context: Context,
    mixed: Sequence[MixedSubject],
    planted: NoisedSet,
    k: int = 50,
    *,
    name: str = "calibration",
) -> StudyResult:
    """Calibration on and off.

    Args:
        context: its training set is `planted.images`; its subjects are `mixed`.
        mixed: generated images with noised ones among them.
        planted: which training images are noised.
        k: contributors a generated image.
        name: of the result.

    Raises:
        InputError: a valuer whose scores are not weights times quality.
    """
    check_weighted(context, "quality")
    n_noised = mixed[0].n_noised(context.m)

    def measured(valuation: Valuation, sample: Sample) -> dict[str, Any]:
        weights = shares_of(valuation)
        calibrated = weights * valuation.quality[:, None]
        low = np.arange(len(weights)) >= len(weights) - n_noised
        return {
            "off": rank_noised(values_of(valuation, weights), planted.noised),
            "on": rank_noised(values_of(valuation, calibrated), planted.noised),
            "quality_good": float(valuation.quality[~low].mean()),
            "quality_low": float(valuation.quality[low].mean()),
            "qualities_good": _histogram(valuation.quality[~low]),
            "qualities_low": _histogram(valuation.quality[low]),
        }

    extra = {"planted": planted.tag, "noised_generated": n_noised}
    pieces = measure(context, "calibration", k, measured, extra=extra)
    return StudyResult(
        name=name,
        title="Calibration by image quality (Appendix I)",
        tables=(_table(context, pieces, k, n_noised, planted),),
        parameters=context.parameters() | extra | {"k": k},
        notes=(
            "Off: every generated image hands out 1. On: it hands out its quality. AUROC that "
            "noised training images rank below clean ones. "
            "Trusted: quality is realism among images that were held out, all of them clean.",
        ),
        details={"pieces": [vars(piece) for piece in pieces]},
        plots={"quality": lambda figure: _draw(figure, context, pieces)},
    )


def _histogram(quality: Any) -> list[float]:
    counts, _ = np.histogram(quality, bins=BINS, range=(0, 1))
    return [float(count) for count in counts / max(1, counts.sum())]


def _table(
    context: Context, pieces: Sequence[Piece], k: int, n_noised: int, planted: NoisedSet
) -> Table:
    rows: list[list[Cell]] = []
    for subject in context.subjects:
        for valuer in context.valuers:
            at = (valuer.name, subject.name)
            rows.append(
                [
                    subject.name,
                    valuer.name,
                    over_seeds(pieces, *at, "quality_good"),
                    over_seeds(pieces, *at, "quality_low"),
                    over_seeds(pieces, *at, "off", "auroc"),
                    over_seeds(pieces, *at, "on", "auroc"),
                    _part(pieces, at, "off", planted),
                    _part(pieces, at, "on", planted),
                ]
            )
    columns = (
        "images of",
        "valuer",
        "quality, good images",
        "quality, noised images",
        "AUROC off",
        "AUROC on",
        "part of all value to noised training images, off",
        "part on",
    )
    title = f"{context.train_name}, m = {context.m}, of them {n_noised} noised, k = {k}"
    return Table(title, columns, grid(rows))


def _part(pieces: Sequence[Piece], at: tuple[str, str], which: str, planted: NoisedSet) -> Interval:
    """Part of all value that noised training images get."""
    n_noised, n = int(planted.noised.sum()), len(planted.noised)
    parts = []
    for piece in pieces:
        if (piece.valuer, piece.subject) == at:
            noised = piece.result[which]["mean_noised"] * n_noised
            clean = piece.result[which]["mean_clean"] * (n - n_noised)
            parts.append(noised / (noised + clean))
    return mean_interval(parts)


def _draw(figure: Figure, context: Context, pieces: Sequence[Piece]) -> None:
    """Distribution of what a good and a noised generated image hand out, as in Figure 8."""
    valuers = list(dict.fromkeys([context.valuers[0].name, context.valuers[-1].name]))
    axes = figure.subplots(len(valuers), len(context.subjects), sharey=True, squeeze=False)
    edges = np.linspace(0, 1, BINS + 1)
    for row, valuer in zip(axes, valuers, strict=True):
        for panel, subject in zip(row, context.subjects, strict=True):
            own = [p.result for p in pieces if (p.valuer, p.subject) == (valuer, subject.name)]
            for kind, label in (("qualities_good", "good"), ("qualities_low", "noised")):
                panel.stairs(
                    np.mean([result[kind] for result in own], axis=0),
                    edges,
                    fill=True,
                    alpha=0.5,
                    label=label,
                )
            panel.set_title(f"{subject.name}, {valuer}")
        row[0].set_ylabel("share of the generated images")
    for panel in axes[-1]:
        panel.set_xlabel("total score of a generated image")
    axes[0, 0].legend()
