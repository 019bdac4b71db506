"""A convolutional β-VAE for images of 28 or 32 pixels, unconditional or class-conditional.

Loss and sources as in `beta_vae`; the stack of stride-2 convolutions follows Higgins et al.
2017. A one-hot class is appended to the encoder's features and to the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from gmvaluator.generators.beta_vae import VAE, VAEConfig, quieten
from gmvaluator.generators.config import GeneratorConfig, limited
from gmvaluator.generators.layers import initialise, untouched_randomness
from gmvaluator.generators.randomness import WEIGHTS, generator


@dataclass(frozen=True)
class ConvBetaVAEConfig(VAEConfig):
    """Shape and training recipe of the convolutional β-VAE."""

    latent: int = limited(32, 1)
    # at 1, codes drawn from the prior often decode to no digit at all
    beta: float = limited(3.0, 0.0, 1e30)
    width: int = limited(32, 1)  # channels after the first convolution; doubled by each further

    name: ClassVar[str] = "conv-beta-vae"
    default_steps: ClassVar[int] = 8_000
    sizes: ClassVar[tuple[int, ...]] = (28, 32)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels after each halving: 28 → 14 → 7 pixels, or 32 → 16 → 8 → 4."""
        return tuple(self.width * 2**i for i in range(2 if self.size == 28 else 3))

    @property
    def grid(self) -> int:
        """Side of the smallest feature map, in positions."""
        return 7 if self.size == 28 else 4


class ConvBetaVAE(VAE):
    """4 × 4 convolutions of stride 2 with ReLU, one linear layer to the code, all mirrored."""

    config_class: ClassVar[type[GeneratorConfig]] = ConvBetaVAEConfig
    config: ConvBetaVAEConfig

    def __init__(
        self, config: ConvBetaVAEConfig, label_names: Sequence[str] = (), seed: int = 0
    ) -> None:
        super().__init__(config, label_names)
        widths = (config.channels, *config.widths)
        features = widths[-1] * config.grid**2
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        with untouched_randomness():
            for fine, coarse in pairwise(widths):
                down += [nn.Conv2d(fine, coarse, 4, stride=2, padding=1), nn.ReLU()]
                up = [nn.ReLU(), nn.ConvTranspose2d(coarse, fine, 4, stride=2, padding=1), *up]
            self.encoder = nn.Sequential(*down, nn.Flatten())
            self.to_code = nn.Linear(features + config.classes, 2 * config.latent)
            self.from_code = nn.Linear(config.latent + config.classes, features)
            self.decoder = nn.Sequential(
                nn.Unflatten(1, (widths[-1], config.grid, config.grid)), *up
            )
        initialise(self, generator(seed, WEIGHTS), "kaiming")
        quieten(self.to_code)

    def encode(self, pixels: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        features = self._labelled(self.encoder(pixels), labels)
        mean, log_variance = self.to_code(features).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        logits: Tensor = self.decoder(self.from_code(self._labelled(codes, labels)))
        return logits
