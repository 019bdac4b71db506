"""The paper's weighting: the softmax of negative distances (Eq. 6)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gmvaluator.arguments import real_number
from gmvaluator.errors import InputError
from gmvaluator.matching.rerank import Contributors
from gmvaluator.scoring.weightings.base import Temperature, Weighting
from gmvaluator.scoring.weightings.shares import softmax

AnyTemperature = float | str
"""A temperature as a setting: a number, `auto`, `spacing` or `spacing/N`."""

SPACING_PARTS = 20
"""Temperature `spacing` is `spacing/20`: this part of the median distance of a training image to
the nearest other one.

An image that is nearer than unrelated images are then gets nearly all of the score. The part was
chosen on MNIST and CIFAR-10: `evaluate planted` measures owners' shares as well with half of the
part, and worse with twice the part.
"""
WANTED_TEMPERATURE = "a number above 0, auto, spacing or spacing/N, such as spacing/50"
# halvings of the bracket 1e-4 … 1e4 of each image's spread of distances: far below a digit of use
BISECTIONS = 50


class Softmax(Weighting):
    """w_ij = exp(−d_ij/τ) / Σ_{P_j} exp(−d/τ)."""

    name = "softmax"
    has_temperature = True
    nearer_never_less = True
    takes_nearest = True
    by_distance = True
    withdrawal = (
        "exact within the recorded contributors: Eq. 6 over those that remain, at the "
        "temperature recorded (with `auto`, each image keeps its own)"
    )

    def shares(self, contributors: Contributors, temperature: Temperature) -> NDArray[np.float64]:
        return softmax_weights(contributors.distances, temperature)

    def reshared(
        self,
        distances: NDArray[np.float32],
        scores: NDArray[np.float64],
        before: Temperature,
        after: Temperature,
    ) -> NDArray[np.float64]:
        del scores, before
        return softmax_weights(distances, after)


def softmax_weights(
    distances: NDArray[np.floating], temperature: Temperature
) -> NDArray[np.float64]:
    """Eq. 6 without q_j: exp(−d/τ) / Σ_{P_j} exp(−d/τ) along the last axis of (m, k).

    With temperature `auto` each generated image has its own τ; see `matched_temperatures`.
    """
    gaps = distances.astype(np.float64)
    gaps -= gaps.min(axis=1, keepdims=True)
    if temperature == "auto":
        return softmax(gaps, matched_temperatures(gaps, auto_perplexity(gaps.shape[1])))
    return softmax(gaps, np.full(len(gaps), temperature))


def auto_perplexity(k: int) -> float:
    """The perplexity of temperature `auto`: a third of the contributors.

    As t-SNE relates its perplexity to the number of neighbours (van der Maaten, 2014, JMLR 15,
    section 4.2), but 1 for a single contributor.
    """
    return 1 + (k - 1) / 3


def matched_temperatures(distances: NDArray[np.floating], perplexity: float) -> NDArray[np.float64]:
    """(m,) τ_j at which the softmax weights of each row have a perplexity.

    The perplexity exp(−Σ w·ln w), from 1 to k, is the number of contributors that would share as
    evenly. The perplexity grows with τ, so that bisection finds τ within 1e-4 to 1e4 of the row's
    spread of distances (Hinton & Roweis, 2002). Where more than `perplexity` contributors are
    equally near, τ is the smallest of these, and the equally near share alone. Where all
    contributors are equally near, τ is 1.

    Args:
        distances: (m, k), in any unit: weights depend on the spread of a row alone.
        perplexity: 1 to k.

    Raises:
        InputError: perplexity out of range.
    """
    k = distances.shape[1]
    if not 1 <= perplexity <= k:
        raise InputError(f"perplexity={perplexity} of {k} contributors; pass 1 to {k}")
    gaps = distances.astype(np.float64) - distances.min(axis=1, keepdims=True)
    spread = gaps.max(axis=1)
    spread[spread == 0] = 1.0
    low, high = np.full(len(gaps), -4 * np.log(10)), np.full(len(gaps), 4 * np.log(10))
    target = np.log(perplexity)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        sharper = _entropy(softmax(gaps, spread * np.exp(middle))) < target
        low, high = np.where(sharper, middle, low), np.where(sharper, high, middle)
    temperatures = spread * np.exp((low + high) / 2)
    return np.where(gaps.max(axis=1) == 0, 1.0, temperatures)


def spacing_share(temperature: AnyTemperature) -> float | None:
    """The part of the training images' spacing that a temperature is; None for other temperatures.

    Raises:
        InputError: the part cannot be read.
    """
    if not isinstance(temperature, str) or not temperature.startswith("spacing"):
        return None
    _, slash, parts = temperature.partition("/")
    try:
        number = float(parts) if slash else float(SPACING_PARTS)
        if temperature not in ("spacing", f"spacing/{parts}") or not 0 < number < np.inf:
            raise ValueError
    except ValueError:
        raise InputError(
            f"temperature {temperature!r} is unknown; pass {WANTED_TEMPERATURE}"
        ) from None
    return 1 / number


def check_temperature(temperature: AnyTemperature) -> AnyTemperature:
    """A temperature, a number of any library as a plain one.

    Raises:
        InputError: neither above 0, nor `auto`, nor `spacing`, nor `spacing/N`.
    """
    if isinstance(temperature, str):
        if temperature != "auto" and spacing_share(temperature) is None:
            raise InputError(f"temperature {temperature!r} is unknown; pass {WANTED_TEMPERATURE}")
        return temperature
    number = real_number("temperature", temperature, WANTED_TEMPERATURE)
    if not 0 < number < np.inf:
        raise InputError(f"temperature={temperature} is not positive; pass {WANTED_TEMPERATURE}")
    return number


def _entropy(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithms = np.log(weights, where=weights > 0, out=np.zeros_like(weights))
    return np.asarray(-(weights * logarithms).sum(axis=1), dtype=np.float64)
