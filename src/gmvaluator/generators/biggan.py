"""A small class-conditional BigGAN for images of 32 pixels.

Source: Brock et al. 2019 (arXiv 1809.11096): residual blocks, class-conditional batch
normalisation from a shared class vector and a part of the latent code for each block, orthogonal
initial weights, averaged weights, truncated sampling. The hinge loss is theirs too (Lim & Ye
2017); the projection discriminator is that of Miyato & Koyama 2018 (arXiv 1802.05637). Departures
for an hour on a CPU: narrow networks, no self-attention, one discriminator update a step.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmvaluator.generators.averaging import average_step, restate, truncated
from gmvaluator.generators.base import GeneratorModel, Learner, TrainingBatch
from gmvaluator.generators.config import GeneratorConfig
from gmvaluator.generators.layers import (
    autocast,
    fast_precision,
    frozen,
    initialise,
    to_signed,
    to_unit,
    untouched_randomness,
)
from gmvaluator.generators.randomness import CRITIC, WEIGHTS, generator
from gmvaluator.generators.spectral import SpectralConv2d, SpectralLinear, settle

_GRID = 4  # side of the generator's first feature map


@dataclass(frozen=True)
class BigGANConfig(GeneratorConfig):
    """Shape, training recipe and sampling of the BigGAN."""

    size: int = 32
    width: int = 32  # channels at 32 pixels; 2, 4 and 4 times as many at 16, 8 and 4
    latent: int = 80  # length of the code; a quarter for each of four parts of the generator
    shared: int = 64  # length of the class vector
    learning_rate: float = 2e-4  # of the generator's Adam
    critic_rate: float = 2e-4  # of the discriminator's Adam
    ema: float = 0.999  # decay of the averaged weights, which are those saved
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of the training's products
    truncation: float = 1.5  # codes are normal within ± truncation; 0 = not truncated

    name: ClassVar[str] = "biggan"
    default_steps: ClassVar[int] = 10_000
    sizes: ClassVar[tuple[int, ...]] = (32,)
    always_conditional: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "width", "shared")
        self.at_least(2, "batch_size")
        self.at_least(4, "latent")
        self.one_of("latent", self.latent // 4 * 4)
        self.positive("learning_rate", "critic_rate")
        self.between(0.0, 0.999999, "ema")
        self.between(0.0, 100.0, "truncation")
        self.one_of("precision", "auto", "float32", "bfloat16")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at 4, 8, 16 and 32 pixels."""
        return 4 * self.width, 4 * self.width, 2 * self.width, self.width


class BigGAN(GeneratorModel):
    """The generator; its discriminator exists during training only."""

    config_class: ClassVar[type[GeneratorConfig]] = BigGANConfig
    sampling: ClassVar[tuple[str, ...]] = ("truncation",)
    config: BigGANConfig

    def __init__(self, config: BigGANConfig, label_names: Sequence[str] = (), seed: int = 0):
        super().__init__(config, label_names)
        widths, part = config.widths, config.latent // 4
        condition = config.shared + part
        with untouched_randomness():
            self.label = nn.Embedding(config.classes, config.shared)
            self.enter = SpectralLinear(part, widths[0] * _GRID**2)
            self.blocks = nn.ModuleList(
                UpBlock(inputs, outputs, condition) for inputs, outputs in pairwise(widths)
            )
            self.norm = nn.BatchNorm2d(widths[-1])
            self.leave = SpectralConv2d(widths[-1], config.channels, 3, padding=1)
        chance = generator(seed, WEIGHTS)
        initialise(self, chance, "orthogonal", spread=1.0)
        settle(self, chance)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.config.latent,)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """(B, latent), (B,) int64 → images (B, C, 32, 32) in [−1, 1]."""
        first, *parts = noise.chunk(4, dim=1)
        label = self.label(labels)
        h = self.enter(first).reshape(len(noise), -1, _GRID, _GRID)
        for block, part in zip(self.blocks, parts, strict=True):
            h = block(h, torch.cat([label, part], dim=1))
        return torch.tanh(self.leave(F.relu(self.norm(h))))

    def draw(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        asked = noise.new_zeros(len(noise), dtype=torch.int64) if labels is None else labels
        return to_unit(self(truncated(noise, self.config.truncation), asked))

    def learner(self, steps: int, seed: int = 0) -> BigGANLearner:
        del steps
        return BigGANLearner(self, Critic(self.config, seed))


class UpBlock(nn.Module):
    """Residual block that doubles the side; both of its norms depend on the condition."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.norm_in = ConditionalNorm(inputs, condition)
        self.conv_in = SpectralConv2d(inputs, outputs, 3, padding=1)
        self.norm_out = ConditionalNorm(outputs, condition)
        self.conv_out = SpectralConv2d(outputs, outputs, 3, padding=1)
        self.skip = SpectralConv2d(inputs, outputs, 1)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """(B, inputs, S, S), (B, condition) → (B, outputs, 2 S, 2 S)."""
        inner = F.interpolate(F.relu(self.norm_in(h, condition)), scale_factor=2.0)
        inner = self.conv_in(inner)
        inner = self.conv_out(F.relu(self.norm_out(inner, condition)))
        # a 1 × 1 convolution and nearest upsampling commute; this order is four times cheaper
        added: Tensor = inner + F.interpolate(self.skip(h), scale_factor=2.0)
        return added


class ConditionalNorm(nn.Module):
    """Batch normalisation whose gain and bias are linear in the condition."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = SpectralLinear(condition, channels, bias=False)
        self.shift = SpectralLinear(condition, channels, bias=False)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """(B, C, H, W), (B, condition) → (B, C, H, W)."""
        gain = 1.0 + self.gain(condition)[:, :, None, None]
        shifted: Tensor = self.norm(h) * gain + self.shift(condition)[:, :, None, None]
        return shifted


class Critic(nn.Module):
    """Projection discriminator: images in [−1, 1] and labels → one number each, high = real."""

    def __init__(self, config: BigGANConfig, seed: int = 0) -> None:
        super().__init__()
        coarse, _, middle, fine = config.widths
        with untouched_randomness():
            self.blocks = nn.Sequential(
                DownBlock(config.channels, fine, first=True, shrink=True),
                DownBlock(fine, middle, shrink=True),
                DownBlock(middle, coarse),
                DownBlock(coarse, coarse),
            )
            self.output = SpectralLinear(coarse, 1)
            # One row a class, normalised as the other layers are.
            self.label = SpectralLinear(config.classes, coarse, bias=False)
        chance = generator(seed, CRITIC)
        initialise(self, chance, "orthogonal")
        settle(self, chance)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """(B, C, 32, 32), (B,) int64 → (B,): ψ(φ(x)) + ⟨class vector, φ(x)⟩."""
        features = F.relu(self.blocks(images)).sum(dim=(2, 3))
        vectors = self.label(F.one_hot(labels, self.label.in_features).to(features.dtype))
        judged: Tensor = self.output(features)[:, 0] + (vectors * features).sum(dim=1)
        return judged


class DownBlock(nn.Module):
    """Residual block without norms; `shrink` halves the side, `first` takes raw images."""

    def __init__(
        self, inputs: int, outputs: int, *, first: bool = False, shrink: bool = False
    ) -> None:
        super().__init__()
        self.first, self.shrink = first, shrink
        self.conv_in = SpectralConv2d(inputs, outputs, 3, padding=1)
        self.conv_out = SpectralConv2d(outputs, outputs, 3, padding=1)
        same = inputs == outputs and not shrink
        self.skip = nn.Identity() if same else SpectralConv2d(inputs, outputs, 1)

    def forward(self, h: Tensor) -> Tensor:
        """(B, inputs, S, S) → (B, outputs, S / 2 or S, likewise)."""
        inner = self.conv_out(F.relu(self.conv_in(h if self.first else F.relu(h))))
        # pooling before the 1 × 1 convolution gives the same and is cheaper
        around = F.avg_pool2d(h, 2) if self.shrink else h
        added: Tensor = (F.avg_pool2d(inner, 2) if self.shrink else inner) + self.skip(around)
        return added


class BigGANLearner(Learner):
    """Hinge losses: D minimises relu(1 − D(x)) + relu(1 + D(G(z))), G minimises −D(G(z))."""

    def __init__(self, model: BigGAN, critic: Critic) -> None:
        self.model, self.critic, config = model, critic, model.config
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.precision = fast_precision() if config.precision == "auto" else config.precision
        betas = (0.0, 0.999)
        adam = torch.optim.Adam
        super().__init__(
            {"generator": model, "discriminator": critic, "average": self.average},
            {
                "generator_optimizer": adam(model.parameters(), config.learning_rate, betas),
                "discriminator_optimizer": adam(critic.parameters(), config.critic_rate, betas),
            },
        )

    def update(self, batch: TrainingBatch, step: int) -> dict[str, float]:
        real, labels = to_signed(batch.images), batch.labels
        if labels is None:
            raise ValueError("a biggan learns with labels")
        noise = torch.randn((2, len(real), self.model.config.latent), generator=batch.generator)
        with autocast(self.precision):
            with torch.no_grad():
                drawn = self.model(noise[0], labels)
            # one pass over both halves: spectral norms are computed once
            judged = self.critic(torch.cat([real, drawn.to(real.dtype)]), labels.repeat(2))
            of_real, of_drawn = judged.to(torch.float32).chunk(2)
        critic_loss = F.relu(1.0 - of_real).mean() + F.relu(1.0 + of_drawn).mean()
        self.descend("discriminator_optimizer", critic_loss)
        with frozen(self.critic):
            with autocast(self.precision):
                judged = self.critic(self.model(noise[1], labels), labels)
            loss = -judged.to(torch.float32).mean()
            self.descend("generator_optimizer", loss)
        average_step(self.average, self.model, self.model.config.ema, step)
        return {"generator": loss.item(), "discriminator": critic_loss.item()}

    def finished(self) -> GeneratorModel:
        """Averaged weights, with batch statistics of their own drawings."""
        model = copy.deepcopy(self.average)
        restate(model)
        return model
