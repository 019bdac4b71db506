"""Base classes of the GANs with logistic loss: settings, drawing and alternating updates."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmvaluator.generators.averaging import average_step, restate, truncated
from gmvaluator.generators.base import GeneratorModel, Learner, TrainingBatch
from gmvaluator.generators.config import GeneratorConfig, limited, positive
from gmvaluator.generators.layers import frozen, to_signed, to_unit


@dataclass(frozen=True)
class AdversarialConfig(GeneratorConfig):
    """Settings of the latent code, the generator's Adam optimizer, and the saved weights."""

    latent: int = limited(100, 1)
    learning_rate: float = positive(2e-4)
    ema: float = limited(0.0, 0.0, 0.999999)  # decay of the averaged weights; 0 = the last ones
    truncation: float = limited(0.0, 0.0, 100.0)  # codes are normal within ±; 0 = not truncated


class AdversarialModel(GeneratorModel):
    """A generator whose discriminator exists during training only."""

    config: AdversarialConfig
    sampling: ClassVar[tuple[str, ...]] = ("truncation",)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.config.latent,)

    @abstractmethod
    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, latent), (B,) int64 → images (B, C, H, W) in [−1, 1]."""

    def draw(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        return to_unit(self(truncated(noise, self.config.truncation), labels))


class AdversarialLearner(Learner):
    """Alternates one update of the discriminator and one update of the generator.

    The discriminator maps images in [−1, 1] and labels to logits (B,), high for training images. It
    minimises softplus(−D(x)) + softplus(D(G(z))). The generator minimises softplus(−D(G(z))), the
    non-saturating loss of Goodfellow et al. 2014, section 3.
    """

    def __init__(
        self,
        model: AdversarialModel,
        critic: nn.Module,
        beta1: float,
        critic_rate: float | None = None,
    ) -> None:
        self.model, self.critic, config = model, critic, model.config
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.averages = bool(config.ema)
        rates = {"generator": config.learning_rate, "discriminator": critic_rate}
        networks = {"generator": model, "discriminator": critic}
        super().__init__(
            {**networks, "average": self.average},
            {
                f"{name}_optimizer": torch.optim.Adam(
                    network.parameters(), rates[name] or config.learning_rate, (beta1, 0.999)
                )
                for name, network in networks.items()
            },
        )

    def update(self, batch: TrainingBatch, step: int) -> dict[str, float]:
        real, labels = to_signed(batch.images), batch.labels
        noise = torch.randn((2, len(real), *self.model.noise_shape), generator=batch.generator)
        critic_loss = self.critic_loss(real, noise[0], labels)
        self.descend("discriminator_optimizer", critic_loss)
        with frozen(self.critic):
            loss = self.generator_loss(noise[1], labels)
            self.descend("generator_optimizer", loss)
        if self.averages:
            average_step(self.average, self.model, self.model.config.ema, step)
        return {"generator": loss.item(), "discriminator": critic_loss.item()}

    def critic_loss(self, real: Tensor, noise: Tensor, labels: Tensor | None) -> Tensor:
        """Loss of the discriminator, without gradients for the generator."""
        with torch.no_grad():
            drawn = self.model(noise, labels)
        return (
            F.softplus(-self.critic(real, labels)).mean()
            + F.softplus(self.critic(drawn, labels)).mean()
        )

    def generator_loss(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """Loss of the generator."""
        return F.softplus(-self.critic(self.model(noise, labels), labels)).mean()

    def finished(self) -> GeneratorModel:
        """The last weights, or the averaged weights with batch statistics of their drawings."""
        if not self.averages:
            return self.model
        model = copy.deepcopy(self.average)
        restate(model)
        return model
