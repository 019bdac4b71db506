"""What the GANs of logistic loss share: settings, drawing, and the alternating updates."""

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
from gmvaluator.generators.config import GeneratorConfig
from gmvaluator.generators.layers import frozen, to_signed, to_unit


@dataclass(frozen=True)
class AdversarialConfig(GeneratorConfig):
    """The latent code and both Adam optimizers (Radford et al. 2016, section 4)."""

    latent: int = 100
    learning_rate: float = 2e-4
    beta1: float = 0.5  # decay of Adam's first moment
    ema: float = 0.0  # decay of the averaged weights, which are those saved; 0 = the last ones
    truncation: float = 0.0  # codes are normal within ± truncation; 0 = not truncated

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "latent")
        self.positive("learning_rate")
        self.between(0.0, 0.999, "beta1")
        self.between(0.0, 0.999999, "ema")
        self.between(0.0, 100.0, "truncation")


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
    """Alternates one update of the discriminator and one of the generator.

    The discriminator maps images in [−1, 1] and labels to logits (B,), positive = taken for a
    training image. It minimises softplus(−D(x)) + softplus(D(G(z))), the generator
    softplus(−D(G(z))): the non-saturating form of Goodfellow et al. 2014, section 3.
    """

    def __init__(self, model: AdversarialModel, critic: nn.Module) -> None:
        self.model, self.critic = model, critic
        self.average = copy.deepcopy(model).requires_grad_(False)
        rate, betas = model.config.learning_rate, (model.config.beta1, 0.999)
        super().__init__(
            {"generator": model, "discriminator": critic, "average": self.average},
            {
                "generator_optimizer": torch.optim.Adam(model.parameters(), rate, betas),
                "discriminator_optimizer": torch.optim.Adam(critic.parameters(), rate, betas),
            },
        )

    def update(self, batch: TrainingBatch, step: int) -> dict[str, float]:
        real, labels = to_signed(batch.images), batch.labels
        noise = torch.randn((2, len(real), *self.model.noise_shape), generator=batch.generator)
        with torch.no_grad():
            drawn = self.model(noise[0], labels)
        critic_loss = (
            F.softplus(-self.critic(real, labels)).mean()
            + F.softplus(self.critic(drawn, labels)).mean()
        )
        self.descend("discriminator_optimizer", critic_loss)
        with frozen(self.critic):
            loss = F.softplus(-self.critic(self.model(noise[1], labels), labels)).mean()
            self.descend("generator_optimizer", loss)
        if self.model.config.ema:
            average_step(self.average, self.model, self.model.config.ema, step)
        return {"generator": loss.item(), "discriminator": critic_loss.item()}

    def finished(self) -> GeneratorModel:
        """The last weights, or the averaged ones with batch statistics of their own drawings."""
        if not self.model.config.ema:
            return self.model
        model = copy.deepcopy(self.average)
        restate(model)
        return model
