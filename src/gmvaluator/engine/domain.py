"""How far images lie beyond the domain of the training images, seen as small pictures.

The strangeness of an image x of 14 × 14 pixels is (x − μ)ᵀ (Σ + ε·I)⁻¹ (x − μ): the squared
Mahalanobis distance to the training images, whose mean is μ and whose covariance is Σ, with ε a
hundredth of the mean variance (Ledoit & Wolf, 2004, shrink a covariance so). Images of another
domain, such as icons or noise among photographs, differ from the mean in directions in which
training images do not vary. A generator's blur does not: a blurred image is nearer to the mean than
a sharp one. Features of a network see the blur first, which real images do not have.

A twentieth of the training images, those that are strangest to a first model, is left out of the
model: noise that slipped into the training set would make noise look usual.

The model is fitted without the images of the null sample, so that an image of the training set's
kind is exchangeable with them (`gmvaluator.scoring.conformal`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.base import Encoder
from gmvaluator.engine.context import Context
from gmvaluator.engine.trained import Trained
from gmvaluator.errors import InputError
from gmvaluator.geometry import Space, Vectors
from gmvaluator.matching.placed import PlacedSet, place_images
from gmvaluator.scoring.conformal import null_size
from gmvaluator.shown import short_repr

MOST_FITTED = 5_000
"""Training images that the model is fitted to at most."""
SHRINKAGE = 0.01
"""ε in mean variances. A smaller ε calls more of a weak generator's pictures strange, a larger one
misses more pictures of other domains; no benchmark of the repository measures either yet."""
TRIMMED = 0.05
"""Part of the training images that the model leaves out: the strangest to a model of all."""
LEAST_FITTED = 2


@short_repr
@dataclass(frozen=True, eq=False)
class Domain:
    """A Gaussian model of small training pictures.

    Attributes:
        mean: (d,) float64.
        precision: (d, d) float64, the inverse of the shrunk covariance.
        held_back: (N,) training images that the model was not fitted to: the null sample.
    """

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]
    held_back: NDArray[np.int64]

    @staticmethod
    def fit(vectors: Vectors, held_back: NDArray[np.int64]) -> Domain:
        """The model of (n, d) vectors, at least two."""
        model = Domain._of(vectors, held_back)
        strangeness = model.strangeness(vectors)
        usual = strangeness <= np.quantile(strangeness, 1 - TRIMMED)
        return Domain._of(vectors[usual], held_back) if usual.sum() >= LEAST_FITTED else model

    @staticmethod
    def _of(vectors: Vectors, held_back: NDArray[np.int64]) -> Domain:
        mean = vectors.mean(axis=0, dtype=np.float64)
        centred = vectors - mean
        covariance = centred.T @ centred / (len(vectors) - 1)
        variance = float(np.trace(covariance)) / len(covariance)
        # pictures that are all equal: any direction is as strange
        covariance[np.diag_indices_from(covariance)] += SHRINKAGE * variance or 1.0
        return Domain(mean, np.linalg.inv(covariance), held_back)

    def strangeness(self, vectors: Vectors) -> NDArray[np.float64]:
        """(m,) squared Mahalanobis distances of (m, d) vectors."""
        centred = vectors - self.mean
        return np.asarray(np.einsum("ij,ij->i", centred @ self.precision, centred))


def domain_of(context: Context, trained: Trained) -> Domain | None:
    """The domain of the training images, learned once; see `learned_domain`."""
    key = ("domain", context.settings.null_level)
    return trained.memo.get(key, lambda: learned_domain(context, trained))


def learned_domain(context: Context, trained: Trained) -> Domain | None:
    """The domain of the training images; None where they are too few to hold some back.

    Which images are held back is decided by content, not by how the set is listed.

    Raises:
        InputError, ImageError: an image that the model reads is not at hand or cannot be read.
        RunError: a training image has changed since it was embedded.
    """
    held_back = min(null_size(context.settings.null_level), len(trained.order) // 2)
    fitted = trained.order[held_back : held_back + MOST_FITTED]
    if not held_back or len(fitted) < LEAST_FITTED:
        return None
    # in the order by content, so that sums round alike however the set is listed
    vectors = small_pictures(context, trained.placed.select(fitted))
    return Domain.fit(vectors, trained.order[:held_back])


def strangeness_to_domain(
    context: Context, trained: Trained, batch: PlacedSet
) -> tuple[NDArray[np.float64], float]:
    """(m,) strangeness of images, and the median strangeness of the training images held back.

    Raises:
        InputError: too few training images to hold some back.
    """
    domain = domain_of(context, trained)
    if domain is None:
        raise InputError(
            "quality 'domain' learns what is usual and needs at least 3 different training images, "
            f"not {len(trained.order)}; pass quality 'none'"
        )
    held_back = small_pictures(context, trained.placed.select(domain.held_back))
    usual = float(np.median(domain.strangeness(held_back)))
    return domain.strangeness(small_pictures(context, batch)), usual


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
