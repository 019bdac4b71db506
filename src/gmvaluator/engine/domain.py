"""How far images lie beyond the domain of the training images, seen as small pictures.

Two Gaussian models know the training images. One is of their pictures of 14 × 14 pixels, the other
of the steps in these pictures: the differences of neighbouring pixels without their places, sorted
by size. An image has two readings: M, its picture's squared Mahalanobis distance to the first
model, and M · √(1 + S), where S is that of its steps to the second. Each is divided by what a
fiftieth of the training images exceed, and the larger one is the strangeness of the image.

Pictures of another domain, such as coloured noise among photographs, vary in directions in which
training images do not: M is large. Digits among photographs do not, but have many steps of nothing
and some of full height: S is so large that the product is. Icons are a little unlike in both ways.

A generator's blur must not be strange, as it is to features of a network, which see it first: real
images do not have it. A blurred image is nearer to the mean picture than a sharp one, which M does
not mind. Its steps are unlike, but weak: where the mean square of the steps is below that of the
usual training image, S counts for that part only.

To invert a covariance, a part of the mean variance is added on its diagonal (Ledoit & Wolf, 2004).
A twentieth of the training images, those that are strangest to a first model, is left out of a
model: noise that slipped into the training set would make noise look usual.

The models are fitted without the images of the null sample, so that an image of the training set's
kind is exchangeable with them (`gmvaluator.scoring.conformal`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.embedding import Tally
from gmvaluator.engine.context import Context
from gmvaluator.engine.trained import Trained
from gmvaluator.errors import InputError, either
from gmvaluator.geometry import Space, Vectors, blocks, row_products
from gmvaluator.matching.placed import PlacedSet, place_images
from gmvaluator.scoring.conformal import null_size
from gmvaluator.shown import short_repr

MOST_FITTED = 5_000
"""Training images that the models are fitted to at most."""
PICTURE_SHRINKAGE = 0.01
"""Part of the mean variance that the model of pictures adds. A smaller one calls more of a weak
generator's pictures strange, a larger one misses more pictures of other domains; no benchmark of
the repository measures either yet."""
STEP_SHRINKAGE = 0.1
"""The same of the model of steps. A smaller one calls more blurred digits strange."""
JOINED_STEPS = 28
"""Steps of successive size that are known by their mean."""
TRIMMED = 0.05
"""Part of the training images that a model leaves out: the strangest to a model of all."""
LEAST_FITTED = 2
LEAST_DIFFERENT = LEAST_FITTED + 1
"""Different training images that have a domain: one of them is held back."""
RARE = 0.02
"""Part of the training images whose readings exceed 1."""


@short_repr
@dataclass(frozen=True, eq=False)
class Gaussian:
    """A Gaussian model of vectors.

    Attributes:
        mean: (d,) float64.
        precision: (d, d) float64, the inverse of the shrunk covariance.
    """

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]

    @staticmethod
    def fit(vectors: Vectors, shrinkage: float) -> Gaussian:
        """The model of (n, d) vectors, at least two, without the strangest.

        Args:
            shrinkage: part of the mean variance that is added to each variance.
        """
        model = Gaussian.of_all(vectors, shrinkage)
        distances = model.distances(vectors)
        usual = distances <= np.quantile(distances, 1 - TRIMMED)
        return Gaussian.of_all(vectors[usual], shrinkage) if usual.sum() >= LEAST_FITTED else model

    @staticmethod
    def of_all(vectors: Vectors, shrinkage: float) -> Gaussian:
        """The same, with the strangest."""
        mean = vectors.mean(axis=0, dtype=np.float64)
        centred = vectors - mean
        covariance = centred.T @ centred / (len(vectors) - 1)
        variance = float(np.trace(covariance)) / len(covariance)
        # vectors that are all equal: any direction is as strange
        covariance[np.diag_indices_from(covariance)] += shrinkage * variance or 1.0
        return Gaussian(mean, np.linalg.inv(covariance))

    def distances(self, vectors: Vectors) -> NDArray[np.float64]:
        """(m,) squared Mahalanobis distances of (m, d) vectors."""
        centred = vectors - self.mean
        return np.asarray(np.einsum("ij,ij->i", row_products(centred, self.precision), centred))


@short_repr
@dataclass(frozen=True, eq=False)
class Domain:
    """What small pictures of the training set look like.

    Attributes:
        pictures: the model of pictures.
        steps: the model of their steps.
        energy: the mean square of the steps of the usual training image.
        rare: (2,) the readings that a fiftieth of the fitted images exceed.
        held_back: (N,) strangeness of the training images that the models were not fitted to.
        usual: median squared distance of their pictures.
    """

    pictures: Gaussian
    steps: Gaussian
    energy: float
    rare: NDArray[np.float64]
    held_back: NDArray[np.float64]
    usual: float

    @staticmethod
    def fit(fitted: Vectors, held_back: Vectors) -> Domain:
        """The domain of (n, d) pictures, at least two, and what (N, d) others are like in it."""
        steps = sorted_steps(fitted)
        domain = Domain(
            pictures=Gaussian.fit(fitted, PICTURE_SHRINKAGE),
            steps=Gaussian.fit(steps, STEP_SHRINKAGE),
            energy=float(np.median(_energies(steps))),
            rare=np.ones(2),
            held_back=np.empty(0),
            usual=0.0,
        )
        rare = np.quantile(domain.readings(fitted), 1 - RARE, axis=1)
        # pictures that are all equal have no distances to divide by
        domain = replace(domain, rare=np.where(rare > 0, rare, 1.0))
        return replace(
            domain,
            held_back=domain.strangeness(held_back),
            usual=float(np.median(domain.pictures.distances(held_back))),
        )

    def strangeness(self, pictures: Vectors) -> NDArray[np.float64]:
        """(m,) strangeness of (m, d) pictures: 1 where it is that of a rare training image."""
        return np.asarray((self.readings(pictures) / self.rare[:, None]).max(axis=0))

    def readings(self, pictures: Vectors) -> NDArray[np.float64]:
        """(2, m) M and M · √(1 + S) of (m, d) pictures."""
        readings = np.empty((2, len(pictures)))
        # four numbers of 8 bytes for each number of a picture: two steps and what holds them
        for part in blocks(len(pictures), 32 * pictures.shape[1]):
            steps = sorted_steps(pictures[part])
            sharp = _energies(steps) / self.energy if self.energy > 0 else np.ones(len(steps))
            readings[:, part] = self.pictures.distances(pictures[part])
            readings[1, part] *= np.sqrt(1 + np.minimum(1, sharp) * self.steps.distances(steps))
        return readings


def _energies(steps: Vectors) -> NDArray[np.float64]:
    """(m,) mean squares of (m, s) steps."""
    return np.asarray(np.einsum("ij,ij->i", steps, steps, dtype=np.float64) / steps.shape[1])


def sorted_steps(pictures: Vectors) -> Vectors:
    """(m, s) float32, the differences of neighbouring pixels, from small to large.

    Each number is the mean of `JOINED_STEPS` differences of successive size. What is left over are
    the smallest, which most pictures have alike.

    Args:
        pictures: (m, d), square, of three channels one after the other.
    """
    m, d = pictures.shape
    side = round((d / 3) ** 0.5)
    square = pictures.reshape(m, 3, side, side)
    across, down = (np.abs(np.diff(square, axis=axis)).reshape(m, -1) for axis in (3, 2))
    steps = np.sort(np.concatenate([across, down], axis=1), axis=1)
    joined = min(JOINED_STEPS, steps.shape[1])
    whole = steps[:, steps.shape[1] % joined :]
    return np.asarray(whole.reshape(m, -1, joined).mean(axis=2), dtype=np.float32)


def domain_of(context: Context, trained: Trained) -> Domain | None:
    """The domain of the training images, learned once; see `learned_domain`."""
    key = ("domain", context.settings.null_level)
    # what is kept for later valuations is not counted for the first of them
    return trained.memo.get(key, lambda: learned_domain(context, trained.counting(Tally())))


def learned_domain(context: Context, trained: Trained) -> Domain | None:
    """The domain of the training images; None where they are too few to hold some back.

    Which images are held back is decided by content, not by how the set is listed.

    Raises:
        InputError, ImageError: an image that the models read is not at hand or cannot be read.
        RunError: a training image has changed since it was embedded.
    """
    held_back = min(null_size(context.settings.null_level), len(trained.order) // 2)
    sample = trained.order[: held_back + MOST_FITTED]
    if not held_back or len(sample) - held_back < LEAST_FITTED:
        return None
    # in the order by content, so that sums round alike however the set is listed
    pictures = small_pictures(context, trained.placed.select(sample))
    return Domain.fit(pictures[held_back:], pictures[:held_back])


def distances_to_domain(
    context: Context, trained: Trained, batch: PlacedSet
) -> tuple[NDArray[np.float64], float]:
    """(m,) squared distances M of images, and the median M of the training images held back.

    Raises:
        InputError: too few training images to hold some back.
    """
    domain = domain_of(context, trained)
    if domain is None:
        raise InputError(
            "quality 'domain' learns what is usual and needs at least "
            f"{LEAST_DIFFERENT} different training images, not {len(trained.order)}; pass "
            + either("quality='none'", "--quality none")
        )
    return domain.pictures.distances(small_pictures(context, batch)), domain.usual


def with_small_pictures(context: Context, placed: PlacedSet) -> PlacedSet:
    """The same set with its small pictures at hand, where the settings look at them."""
    if context.domain is None or context.domain.fingerprint in placed.vectors:
        return placed
    pictures = small_pictures(context, placed)
    return replace(placed, vectors={**placed.vectors, context.domain.fingerprint: pictures})


def small_pictures(context: Context, placed: PlacedSet) -> Vectors:
    """(n, d) float32, the images of a set as small pictures: at hand, or decoded now."""
    encoder = domain_encoder(context)
    plain = {name: vectors[: len(placed.rows)] for name, vectors in placed.vectors.items()}
    images = replace(placed, vectors=plain, mirrored=False)
    return place_images(encoder, Space(encoder.metric), images, context.budget, context.progress)


def domain_encoder(context: Context) -> Encoder:
    """The encoder of small pictures."""
    if context.domain is None:
        raise ValueError("the context has no encoder of small pictures; see GMValuator._context")
    return context.domain
