"""A class-conditional diffusion model with classifier-free guidance.

Sources: Ho et al. 2020 (arXiv 2006.11239) for the forward process and the loss on predicted
noise; Nichol & Dhariwal 2021 (arXiv 2102.09672) for the cosine schedule; Ho & Salimans 2022 (arXiv
2207.12598) for classifier-free guidance; Song et al. 2021 (arXiv 2010.02502) for DDIM sampling.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gmvaluator.generators.averaging import average_step
from gmvaluator.generators.base import GeneratorModel, Learner, TrainingBatch, half_cosine
from gmvaluator.generators.config import GeneratorConfig, limited, positive
from gmvaluator.generators.denoising_mlp import DenoisingMLP
from gmvaluator.generators.layers import (
    autocast,
    fast_precision,
    initialise,
    to_signed,
    to_unit,
    untouched_randomness,
)
from gmvaluator.generators.randomness import WEIGHTS, generator
from gmvaluator.generators.unet import UNet


@dataclass(frozen=True)
class DDPMConfig(GeneratorConfig):
    """Shape, training recipe and sampling of the diffusion model."""

    network: Literal["unet", "mlp"] = "unet"
    width: int = limited(48, 8)  # U-Net: channels at half of the side; twice at a quarter
    blocks: int = limited(1, 1)  # U-Net: residual blocks at each resolution, down and up
    hidden: tuple[int, ...] = (512, 512, 512)  # fully connected: widths of the hidden layers
    predicts: Literal["noise", "image"] = "noise"  # the meaning of the network's output
    times: int = limited(1000, 2)  # steps T of the forward process
    schedule: Literal["cosine", "linear"] = "cosine"  # of the noise
    label_dropout: float = limited(0.1, 0.0, 1.0)  # share of labels hidden in training
    learning_rate: float = positive(1e-3)  # Adam; rises over `warmup` steps, then a half cosine
    warmup: int = limited(500, 0)
    ema: float = limited(0.999, 0.0, 0.999999)  # decay of the averaged weights, which are saved
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of the training's products
    sampling_steps: int = limited(50, 1)  # DDIM steps
    guidance: float = limited(1.5, 0.0, 100.0)  # 1 = the conditional model, 0 = unconditional

    name: ClassVar[str] = "ddpm"
    default_steps: ClassVar[int] = 20_000
    sizes: ClassVar[tuple[int, ...]] = (28, 32)
    always_conditional: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        # group normalisation makes eight groups
        self.one_of("width", *range(8, max(self.width, 8) + 1, 8))
        if self.sampling_steps > self.times:
            self.refuse("sampling_steps", f"a number ≥ 1 and ≤ {self.times}")


def signal_shares(config: DDPMConfig) -> Tensor:
    """ᾱ_t for t = 0 … T − 1, (T,) float32: the share of the variance that is still the image.

    Linear: β from 1e-4 to 0.02 (Ho et al., section 4), scaled for other T than 1000. Cosine:
    Nichol & Dhariwal, Eq. 17, each β at most 0.999.
    """
    steps = config.times
    if config.schedule == "linear":
        betas = torch.linspace(0.1 / steps, 20.0 / steps, steps, dtype=torch.float64)
    else:
        at = torch.arange(steps + 1, dtype=torch.float64) / steps
        curve = torch.cos((at + 0.008) / 1.008 * math.pi / 2).square()
        betas = 1.0 - curve[1:] / curve[:-1]
    return torch.cumprod(1.0 - betas.clamp(max=0.999), dim=0).to(torch.float32)


def add_noise(images: Tensor, noise: Tensor, share: Tensor) -> Tensor:
    """√ᾱ · x + √(1 − ᾱ) · ε for (B, C, H, W) images and noise, (B,) shares (Ho et al., Eq. 4)."""
    share = share[:, None, None, None]
    return share.sqrt() * images + (1.0 - share).sqrt() * noise


def ddim(
    noise: Tensor, shares: Tensor, steps: int, predict: Callable[[Tensor, int], Tensor]
) -> Tensor:
    """Deterministic DDIM (Song et al., Eq. 12 with σ = 0) from noise to images in [−1, 1].

    `predict` maps noisy images (B, C, H, W) and their time 0 … T − 1 to the noise in the images. It
    is called at `steps` evenly spaced times, the last time first. At each step the predicted image
    is clipped to [−1, 1], and the noise is computed again from the clipped image.
    """
    times = torch.linspace(len(shares) - 1, 0, steps).round().to(torch.int64).tolist()
    x = image = noise
    for time, following in zip(times, [*times[1:], None], strict=True):
        share = shares[time]
        predicted_noise = predict(x, time)
        image = ((x - (1.0 - share).sqrt() * predicted_noise) / share.sqrt()).clamp(-1.0, 1.0)
        if following is not None:
            predicted_noise = (x - share.sqrt() * image) / (1.0 - share).sqrt()
            x = (
                shares[following].sqrt() * image
                + (1.0 - shares[following]).sqrt() * predicted_noise
            )
    return image


class DDPM(GeneratorModel):
    """A network that predicts the noise in noisy images. The class `nobody` means no class."""

    config_class: ClassVar[type[GeneratorConfig]] = DDPMConfig
    sampling: ClassVar[tuple[str, ...]] = ("sampling_steps", "guidance")
    config: DDPMConfig

    def __init__(self, config: DDPMConfig, label_names: Sequence[str] = (), seed: int = 0) -> None:
        super().__init__(config, label_names)
        with untouched_randomness():
            self.network: UNet | DenoisingMLP = (
                UNet(config.channels, config.classes, config.width, config.blocks)
                if config.network == "unet"
                else DenoisingMLP(config.image_shape, config.classes, config.hidden)
            )
        initialise(self, generator(seed, WEIGHTS), "fan-in", spread=1.0)
        self.network.silence_outputs()
        self.shares = signal_shares(config)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return self.config.image_shape

    @property
    def classes(self) -> int:
        """Number of classes. 0 if the training dropped every label."""
        return 0 if self.config.label_dropout == 1 else self.config.classes

    @property
    def nobody(self) -> int:
        """The null class of classifier-free guidance."""
        return self.config.classes

    def predict(self, noisy: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        """(B, C, H, W) noisy images, (B,) times 0 … T − 1, (B,) classes → the noise in them.

        A network that predicts the image says so of the noise too (Ho et al., Eq. 4).
        """
        output: Tensor = self.network(noisy, times / self.config.times, labels)
        if self.config.predicts == "noise":
            return output
        share = self.shares.to(noisy.device)[times][:, None, None, None]
        return (noisy - share.sqrt() * output) / (1.0 - share).sqrt()

    def errors(self, images: Tensor, noise: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        """(B, C, H, W) images in [−1, 1] and noise, (B,) times and classes → (B,) training losses.

        The loss is the mean squared error of the network's prediction: the noise (Ho et al., Eq.
        14), or the image.
        """
        shares = self.shares.to(images.device)
        noisy = add_noise(images, noise, shares[times])
        output: Tensor = self.network(noisy, times / self.config.times, labels)
        wanted = noise if self.config.predicts == "noise" else images
        return (output.to(torch.float32) - wanted).square().flatten(1).mean(dim=1)

    def middle(self, images: Tensor, noise: Tensor, time: int) -> Tensor:
        """(B, C, H, W) images in [−1, 1] and noise → the network's middle layer, flat (B, width).

        The images are noised to `time`, 0 … T − 1, and have no class.
        """
        # by shape: a traced network would take len as a constant
        times = torch.full((images.shape[0],), time, device=images.device)
        nobody = torch.full_like(times, self.nobody)
        noisy = add_noise(images, noise, self.shares.to(images.device)[times])
        return self.network.middle(noisy, times / self.config.times, nobody).flatten(1)

    def guided(self, noisy: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        """ε_∅ + s · (ε_c − ε_∅): Ho & Salimans, Eq. 6 with s = 1 + w = `guidance`."""
        scale = self.config.guidance
        if scale == 1.0 or not self.classes:
            return self.predict(noisy, times, labels)
        both = torch.cat([labels, torch.full_like(labels, self.nobody)])
        predicted = self.predict(noisy.repeat(2, 1, 1, 1), times.repeat(2), both)
        conditional, free = predicted.chunk(2)
        return free + scale * (conditional - free)

    def draw(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """Images by `sampling_steps` DDIM steps, of classes under `guidance`."""
        nobody = torch.full((len(noise),), self.nobody, device=noise.device)
        classes = nobody if labels is None else labels

        def predict(noisy: Tensor, time: int) -> Tensor:
            times = torch.full((len(noisy),), time, device=noisy.device)
            return self.guided(noisy, times, classes)

        shares = self.shares.to(noise.device)
        return to_unit(ddim(noise, shares, self.config.sampling_steps, predict))

    def learner(self, steps: int, seed: int = 0) -> DDPMLearner:
        del seed
        return DDPMLearner(self, steps)


class DDPMLearner(Learner):
    """Minimises the squared error of the network's prediction."""

    def __init__(self, model: DDPM, steps: int) -> None:
        self.model, self.steps, config = model, steps, model.config
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.precision = fast_precision() if config.precision == "auto" else config.precision
        optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
        super().__init__({"model": model, "average": self.average}, {"optimizer": optimizer})

    def update(self, batch: TrainingBatch, step: int) -> dict[str, float]:
        images = to_signed(batch.images)
        noise = torch.randn(images.shape, generator=batch.generator)
        times = torch.randint(self.model.config.times, (len(images),), generator=batch.generator)
        labels = self.dropped(batch.labels, batch.generator)
        with autocast(self.precision):
            loss = self.model.errors(images, noise, times, labels).mean()
        self.descend("optimizer", loss)
        # while training is young, the average forgets its random start sooner
        average_step(self.average, self.model, self.model.config.ema, step)
        return {"loss": loss.item()}

    def dropped(self, labels: Tensor | None, chance: torch.Generator) -> Tensor:
        """(B,) labels of which a share `label_dropout` has become the null class."""
        if labels is None:
            raise ValueError("a ddpm learns with labels")
        hidden = torch.rand(len(labels), generator=chance) < self.model.config.label_dropout
        return torch.where(hidden, self.model.nobody, labels)

    def rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, self.model.config.warmup))
        return warm * half_cosine(step, self.steps)

    def finished(self) -> GeneratorModel:
        return self.average
