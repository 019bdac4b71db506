"""A fully connected GAN in its classic MNIST form, unconditional or class-conditional.

Sources: Goodfellow et al. 2014 (arXiv 1406.2661) for the game and the non-saturating loss; Mirza
& Osindero 2014 (arXiv 1411.1784) for the class appended to the inputs of both networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from gmvaluator.generators.adversarial import (
    AdversarialConfig,
    AdversarialLearner,
    AdversarialModel,
)
from gmvaluator.generators.config import GeneratorConfig, limited
from gmvaluator.generators.layers import initialise, mlp, untouched_randomness, with_class
from gmvaluator.generators.randomness import CRITIC, WEIGHTS, generator


@dataclass(frozen=True)
class GANConfig(AdversarialConfig):
    """Shape and training recipe of the fully connected GAN."""

    beta1: float = limited(0.5, 0.0, 0.999)  # decay of Adam's first moment (Radford et al. 2016)
    hidden: tuple[int, ...] = (128, 256, 512, 1024)  # widths of the generator
    critic_hidden: tuple[int, ...] = (512, 256)  # widths of the discriminator
    # After each hidden layer of the generator but the first. Batch normalisation couples the
    # images of a batch: "leave one image out" is then ill-defined, so take layer or none there.
    norm: Literal["batch", "layer", "none"] = "batch"

    name: ClassVar[str] = "gan"
    default_steps: ClassVar[int] = 20_000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(2 if self.norm == "batch" else 1, "batch_size")


class GAN(AdversarialModel):
    """Linear layers with LeakyReLU 0.2, pixels through tanh."""

    config_class: ClassVar[type[GeneratorConfig]] = GANConfig
    config: GANConfig

    def __init__(self, config: GANConfig, label_names: Sequence[str] = (), seed: int = 0) -> None:
        super().__init__(config, label_names)
        widths = (config.latent + config.classes, *config.hidden, config.pixels)
        with untouched_randomness():
            self.layers = mlp(widths, self._between)
        initialise(self, generator(seed, WEIGHTS), "fan-in")

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        pixels = torch.tanh(self.layers(with_class(noise, labels, self.classes)))
        return pixels.reshape(-1, *self.config.image_shape)

    def learner(self, steps: int, seed: int = 0) -> AdversarialLearner:
        del steps
        return AdversarialLearner(self, Discriminator(self.config, seed), self.config.beta1)

    def _between(self, width: int, place: int) -> list[nn.Module]:
        leaky = nn.LeakyReLU(0.2)
        if place == 0 or self.config.norm == "none":
            return [leaky]
        return [
            nn.BatchNorm1d(width) if self.config.norm == "batch" else nn.LayerNorm(width),
            leaky,
        ]


class Discriminator(nn.Module):
    """Linear layers with LeakyReLU 0.2 to one logit."""

    def __init__(self, config: GANConfig, seed: int = 0) -> None:
        super().__init__()
        self.classes = config.classes
        widths = (config.pixels + config.classes, *config.critic_hidden, 1)
        with untouched_randomness():
            self.layers = mlp(widths, lambda _width, _place: [nn.LeakyReLU(0.2)])
        initialise(self, generator(seed, CRITIC), "fan-in")

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, C, H, W) in [−1, 1], (B,) int64 → (B,) logits."""
        logits: Tensor = self.layers(with_class(images.flatten(1), labels, self.classes))
        return logits[:, 0]
