"""The functions that gradient-based valuers differentiate: generator and image → one number.

`loss` is the generator's training loss (TRAK, Park et al. 2023). `square` is the mean square of the
network's output (D-TRAK, Zheng et al. 2024, arXiv 2311.00500, section 4). `square` has no theory,
but it foretells the retraining of diffusion models better.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, cast

from torch import Tensor, arange, nn

from gmvaluator.baselines.vae_gradients import ElboNetwork, Objective
from gmvaluator.errors import InputError
from gmvaluator.generators.base import GeneratorModel
from gmvaluator.generators.beta_vae import VAE
from gmvaluator.generators.ddpm import DDPM, add_noise

Functional = Literal["loss", "square"]
FUNCTIONALS: tuple[Functional, ...] = ("loss", "square")


class Differentiated(nn.Module):
    """A generator whose forward pass gives one number per image, a mean over S draws of noise."""

    def __init__(self, draws: int) -> None:
        super().__init__()
        self.draws = draws

    @property
    @abstractmethod
    def noise_shape(self) -> tuple[int, ...]:
        """(S, …) shape of the standard normal noise of one image."""

    @abstractmethod
    def forward(self, pixels: Tensor, labels: Tensor | None, noise: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1], (B,) class numbers or None, (B, S, …) → (B,)."""


class VAENumber(Differentiated):
    """The negative β-ELBO of a VAE in nats, or the mean square of its decoder's logits."""

    def __init__(self, model: VAE, functional: Functional, draws: int) -> None:
        super().__init__(draws)
        self.square = functional == "square"
        # the model in one place only: torch.func swaps the weights of each place
        self.elbo = ElboNetwork(model, Objective("bce", model.config.beta))

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return self.draws, self._model.config.latent

    @property
    def _model(self) -> VAE:
        return cast("VAE", self.elbo.network)

    def forward(self, pixels: Tensor, labels: Tensor | None, noise: Tensor) -> Tensor:
        if not self.square:
            losses: Tensor = self.elbo(pixels, labels, noise)
            return losses
        mean, spread = self._model.encode(pixels, labels)
        codes = mean[:, None] + noise * (0.5 * spread).exp()[:, None]
        repeated = None if labels is None else labels.repeat_interleave(self.draws)
        logits = self._model.decode(codes.flatten(0, 1), repeated)
        return logits.square().reshape(len(pixels), -1).mean(dim=1)


class DDPMNumber(Differentiated):
    """The denoising loss of a diffusion model, or the mean square of its network's output.

    The number is a mean over S times with one noise each. The times are the middles of S equal
    parts.
    """

    def __init__(self, model: DDPM, functional: Functional, draws: int) -> None:
        super().__init__(draws)
        self.model = model
        self.square = functional == "square"
        self.times = ((arange(draws) + 0.5) / draws * model.config.times).long()

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return self.draws, *self.model.config.image_shape

    def forward(self, pixels: Tensor, labels: Tensor | None, noise: Tensor) -> Tensor:
        images = (2 * pixels - 1).repeat_interleave(self.draws, dim=0)
        times = self.times.to(pixels.device).repeat(len(pixels))
        labels_or_nobody = (
            times.new_full((len(pixels),), self.model.nobody) if labels is None else labels
        )
        numbers = self._numbers(
            images, noise.flatten(0, 1), times, labels_or_nobody.repeat_interleave(self.draws)
        )
        return numbers.reshape(len(pixels), self.draws).mean(dim=1)

    def _numbers(self, images: Tensor, noise: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        if not self.square:
            return self.model.errors(images, noise, times, labels)
        noisy = add_noise(images, noise, self.model.shares.to(images.device)[times])
        output: Tensor = self.model.network(noisy, times / self.model.config.times, labels)
        return output.square().flatten(1).mean(dim=1)


def differentiated(model: GeneratorModel, functional: Functional, draws: int) -> Differentiated:
    """The function of a generator that a functional differentiates.

    Raises:
        InputError: the family has no loss of single images.
    """
    if isinstance(model, VAE):
        return VAENumber(model, functional, draws)
    if isinstance(model, DDPM):
        return DDPMNumber(model, functional, draws)
    raise InputError(
        f"a {model.config.name} has no loss of single images to take gradients of; pass a VAE or "
        "a ddpm"
    )
