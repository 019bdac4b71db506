"""Likeness of drawn images to real images: FID, precision and recall."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from gmvaluator.baselines.gan_metrics import FrechetDistance
from gmvaluator.encoders import load_encoder
from gmvaluator.encoders.backends import Runtime
from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.embedding import embed
from gmvaluator.errors import InputError
from gmvaluator.geometry import Vectors, squared_by_product
from gmvaluator.images import ImageSet
from gmvaluator.progress import Progress
from gmvaluator.scoring.quality import EQUAL
from gmvaluator.weights import Weights

ENCODER = "efficientnet-lite0@96"
NEIGHBOURS = 3


@dataclass(frozen=True)
class Likeness:
    """Measures of drawn images against real images.

    Attributes:
        fid: Fréchet distance of Gaussians fitted to both, 0 = alike.
        precision: share of drawn images that could be real.
        recall: share of real images that could be drawn.
    """

    fid: float
    precision: float
    recall: float


@cache
def fixed_encoder(name: str) -> Encoder:
    """An encoder by name, on the processor. It is compiled once per process.

    Raises:
        MissingPackageError, MissingWeightsError: a package or weights are missing.
    """
    return load_encoder(name, Weights(), Runtime("cpu"))


def image_features(images: ImageSet, progress: Progress | None = None) -> Vectors:
    """(n, 1,280) features of all images.

    Raises:
        InputError: an image cannot be read.
    """
    encoder = fixed_encoder(ENCODER)
    return embed(images, encoder, strict=True, progress=progress, stage="embed for FID").vectors


def likeness(real: Vectors, drawn: Vectors, seed: int = 0) -> Likeness:
    """Compare features of (r, F) real and (d, F) drawn images.

    FID uses all features (Heusel et al., NeurIPS 2017, Eq. 6). Precision and recall use the same
    number of both, as published: a random part of the larger set.

    Raises:
        InputError: too few images.
    """
    check_numbers(len(real), len(drawn))
    n = min(len(real), len(drawn))
    first, second = (
        np.ascontiguousarray(features[np.random.default_rng(seed).permutation(len(features))[:n]])
        for features in (real, drawn)
    )
    return Likeness(frechet_distance(real, drawn), *precision_and_recall(first, second, NEIGHBOURS))


def check_numbers(n_real: int, n_drawn: int) -> None:
    """Raises `InputError` if there are too few images to compare."""
    if min(n_real, n_drawn) <= NEIGHBOURS:
        raise InputError(
            f"{n_real} real and {n_drawn} drawn images; pass more than {NEIGHBOURS} of each"
        )


def frechet_distance(first: Vectors, second: Vectors) -> float:
    """‖μ − μ'‖² + tr(C + C' − 2 (C C')^½) of Gaussians fitted to (a, F) and (b, F) vectors."""
    metric = FrechetDistance(lambda vectors: vectors, torch.from_numpy(np.asarray(first)))
    with torch.no_grad():
        return float(metric(torch.from_numpy(np.asarray(second))))


def precision_and_recall(real: Vectors, drawn: Vectors, k: int) -> tuple[float, float]:
    """Share of drawn vectors within the manifold of the real ones, and the other way round.

    Kynkäänniemi et al., NeurIPS 2019, Eq. 1 and 2: a manifold is the union of spheres around its
    vectors. The radius of a sphere is the distance to the k-th nearest other vector.

    Args:
        real, drawn: (n, F) each.
        k: neighbours, below n.
    """
    between = _squared(drawn, real)
    return _share_within(between, real, k), _share_within(between.T, drawn, k)


def _share_within(squared: NDArray[np.float64], centres: Vectors, k: int) -> float:
    """(p, n) squared distances of points from (n, F) centres → share of points in a sphere."""
    # the nearest to a centre is the centre itself
    radii = np.partition(_squared(centres, centres), k, axis=1)[:, k]
    return float((squared <= radii).any(axis=1).mean())


def _squared(first: Vectors, second: Vectors) -> NDArray[np.float64]:
    """(a, F), (b, F) → (a, b) squared distances. Equal vectors have distance exactly 0."""
    # float32 would leave no digits of a small distance
    squared, sums = squared_by_product(first, second)
    return np.where(squared <= EQUAL * sums, 0.0, squared)
