"""A fully connected β-VAE for small images, unconditional or class-conditional.

Sources: Kingma & Welling 2014 (arXiv 1312.6114) for the evidence lower bound; Higgins et al.
2017, "beta-VAE" (ICLR) for the factor β; Sohn et al. 2015 (NeurIPS) for the conditional form,
here with the one-hot class appended to the input of the encoder and of the decoder.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmvaluator.errors import InputError
from gmvaluator.generators.base import GeneratorModel, Learner, TrainingBatch, half_cosine
from gmvaluator.generators.config import GeneratorConfig, limited, positive
from gmvaluator.generators.layers import initialise, mlp, untouched_randomness, with_class
from gmvaluator.generators.randomness import WEIGHTS, generator


@dataclass(frozen=True)
class VAEConfig(GeneratorConfig):
    """Training recipe that both forms of the β-VAE share."""

    batch_size: int = limited(128, 1)
    latent: int = limited(16, 1)
    beta: float = limited(1.0, 0.0, 1e30)  # weight of the KL term; 1 = the plain VAE
    # Value of the hot entry of the one-hot class. At 1 it is drowned by hundreds of pixels: the
    # code learns to carry the class, and a sample then often shows another class than asked.
    label_scale: float = positive(10.0)
    sampling_scale: float = positive(1.0)  # spread of codes; < 1 trades variety for typicality
    optimizer: Literal["adam", "sgd"] = "adam"  # sgd: plain, no momentum
    learning_rate: float = positive(1e-3)
    schedule: Literal["cosine", "constant"] = "cosine"  # cosine: decays to 0 along a half cosine


@dataclass(frozen=True)
class BetaVAEConfig(VAEConfig):
    """Shape and training recipe of the fully connected β-VAE."""

    hidden: tuple[int, ...] = (512, 256)  # widths of the encoder; the decoder mirrors them

    name: ClassVar[str] = "beta-vae"
    default_steps: ClassVar[int] = 20_000


class VAE(GeneratorModel):
    """Encoder image → (mean, log variance) of a Gaussian code; decoder code → pixel logits."""

    sampling: ClassVar[tuple[str, ...]] = ("sampling_scale",)
    config: VAEConfig

    @abstractmethod
    def encode(self, pixels: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) in [0, 1], (B,) int64 → mean and log variance, (B, latent) each."""

    @abstractmethod
    def decode(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, latent), (B,) int64 → pixel logits (B, C, H, W); their sigmoid is the image."""

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.config.latent,)

    def elbo_terms(
        self, pixels: Tensor, labels: Tensor | None, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Reconstruction error and KL divergence of each image, (B,) float each, in nats.

        `noise` is (B, latent) standard normal. The reconstruction error is the binary cross
        entropy summed over pixels; the KL divergence is that of N(mean, variance) from N(0, 1),
        summed over the code (Kingma & Welling 2014, appendix B).
        """
        mean, log_variance = self.encode(pixels, labels)
        logits = self.decode(mean + noise * torch.exp(0.5 * log_variance), labels)
        error = F.binary_cross_entropy_with_logits(logits, pixels, reduction="none")
        return error.flatten(1).sum(dim=1), kl_divergence(mean, log_variance)

    def loss(self, pixels: Tensor, labels: Tensor | None, noise: Tensor) -> Tensor:
        """Negative β-ELBO, mean over the batch: reconstruction + β · KL (Higgins et al., Eq. 4)."""
        error, divergence = self.elbo_terms(pixels, labels, noise)
        return (error + self.config.beta * divergence).mean()

    def draw(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """Decoded codes from the prior N(0, 1), narrowed by `sampling_scale`."""
        return torch.sigmoid(self.decode(noise * self.config.sampling_scale, labels))

    def learner(self, steps: int, seed: int = 0) -> VAELearner:
        del seed
        return VAELearner(self, steps)

    def _labelled(self, inputs: Tensor, labels: Tensor | None) -> Tensor:
        if self.classes and labels is None:
            raise InputError(f"This β-VAE has {self.classes} classes; pass a label for each image.")
        return with_class(inputs, labels, self.classes, self.config.label_scale)


class BetaVAE(VAE):
    """The fully connected form; hidden layers end in ReLU."""

    config_class: ClassVar[type[GeneratorConfig]] = BetaVAEConfig
    config: BetaVAEConfig

    def __init__(
        self, config: BetaVAEConfig, label_names: Sequence[str] = (), seed: int = 0
    ) -> None:
        super().__init__(config, label_names)
        encoder = (config.pixels + config.classes, *config.hidden, 2 * config.latent)
        decoder = (config.latent + config.classes, *reversed(config.hidden), config.pixels)
        with untouched_randomness():
            self.encoder = mlp(encoder, lambda _width, _place: [nn.ReLU()])
            self.decoder = mlp(decoder, lambda _width, _place: [nn.ReLU()])
        initialise(self, generator(seed, WEIGHTS), "kaiming")
        quieten(self.encoder[-1])

    def encode(self, pixels: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(self._labelled(pixels.flatten(1), labels)).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        logits: Tensor = self.decoder(self._labelled(codes, labels))
        return logits.reshape(-1, *self.config.image_shape)


class VAELearner(Learner):
    """Minimises the negative β-ELBO, in nats an image."""

    def __init__(self, model: VAE, steps: int) -> None:
        self.model, self.steps = model, steps
        kind = torch.optim.Adam if model.config.optimizer == "adam" else torch.optim.SGD
        optimizer = kind(model.parameters(), lr=model.config.learning_rate)
        super().__init__({"model": model}, {"optimizer": optimizer})

    def update(self, batch: TrainingBatch, step: int) -> dict[str, float]:
        pixels = batch.images.to(torch.float32) / 255.0
        noise = torch.randn((len(pixels), self.model.config.latent), generator=batch.generator)
        error, divergence = self.model.elbo_terms(pixels, batch.labels, noise)
        loss = (error + self.model.config.beta * divergence).mean()
        self.descend("optimizer", loss)
        return {"loss": loss.item(), "kl": divergence.mean().item()}

    def rate(self, step: int) -> float:
        return half_cosine(step, self.steps) if self.model.config.schedule == "cosine" else 1.0

    def finished(self) -> VAE:
        return self.model


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """(B, z) each → (B,) divergence of N(mean, variance) from N(0, 1), in nats.

    Kingma & Welling 2014, appendix B.
    """
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1)


def quieten(layer: nn.Module) -> None:
    """Shrink an encoder's last layer.

    At full scale, the first codes are far from the prior, and exp of the log variance can overflow
    in the first steps.
    """
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(0.1)
