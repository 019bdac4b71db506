"""A small class-conditional BigGAN for images of 32 pixels.

Source: Brock et al. 2019 (arXiv 1809.11096): residual blocks, class-conditional batch
normalisation from a shared class vector and a part of the latent code for each block, orthogonal
initial weights, averaged weights, truncated sampling. The hinge loss is theirs too (Lim & Ye
2017); the projection discriminator is that of Miyato & Koyama 2018 (arXiv 1802.05637). Departures
for an hour on a CPU: narrow networks, no self-attention, one discriminator update a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmvaluator.errors import RunError
from gmvaluator.generators.adversarial import (
    AdversarialConfig,
    AdversarialLearner,
    AdversarialModel,
)
from gmvaluator.generators.config import GeneratorConfig, limited, positive
from gmvaluator.generators.layers import (
    autocast,
    fast_precision,
    initialise,
    untouched_randomness,
)
from gmvaluator.generators.randomness import CRITIC, WEIGHTS, generator
from gmvaluator.generators.spectral import normalise

_GRID = 4  # side of the generator's first feature map


@dataclass(frozen=True)
class BigGANConfig(AdversarialConfig):
    """Shape, training recipe and sampling of the BigGAN."""

    size: int = limited(32, 1)
    batch_size: int = limited(64, 2)
    width: int = limited(32, 1)  # channels at 32 pixels; 2, 4 and 4 times as many at 16, 8 and 4
    latent: int = limited(80, 4)  # length of the code; a quarter for each part of the generator
    shared: int = limited(64, 1)  # length of the class vector
    critic_rate: float = positive(2e-4)  # of the discriminator's Adam
    ema: float = limited(0.999, 0.0, 0.999999)  # decay of the averaged weights
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of the training's products
    truncation: float = limited(1.5, 0.0, 100.0)

    name: ClassVar[str] = "biggan"
    default_steps: ClassVar[int] = 10_000
    sizes: ClassVar[tuple[int, ...]] = (32,)
    always_conditional: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.one_of("latent", self.latent // 4 * 4)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at 4, 8, 16 and 32 pixels."""
        return 4 * self.width, 4 * self.width, 2 * self.width, self.width


class BigGAN(AdversarialModel):
    """The generator. The discriminator exists during training only."""

    config_class: ClassVar[type[GeneratorConfig]] = BigGANConfig
    config: BigGANConfig

    def __init__(self, config: BigGANConfig, label_names: Sequence[str] = (), seed: int = 0):
        super().__init__(config, label_names)
        widths, part = config.widths, config.latent // 4
        condition = config.shared + part
        with untouched_randomness():
            self.label = nn.Embedding(config.classes, config.shared)
            self.enter = nn.Linear(part, widths[0] * _GRID**2)
            self.blocks = nn.ModuleList(
                UpBlock(inputs, outputs, condition) for inputs, outputs in pairwise(widths)
            )
            self.norm = nn.BatchNorm2d(widths[-1])
            self.leave = nn.Conv2d(widths[-1], config.channels, 3, padding=1)
        initialise(self, generator(seed, WEIGHTS), "orthogonal", spread=1.0)
        normalise(self, seed, WEIGHTS)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        first, *parts = noise.chunk(4, dim=1)
        label = self.label(
            noise.new_zeros(len(noise), dtype=torch.int64) if labels is None else labels
        )
        h = self.enter(first).reshape(len(noise), -1, _GRID, _GRID)
        for block, part in zip(self.blocks, parts, strict=True):
            h = block(h, torch.cat([label, part], dim=1))
        return torch.tanh(self.leave(F.relu(self.norm(h))))

    def learner(self, steps: int, seed: int = 0) -> BigGANLearner:
        del steps
        return BigGANLearner(self, Critic(self.config, seed))


class UpBlock(nn.Module):
    """Residual block that doubles the side. Both norms depend on the condition."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.norm_in = ConditionalNorm(inputs, condition)
        self.conv_in = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm_out = ConditionalNorm(outputs, condition)
        self.conv_out = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1)

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
        self.gain = nn.Linear(condition, channels, bias=False)
        self.shift = nn.Linear(condition, channels, bias=False)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """(B, C, H, W), (B, condition) → (B, C, H, W)."""
        gain = 1.0 + self.gain(condition)[:, :, None, None]
        shifted: Tensor = self.norm(h) * gain + self.shift(condition)[:, :, None, None]
        return shifted


class Critic(nn.Module):
    """Projection discriminator: images in [−1, 1] and labels → numbers (B,), high for real."""

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
            self.output = nn.Linear(coarse, 1)
            # One row a class, normalised as the other layers are.
            self.label = nn.Linear(config.classes, coarse, bias=False)
        initialise(self, generator(seed, CRITIC), "orthogonal")
        normalise(self, seed, CRITIC)

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
        self.conv_in = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv_out = nn.Conv2d(outputs, outputs, 3, padding=1)
        same = inputs == outputs and not shrink
        self.skip = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1)

    def forward(self, h: Tensor) -> Tensor:
        """(B, inputs, S, S) → (B, outputs, S / 2 or S, likewise)."""
        inner = self.conv_out(F.relu(self.conv_in(h if self.first else F.relu(h))))
        # pooling before the 1 × 1 convolution gives the same and is cheaper
        around = F.avg_pool2d(h, 2) if self.shrink else h
        added: Tensor = (F.avg_pool2d(inner, 2) if self.shrink else inner) + self.skip(around)
        return added


class BigGANLearner(AdversarialLearner):
    """Hinge losses: D minimises relu(1 − D(x)) + relu(1 + D(G(z))), G minimises −D(G(z))."""

    def __init__(self, model: BigGAN, critic: Critic) -> None:
        config = model.config
        super().__init__(model, critic, 0.0, config.critic_rate)
        self.averages = True  # also with ema=0: batch statistics are always those of drawings
        self.precision = fast_precision() if config.precision == "auto" else config.precision

    def restore(self, state: Mapping[str, Any]) -> None:
        """Raises `RunError` for a checkpoint of an earlier version: its optimizers do not fit."""
        if any(name.endswith(".u") for name in state["generator"]):
            raise RunError(
                "the checkpoint of this biggan is of an earlier version of gmvaluator, which "
                "ordered its weights differently; delete the .checkpoint file to start anew"
            )
        super().restore(state)

    def critic_loss(self, real: Tensor, noise: Tensor, labels: Tensor | None) -> Tensor:
        if labels is None:
            raise ValueError("a biggan learns with labels")
        with autocast(self.precision):
            with torch.no_grad():
                drawn = self.model(noise, labels)
            # one pass over both halves: spectral norms are computed once
            judged = self.critic(torch.cat([real, drawn.to(real.dtype)]), labels.repeat(2))
            of_real, of_drawn = judged.to(torch.float32).chunk(2)
        return F.relu(1.0 - of_real).mean() + F.relu(1.0 + of_drawn).mean()

    def generator_loss(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        with autocast(self.precision):
            judged = self.critic(self.model(noise, labels), labels)
        loss: Tensor = -judged.to(torch.float32).mean()
        return loss
