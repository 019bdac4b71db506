"""Appendix I: the effect of the quality q_j when some generated images are of low quality.

Some generated images are noised. Without calibration, a noised image hands out as much as a good
image, partly to noised training images. With calibration it hands out little (Figures 8 and 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gmvaluator.certainty.tables import StudyResult
from gmvaluator.errors import InputError
from gmvaluator.evaluation.layout import table, titled_panels
from gmvaluator.evaluation.metrics import Interval, mean_interval
from gmvaluator.evaluation.planted.noise import SIGMA, NoisedSet, add_gaussian_noise
from gmvaluator.evaluation.studies.out_of_distribution import rank_noised
from gmvaluator.evaluation.study import (
    Context,
    Pieces,
    check_temperature,
    check_weighted,
    measure,
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


def check_share(share: float) -> None:
    """Raises `InputError` unless the share of noised images lies between 0 and 1."""
    if not 0 < share < 1:
        raise InputError(f"a share of {share} noised images; pass one between 0 and 1")


class MixedSubject(Subject):
    """The images of another subject. The last `share` of them is noised.

    Args:
        subject: the other subject.
        share: share of noised images, between 0 and 1.
        work: working folder that stores the mixed sets.
        size: side in pixels.
    """

    def __init__(
        self, subject: Subject, share: float, work: Workspace, *, size: int, sigma: float = SIGMA
    ) -> None:
        check_share(share)
        self.name, self.generator = subject.name, subject.generator
        self.classifiers = subject.classifiers
        self._subject = subject
        self._share = share
        self._work = work
        self._size = size
        self._sigma = sigma

    @property
    def fingerprint(self) -> str:
        return f"{self._subject.fingerprint}|{self._share}|{self._sigma}|{self._size}"

    def n_noised(self, m: int) -> int:
        """Number of noised images among m images. They are the last ones."""
        return max(1, round(self._share * m))

    def sample(self, m: int, seed: int) -> Sample:
        sample = self._subject.sample(m, seed)
        pixels = load_pixels(sample.images, self._size)
        spoilt = slice(m - self.n_noised(m), m)
        pixels[spoilt] = add_gaussian_noise(pixels[spoilt], self._sigma, seed)
        mixture = f"mixed-{self.name}-m{m}-noised{self.n_noised(m)}-seed{seed}.npz"
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
    """Scores of noised generated images with and without calibration.

    Args:
        context: its training set is `planted.images`. Its subjects are `mixed`.
        mixed: subjects whose images are noised in part.
        planted: the training set with noised images.
        k: number of contributors per generated image.
        name: name of the result.

    Raises:
        InputError: a valuer's scores are not weights times quality.
    """
    check_weighted(context, "quality")
    check_temperature(context)
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
    rows = (
        [
            subject,
            valuer,
            pieces.mean(valuer, subject, "quality_good"),
            pieces.mean(valuer, subject, "quality_low"),
            *(pieces.mean(valuer, subject, which, "auroc") for which in ("off", "on")),
            *(_part(pieces.results(valuer, subject), which, planted) for which in ("off", "on")),
        ]
        for subject, valuer in context.pairs
    )
    title = f"{context.train_name}, m = {context.m}, of them {n_noised} noised, k = {k}"
    return StudyResult(
        name=name,
        title="Calibration by image quality (Appendix I)",
        tables=(table(title, columns, rows),),
        parameters=context.parameters() | extra | {"k": k},
        notes=(
            "Off: every generated image hands out 1. On: it hands out its quality. AUROC that "
            "noised training images rank below clean ones. "
            "Trusted: quality is realism among images that were held out, all of them clean.",
        ),
        details=pieces.details(),
        plots={"quality": lambda figure: _draw(figure, context, pieces)},
    )


def _histogram(quality: Any) -> list[float]:
    counts, _ = np.histogram(quality, bins=BINS, range=(0, 1))
    return [float(count) for count in counts / max(1, counts.sum())]


def _part(results: Sequence[dict[str, Any]], which: str, planted: NoisedSet) -> Interval:
    """Part of all value that noised training images get."""
    n_noised, n = int(planted.noised.sum()), len(planted.noised)
    parts = []
    for result in results:
        noised = result[which]["mean_noised"] * n_noised
        clean = result[which]["mean_clean"] * (n - n_noised)
        parts.append(noised / (noised + clean))
    return mean_interval(parts)


def _draw(figure: Figure, context: Context, pieces: Pieces) -> None:
    """Distribution of the scores that good and noised generated images hand out, as in Figure 8."""
    ends = dict.fromkeys([context.valuers[0].name, context.valuers[-1].name])
    places = [(valuer, subject.name) for valuer in ends for subject in context.subjects]
    titles = [f"{subject}, {valuer}" for valuer, subject in places]
    axes = titled_panels(figure, titles, wide=len(context.subjects))
    for panel, place in zip(axes, places, strict=True):
        for kind, label in (("qualities_good", "good"), ("qualities_low", "noised")):
            shares = np.mean([result[kind] for result in pieces.results(*place)], axis=0)
            panel.stairs(shares, np.linspace(0, 1, BINS + 1), fill=True, alpha=0.5, label=label)
    figure.supxlabel("total score of a generated image", fontsize="medium")
    figure.supylabel("share of the generated images", fontsize="medium")
    axes[0].legend()
