"""One update of a GAN as a pure function, which can be repeated and differentiated.

The losses are those of Terashita et al., "Influence estimation for generative adversarial networks"
(ICLR 2021). The critic minimises [Σ softplus(−D(x)) + Σ softplus(D(G(z)))] / B. The generator
minimises the mean of softplus(−D(G(z))). Both have an L2 penalty on their weights. The optimizer is
plain gradient descent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmvaluator.arguments import real_number
from gmvaluator.baselines.checks import check_at_least
from gmvaluator.errors import InputError
from gmvaluator.generators.layers import untouched_randomness
from gmvaluator.generators.randomness import WEIGHTS, generator

Parameters = dict[str, Tensor]
Updates = Literal["simultaneous", "alternating"]
# (critic, generator, weights of the real images, real images, codes) → both networks after it
Step = Callable[[Parameters, Parameters, Tensor, Tensor, Tensor], tuple[Parameters, Parameters]]


@dataclass(frozen=True)
class GANRecipe:
    """The training settings of a traced GAN.

    Attributes:
        epochs: passes over the training images.
        traced: number of last epochs that are recorded.
        batch_size: B, number of real images and of codes per update.
        learning_rate: learning rate of the generator.
        critic_rate: learning rate of the critic.
        weight_decay: factor λ of λ/2 · ‖W‖², W the weights without biases.
        updates: `simultaneous`: both networks step from the same point; `alternating`: the
            generator sees the critic's new weights.
        seed: seed of the order and the codes.
    """

    epochs: int = 80
    traced: int = 1
    batch_size: int = 100
    # at 1e-2 some digit GANs get unstable, and estimates lose all order (docs/baselines.md)
    learning_rate: float = 5e-3
    critic_rate: float = 5e-3
    weight_decay: float = 1e-3
    updates: Updates = "simultaneous"
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(1, "epochs", self.epochs)
        check_at_least(1, "traced", self.traced)
        check_at_least(1, "batch_size", self.batch_size)
        check_at_least(0, "seed", self.seed)
        if self.traced > self.epochs:
            raise InputError(f"traced={self.traced} of {self.epochs} epochs; pass traced ≤ epochs")
        if self.updates not in ("simultaneous", "alternating"):
            raise InputError(f"updates={self.updates!r}; choose from simultaneous, alternating")
        for name in ("learning_rate", "critic_rate", "weight_decay"):
            if not real_number(name, getattr(self, name), "a number ≥ 0") >= 0:
                raise InputError(f"{name}={getattr(self, name)}; pass a number ≥ 0")


# of Terashita et al.'s accuracy test, on 10,000 points; their cleansing takes 50,000 and 70 epochs
OFFICIAL_POINTS = GANRecipe(epochs=50, learning_rate=1e-3, critic_rate=1e-3, weight_decay=0.0)


@dataclass(frozen=True)
class GANPair:
    """The two networks of a GAN, without layers that couple the images of a batch.

    Attributes:
        generator: codes (B, latent) → images.
        critic: images → (B,) or (B, 1) logits, high for real images.
        latent: length of a code.

    Raises:
        InputError: a layer couples the images of a batch, or draws at random.
    """

    generator: nn.Module
    critic: nn.Module
    latent: int

    def __post_init__(self) -> None:
        for role, network in (("generator", self.generator), ("critic", self.critic)):
            for name, layer in network.named_modules():
                kind = type(layer).__name__
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    raise InputError(
                        f"the {role} has {kind} ({name or 'itself'}), which couples the images of "
                        "a batch: what removing one of them does is then not defined. Use "
                        "LayerNorm or GroupNorm"
                    )
                if isinstance(layer, nn.modules.dropout._DropoutNd):
                    raise InputError(
                        f"the {role} has {kind} ({name or 'itself'}), whose draws are not in the "
                        "trace; leave it out"
                    )

    def start(self) -> tuple[Parameters, Parameters]:
        """Present weights of (critic, generator), not copied."""
        critic, generator_ = (
            {name: parameter.detach() for name, parameter in network.named_parameters()}
            for network in (self.critic, self.generator)
        )
        return critic, generator_

    @property
    def dtype(self) -> torch.dtype:
        """Type of the generator's weights. Data and codes have the same type."""
        return next(self.generator.parameters()).dtype

    def draw(self, parameters: Parameters, codes: Tensor) -> Tensor:
        """Images of the codes by a generator with the given weights."""
        images: Tensor = torch.func.functional_call(self.generator, parameters, (codes,))
        return images

    def judge(self, parameters: Parameters, images: Tensor) -> Tensor:
        """(B,) logits of a critic with the given weights."""
        logits: Tensor = torch.func.functional_call(self.critic, parameters, (images,))
        return logits.reshape(len(images))


def make_step(pair: GANPair, recipe: GANRecipe) -> Step:
    """The update of both networks, with a weight per real image.

    The weights are 1 in training. A weight of 0 removes an image. The denominator stays the number
    of images.
    """

    def critic_loss(
        critic: Parameters, maker: Parameters, weights: Tensor, real: Tensor, codes: Tensor
    ) -> Tensor:
        true = weights * F.softplus(-pair.judge(critic, real))
        false = F.softplus(pair.judge(critic, pair.draw(maker, codes)))
        return true.sum() / len(real) + false.mean() + _penalty(critic, recipe.weight_decay)

    def maker_loss(maker: Parameters, critic: Parameters, codes: Tensor) -> Tensor:
        judged = pair.judge(critic, pair.draw(maker, codes))
        return F.softplus(-judged).mean() + _penalty(maker, recipe.weight_decay)

    def step(
        critic: Parameters, maker: Parameters, weights: Tensor, real: Tensor, codes: Tensor
    ) -> tuple[Parameters, Parameters]:
        down = torch.func.grad(critic_loss)(critic, maker, weights, real, codes)
        moved = _descended(critic, down, recipe.critic_rate)
        opponent = moved if recipe.updates == "alternating" else critic
        up = torch.func.grad(maker_loss)(maker, opponent, codes)
        return moved, _descended(maker, up, recipe.learning_rate)

    return step


def _descended(parameters: Parameters, gradients: Parameters, rate: float) -> Parameters:
    return {name: parameter - rate * gradients[name] for name, parameter in parameters.items()}


def _penalty(parameters: Parameters, decay: float) -> Tensor:
    squares = [parameter.square().sum() for parameter in parameters.values() if parameter.dim() > 1]
    return 0.5 * decay * torch.stack(squares).sum()


def flatten(*networks: Parameters) -> Tensor:
    """All weights in one vector, network by network."""
    return torch.cat(
        [parameter.reshape(-1) for network in networks for parameter in network.values()]
    )


def unflatten(vector: Tensor, *like: Parameters) -> tuple[Parameters, ...]:
    """The weights in a vector of `flatten`, in networks shaped like `like`."""
    networks, at = [], 0
    for network in like:
        parts = {}
        for name, parameter in network.items():
            parts[name] = vector[at : at + parameter.numel()].reshape(parameter.shape)
            at += parameter.numel()
        networks.append(parts)
    return tuple(networks)


def mlp_gan(
    shape: Sequence[int],
    *,
    latent: int = 32,
    hidden: Sequence[int] = (128, 128),
    critic_hidden: Sequence[int] | None = None,
    activation: Callable[[], nn.Module] = nn.Tanh,
    bounded: bool = True,
    bias: bool = True,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> GANPair:
    """A fully connected GAN.

    Args:
        shape: shape of one image, such as (1, 28, 28), or of one point, such as (2,).
        latent: length of the code.
        hidden: widths of the generator's hidden layers.
        critic_hidden: widths of the critic's hidden layers. Default: `hidden`.
        activation: activation after each hidden layer. Take a smooth one for exact influence: the
            kinks of ReLU spoil the linearisation.
        bounded: whether the generator ends in tanh, for data in [−1, 1].
        bias: whether layers have a bias.
        dtype: type of the weights and the data. In float32, rounding can exceed the effect of one
            image. float64 takes about twice as long.
        seed: seed of the initial weights (uniform, by fan-in).
    """
    numbers = 1
    for side in shape:
        numbers *= side
    ends: list[nn.Module] = [nn.Tanh()] if bounded else []
    between = hidden if critic_hidden is None else critic_hidden
    with untouched_randomness():
        maker = nn.Sequential(
            *_layers((latent, *hidden, numbers), activation, bias),
            *ends,
            nn.Unflatten(1, tuple(shape)),
        )
        critic = nn.Sequential(nn.Flatten(), *_layers((numbers, *between, 1), activation, bias))
    drawn = generator(seed, WEIGHTS)
    for network in (maker, critic):
        for layer in network:
            if isinstance(layer, nn.Linear):
                _uniform(layer, layer.in_features**-0.5, drawn)
    return GANPair(maker.to(dtype), critic.to(dtype), latent)


@torch.no_grad()
def _uniform(layer: nn.Linear, limit: float, drawn: torch.Generator) -> None:
    for parameter in layer.parameters():
        parameter.copy_(2 * limit * torch.rand(parameter.shape, generator=drawn) - limit)


def official_points_gan(seed: int = 0, activation: Callable[[], nn.Module] = nn.ReLU) -> GANPair:
    """The fully connected GAN of Terashita et al. for points of the plane, in float64.

    The original has ReLU. With ReLU some estimates are wrong by multiples. With tanh they hold.
    """
    return mlp_gan(
        (2,),
        latent=10,
        hidden=(32, 32),
        critic_hidden=(64, 64),
        activation=activation,
        bounded=False,
        bias=False,
        dtype=torch.float64,
        seed=seed,
    )


def official_mnist_gan(latent: int = 32) -> GANPair:
    """The convolutional GAN of Terashita et al. for 28 × 28 grey images in [−1, 1].

    Seven valid convolutions of 32 channels, each followed by a sigmoid and layer normalisation;
    the generator mirrors them. Slow on a processor: half a second an update.
    """
    kernels, strides = (4, 3, 3, 2, 3, 3, 2), (1, 2, 1, 1, 2, 1, 1)
    down: list[nn.Module] = []
    up: list[nn.Module] = []
    for place, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
        down += [nn.Conv2d(32 if place else 1, 32, kernel, stride), *_normalised()]
    # the mirror: padding where a stride of two left one row over
    sides = [28]
    for kernel, stride in zip(kernels, strides, strict=True):
        sides.append((sides[-1] - kernel) // stride + 1)
    for place in reversed(range(len(kernels))):
        kernel, stride = kernels[place], strides[place]
        over = sides[place] - ((sides[place + 1] - 1) * stride + kernel)
        inputs = 32 if place < len(kernels) - 1 else latent
        up += [nn.ConvTranspose2d(inputs, 32, kernel, stride, 0, over), *_normalised()]
    features = 32 * sides[-1] ** 2
    critic = nn.Sequential(*down, nn.Flatten(), nn.Linear(features, 1))
    first = nn.Unflatten(1, (latent, 1, 1))
    maker = nn.Sequential(first, *up, nn.Conv2d(32, 1, 1), nn.Tanh())
    return GANPair(maker, critic, latent)


def _normalised() -> list[nn.Module]:
    return [nn.Sigmoid(), nn.GroupNorm(1, 32)]


def _layers(widths: Sequence[int], activation: Any, bias: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=bias), activation()]
    return layers[:-1]
