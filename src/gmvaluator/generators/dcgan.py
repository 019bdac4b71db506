"""A small DCGAN for images of 28 or 32 pixels, unconditional or class-conditional.

Sources: Radford et al. 2016 (arXiv 1511.06434) for both networks, their initial weights and the
optimizer; Miyato & Koyama 2018 (arXiv 1802.05637) for the class in the discriminator, as an
inner product of features and a class vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gmvaluator.generators.adversarial import (
    AdversarialConfig,
    AdversarialLearner,
    AdversarialModel,
)
from gmvaluator.generators.config import GeneratorConfig, limited
from gmvaluator.generators.layers import initialise, untouched_randomness, with_class
from gmvaluator.generators.randomness import CRITIC, WEIGHTS, generator


@dataclass(frozen=True)
class DCGANConfig(AdversarialConfig):
    """Shape and training recipe of the DCGAN."""

    batch_size: int = limited(64, 2)
    beta1: float = limited(0.5, 0.0, 0.999)  # decay of Adam's first moment (Radford et al. 2016)
    width: int = limited(64, 2)  # channels at a quarter of the side; half as many at half

    name: ClassVar[str] = "dcgan"
    default_steps: ClassVar[int] = 10_000
    sizes: ClassVar[tuple[int, ...]] = (28, 32)


class DCGAN(AdversarialModel):
    """A linear layer and two transposed convolutions of stride 2, batch-normalised."""

    config_class: ClassVar[type[GeneratorConfig]] = DCGANConfig
    config: DCGANConfig

    def __init__(self, config: DCGANConfig, label_names: Sequence[str] = (), seed: int = 0) -> None:
        super().__init__(config, label_names)
        grid, wide, half = config.size // 4, config.width, config.width // 2
        with untouched_randomness():
            self.layers = nn.Sequential(
                nn.Linear(config.latent + config.classes, wide * grid**2, bias=False),
                nn.Unflatten(1, (wide, grid, grid)),
                nn.BatchNorm2d(wide),
                nn.ReLU(),
                nn.ConvTranspose2d(wide, half, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(half),
                nn.ReLU(),
                nn.ConvTranspose2d(half, config.channels, 4, stride=2, padding=1),
                nn.Tanh(),
            )
        initialise(self, generator(seed, WEIGHTS), "narrow")

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        images: Tensor = self.layers(with_class(noise, labels, self.classes))
        return images

    def learner(self, steps: int, seed: int = 0) -> AdversarialLearner:
        del steps
        return AdversarialLearner(self, ConvDiscriminator(self.config, seed), self.config.beta1)


class ConvDiscriminator(nn.Module):
    """Two convolutions of stride 2 and one logit."""

    def __init__(self, config: DCGANConfig, seed: int = 0) -> None:
        super().__init__()
        half, wide = config.width // 2, config.width
        features = wide * (config.size // 4) ** 2
        with untouched_randomness():
            self.features = nn.Sequential(
                nn.Conv2d(config.channels, half, 4, stride=2, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(half, wide, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(wide),
                nn.LeakyReLU(0.2),
                nn.Flatten(),
            )
            self.logit = nn.Linear(features, 1)
            self.label = nn.Embedding(config.classes, features) if config.classes else None
        initialise(self, generator(seed, CRITIC), "narrow")

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, C, H, W) in [−1, 1], (B,) int64 → (B,) logits."""
        features = self.features(images)
        logits: Tensor = self.logit(features)[:, 0]
        if self.label is not None and labels is not None:
            logits = logits + torch.sum(self.label(labels) * features, dim=1)
        return logits
