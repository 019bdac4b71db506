"""Differentiable metrics of a GAN's drawings, for IF4GAN (Terashita et al. 2021)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmvaluator.baselines.checks import check_at_least
from gmvaluator.errors import InputError
from gmvaluator.generators.layers import untouched_randomness
from gmvaluator.progress import Progress, Silent

FEATURES = 128
_BATCH = 128
_L2 = 1e-3  # on the last layer of the classifier
_RATE = 1e-2
# initial weights before a logistic sigmoid (Glorot & Bengio 2010); at 1 it hardly starts to learn
_SIGMOID_GAIN = 4.0
# eigenvalues below this share of the greatest are roundings: their square roots have no gradient
_LEAST_EIGENVALUE = 1e-12


class GANMetric(ABC):
    """Images → one number, with a gradient.

    Attributes:
        name: name in tables and results.
        helpful: sign of the metric's change when a helpful image is removed. +1 if a lower metric
            is better, −1 if a higher metric is better.
    """

    name: ClassVar[str]
    helpful: ClassVar[int]

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """(N, …) images as the generator draws them → a scalar."""


class LogLikelihood(GANMetric):
    """ALL: mean log-likelihood of held-out points under a kernel density of the drawn points.

    Args:
        points: (V, …) held-out points.
    """

    name = "log-likelihood"
    helpful = -1

    def __init__(self, points: Tensor) -> None:
        self._points = points.flatten(1)

    def __call__(self, images: Tensor) -> Tensor:
        """Gaussian kernels of unit bandwidth, centred on the images."""
        centres = images.flatten(1)
        squared = torch.cdist(self._points, centres).square()
        numbers = centres.shape[1]
        constant = math.log(len(centres)) + 0.5 * numbers * math.log(2 * math.pi)
        return (torch.logsumexp(-0.5 * squared, dim=1) - constant).mean()


class InceptionScore(GANMetric):
    """exp of the mean divergence of p(class | image) from p(class) (Salimans et al. 2016).

    Args:
        classifier: images → logits.
    """

    name = "inception-score"
    helpful = -1

    def __init__(self, classifier: Callable[[Tensor], Tensor]) -> None:
        self._classifier = classifier

    def __call__(self, images: Tensor) -> Tensor:
        return self._log(images).exp()

    def _log(self, images: Tensor) -> Tensor:
        logs = torch.log_softmax(self._classifier(images), dim=1)
        over_all = torch.logsumexp(logs, dim=0) - math.log(len(logs))
        return (logs.exp() * (logs - over_all)).sum(dim=1).mean()


class LogInceptionScore(InceptionScore):
    """The logarithm of the inception score: the same order of images, better scaled."""

    name = "log-inception-score"

    def __call__(self, images: Tensor) -> Tensor:
        return self._log(images)


class FrechetDistance(GANMetric):
    """FID: Fréchet distance of Gaussians fitted to features (Heusel et al. 2017).

    Args:
        features: images → (N, F).
        reference: held-out images.
    """

    name = "fid"
    helpful = 1

    def __init__(self, features: Callable[[Tensor], Tensor], reference: Tensor) -> None:
        self._features = features
        with torch.no_grad():
            self._mean, covariance = _moments(features(reference))
            values, vectors = torch.linalg.eigh(covariance)
            self._root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
            self._trace = covariance.diagonal().sum()

    def __call__(self, images: Tensor) -> Tensor:
        mean, covariance = _moments(self._features(images))
        # tr (R C R)^½ by its eigenvalues, R the root of the reference's covariance
        values = torch.linalg.eigvalsh(self._root @ covariance @ self._root)
        floor = float(values.detach().max()) * _LEAST_EIGENVALUE
        roots = values[values > floor].sqrt().sum()
        apart = (mean - self._mean).square().sum()
        distance: Tensor = apart + covariance.diagonal().sum() + self._trace - 2 * roots
        return distance


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    # in float64: leaving out one image changes the distance in its seventh digit
    features = features.double()
    mean = features.mean(dim=0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


class MetricClassifier(nn.Module):
    """The small classifier behind the metrics: two convolutions, one hidden layer of 128 features.

    Args:
        channels, side: channels and side of the images.
        classes: number of classes.
    """

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        reduced = ((side - 4) // 2 - 4) // 2
        self.body = nn.Sequential(
            *(nn.Conv2d(channels, 8, 5), nn.Sigmoid(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 8, 5), nn.Sigmoid(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(8 * reduced**2, FEATURES), nn.Sigmoid()),
        )
        self.head = nn.Linear(FEATURES, classes)
        for layer in (*self.body, self.head):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight, gain=_SIGMOID_GAIN)
                layer.bias.data.zero_()  # type: ignore[union-attr]

    def features(self, images: Tensor) -> Tensor:
        """(N, C, S, S) in [−1, 1] → (N, 128)."""
        features: Tensor = self.body(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, S, S) in [−1, 1] → logits."""
        logits: Tensor = self.head(self.body(images))
        return logits


def train_metric_classifier(
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int = 6,
    seed: int = 0,
    progress: Progress | None = None,
) -> MetricClassifier:
    """Train on held-out images that the GAN never sees, by Adam with batches of 128.

    Args:
        images: (N, C, S, S) in [−1, 1].
        labels: (N,) class numbers.
        epochs: passes over the images.
        seed: seed of the weights and the order.

    Raises:
        InputError: the numbers of images and labels differ, or epochs is too small.
    """
    check_at_least(1, "epochs", epochs)
    if len(images) != len(labels) or not len(images):
        raise InputError(f"{len(images)} images with {len(labels)} labels; pass a label for each")
    with untouched_randomness():
        torch.manual_seed(seed)
        model = MetricClassifier(images.shape[1], images.shape[-1], int(labels.max()) + 1)
        model.to(images.dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=_RATE)
    order = torch.Generator().manual_seed(seed)
    with (progress or Silent()).stage("train metric classifier", epochs) as advance:
        for _ in range(epochs):
            for rows in torch.split(torch.randperm(len(images), generator=order), _BATCH):
                loss = F.cross_entropy(model(images[rows]), labels[rows])
                loss = loss + 0.5 * _L2 * model.head.weight.square().sum()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            advance(1)
    return model.eval().requires_grad_(False)
