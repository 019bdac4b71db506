"""From contributors to contribution scores and values (Yang et al., ICLR 2025, Eq. 4 to 6)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError, either
from gmvaluator.matching.rerank import Contributors
from gmvaluator.scoring.weightings import Temperature, Weighting, weighting_named
from gmvaluator.scoring.weightings.softmax import AnyTemperature, check_temperature, spacing_share
from gmvaluator.shown import short_repr


@short_repr
@dataclass(frozen=True, eq=False)
class Contributions:
    """The sparse (m, n_train) score matrix: k entries per generated image, best first.

    Attributes:
        rows: (m, k) int64, row of the training image.
        distances: (m, k) float32, in the unit of the re-rank distance.
        scores: (m, k) float64, V(x_i, x̂_j); each row sums to the quality of the image, or to 0
            where the quality goes to no contributor.
        n_train: number of training images.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float32]
    scores: NDArray[np.float64]
    n_train: int

    def select(self, images: NDArray[np.int64] | slice) -> Contributions:
        """The contributions of these of the m generated images, in this order."""
        return replace(
            self,
            rows=self.rows[images],
            distances=self.distances[images],
            scores=self.scores[images],
        )

    def without(self, generated: NDArray[np.bool_]) -> Contributions:
        """The same scores, but 0 for the contributors of these of the m generated images."""
        return replace(self, scores=np.where(generated[:, None], 0.0, self.scores))


def check_weighting(weighting: str, temperature: AnyTemperature) -> Weighting:
    """The weighting of a name, once the temperature is known to go with the weighting.

    Raises:
        InputError: unknown weighting or temperature, or a temperature that takes no part.
    """
    named = weighting_named(weighting)
    check_temperature(temperature)
    if named.by_dimension and spacing_share(temperature) is not None:
        raise InputError(
            f"temperature {temperature} is a distance, and weighting {weighting} weighs ranks; "
            f"pass {either('temperature=0.7', '--temperature 0.7')} or another number, or "
            + either("weighting='softmax'", "--weighting softmax")
        )
    if not named.has_temperature and temperature != 1.0:
        raise InputError(
            f"temperature={temperature} has no part in weighting {weighting}; pass "
            f"{either('temperature=1.0, or take', '--temperature 1.0, or --weighting')} softmax"
        )
    return named


def contribute(
    contributors: Contributors,
    quality: NDArray[np.float64],
    weighting: str = "softmax",
    temperature: Temperature = 1.0,
) -> Contributions:
    """Contribution scores V(x_i, x̂_j) = q_j · w_ij of every contributor (Eq. 4 and 6).

    Args:
        contributors: k training images per generated image, (m, k).
        quality: (m,) q_j, 0 bad … 1 good.
        weighting: a name in `WEIGHTINGS`.
        temperature: τ > 0, in the unit of the distances, or `auto`: one τ per generated image.
            With `Weighting.by_dimension` τ divided by the dimension.

    Raises:
        InputError: unknown weighting, τ ≤ 0, or quality of another length or outside [0, 1].
    """
    named = check_weighting(weighting, temperature)
    if isinstance(temperature, str) and temperature != "auto":
        raise InputError(
            f"temperature {temperature} is learned from training images; pass the number that "
            "GMValuator records as temperature_used"
        )
    m = len(contributors.rows)
    if quality.shape != (m,):
        raise InputError(f"quality has shape {quality.shape} for {m} generated images; pass ({m},)")
    if not bool(np.all((quality >= 0) & (quality <= 1))):
        raise InputError("quality must lie between 0 (bad) and 1 (good); rescale what you pass")
    shares = named.shares(contributors, temperature)
    return best_first(
        Contributions(contributors.rows, contributors.distances, shares, contributors.n_train),
        quality,
    )


def reshared(
    recorded: Contributions,
    quality: NDArray[np.float64],
    weighting: str,
    before: Temperature,
    after: Temperature,
) -> Contributions:
    """Recorded contributions at another temperature of their weighting.

    Args:
        recorded: contributions of the weighting.
        quality: (m,) that the contributors share.
        weighting: a name in `WEIGHTINGS`, whose `reshared` is asked.
        before: temperature of the recorded scores, as `contribute` takes it.
        after: temperature wanted.
    """
    shares = weighting_named(weighting).reshared(recorded.distances, recorded.scores, before, after)
    return best_first(replace(recorded, scores=shares), quality)


def best_first(shared: Contributions, quality: NDArray[np.float64]) -> Contributions:
    """Contributions whose scores are shares, ordered by share and multiplied by (m,) quality."""
    order = np.argsort(-shared.scores, axis=1, kind="stable")
    return replace(
        shared,
        rows=np.take_along_axis(shared.rows, order, axis=1),
        distances=np.take_along_axis(shared.distances, order, axis=1),
        scores=np.take_along_axis(shared.scores, order, axis=1) * quality[:, None],
    )


def sum_values(contributions: Contributions) -> NDArray[np.float64]:
    """φ_i = Σ_j V(x_i, x̂_j), (n_train,) float64 (Eq. 5)."""
    # float64: a million small float32 shares drift in the third decimal
    values: NDArray[np.float64] = np.bincount(
        contributions.rows.ravel(),
        weights=contributions.scores.ravel(),
        minlength=contributions.n_train,
    ).astype(np.float64)
    return values
