"""A fully connected β-VAE for small images, unconditional or class-conditional.

Sources: Kingma & Welling 2014 (arXiv 1312.6114) for the evidence lower bound; Higgins et al.
2017, "beta-VAE" (ICLR) for the factor β; Sohn et al. 2015 (NeurIPS) for the conditional form,
here with the one-hot class appended to the input of the encoder and of the decoder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from gmvaluator.errors import InputError, RunError
from gmvaluator.publishing import publish_file

FORMAT = "gmvaluator/beta-vae"


@dataclass(frozen=True)
class BetaVAEConfig:
    """Shape and training recipe of a β-VAE; saved with its weights."""

    height: int = 28
    width: int = 28
    channels: int = 1  # 1 = grey, 3 = RGB
    hidden: tuple[int, ...] = (512, 256)  # widths of the encoder; the decoder mirrors them
    latent: int = 16
    beta: float = 1.0  # weight of the KL term; 1 = the plain VAE
    classes: int = 0  # 0 = unconditional
    # Value of the hot entry of the one-hot class. At 1 it is drowned by hundreds of pixels: the
    # code learns to carry the class, and a sample then often shows another class than asked.
    label_scale: float = 10.0
    sampling_scale: float = 1.0  # spread of sampled codes; < 1 trades variety for typicality
    batch_size: int = 128
    learning_rate: float = 1e-3  # Adam; decays to 0 along a half cosine

    def __post_init__(self) -> None:
        sizes = (self.height, self.width, self.latent, self.batch_size, *self.hidden)
        if not self.hidden or any(not isinstance(s, int) or s < 1 for s in sizes):
            raise InputError(f"Sizes of a β-VAE must be whole numbers ≥ 1; got {self}.")
        if self.channels not in (1, 3):
            raise InputError(f"channels={self.channels}; pass 1 (grey) or 3 (RGB).")
        if self.classes < 0 or self.beta < 0:
            raise InputError(f"classes={self.classes}, beta={self.beta}; both must be ≥ 0.")
        if min(self.learning_rate, self.label_scale, self.sampling_scale) <= 0:
            raise InputError(f"learning_rate and both scales must be > 0; got {self}.")

    @property
    def pixels(self) -> int:
        """Numbers in one flattened image."""
        return self.height * self.width * self.channels


class BetaVAE(nn.Module):
    """Encoder image → (mean, log variance) of a Gaussian code; decoder code → pixel logits."""

    def __init__(self, config: BetaVAEConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        widths = (config.pixels + config.classes, *config.hidden)
        self.encoder = _layers((*widths, 2 * config.latent))
        self.decoder = _layers(
            (config.latent + config.classes, *reversed(config.hidden), config.pixels)
        )
        self._initialise(torch.Generator().manual_seed(seed))

    @property
    def classes(self) -> int:
        """How many classes can be asked for; 0 = unconditional."""
        return self.config.classes

    def encode(self, pixels: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, pixels) float in [0, 1], (B,) int64 → mean and log variance, (B, latent) each."""
        mean, log_variance = self.encoder(self._with_class(pixels, labels)).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, latent), (B,) int64 → pixel logits (B, pixels); their sigmoid is the image."""
        logits: Tensor = self.decoder(self._with_class(codes, labels))
        return logits

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
        error = F.binary_cross_entropy_with_logits(logits, pixels, reduction="none").sum(dim=1)
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1)
        return error, divergence

    def loss(self, pixels: Tensor, labels: Tensor | None, noise: Tensor) -> Tensor:
        """Negative β-ELBO, mean over the batch: reconstruction + β · KL (Higgins et al., Eq. 4)."""
        error, divergence = self.elbo_terms(pixels, labels, noise)
        return (error + self.config.beta * divergence).mean()

    @torch.no_grad()
    def sample(
        self, n: int, labels: Sequence[int] | None = None, seed: int = 0
    ) -> NDArray[np.uint8]:
        """Draw `n` images: (n, H, W) uint8 grey or (n, H, W, 3) uint8 RGB.

        Codes come from the prior N(0, 1), narrowed by `config.sampling_scale`. Without labels
        a conditional model takes its classes in turn: 0, 1, …, 0, 1, …
        Raises `InputError` for labels the model does not have.
        """
        if n < 0:
            raise InputError(f"n={n} images asked for; pass n ≥ 0.")
        if labels is None and self.classes:
            labels = [i % self.classes for i in range(n)]
        targets = check_labels(labels, n, self.classes)
        generator = torch.Generator().manual_seed(seed)
        codes = torch.randn((n, self.config.latent), generator=generator)
        codes *= self.config.sampling_scale
        device = next(self.parameters()).device
        targets = None if targets is None else targets.to(device)
        shades = torch.sigmoid(self.decode(codes.to(device), targets)).mul(255).round()
        shape = (n, self.config.height, self.config.width, self.config.channels)
        images = shades.to("cpu", torch.uint8).reshape(shape).numpy()
        return images[..., 0] if self.config.channels == 1 else images

    def save(self, path: str | Path, dtype: Literal["float32", "float16"] = "float32") -> None:
        """Write weights and config to one safetensors file; replaces it in one step.

        Raises `RunError` if the file cannot be written or its folder does not exist.
        """
        from safetensors.torch import save

        stored = torch.float16 if dtype == "float16" else torch.float32
        tensors = {k: v.detach().to("cpu", stored) for k, v in self.state_dict().items()}
        metadata = {"format": FORMAT, "config": json.dumps(asdict(self.config))}
        target = Path(path)
        if not target.parent.is_dir():
            raise RunError(f"cannot write {target}: there is no folder {target.parent}; create it")
        with publish_file(target) as part:
            part.write_bytes(save(tensors, metadata))

    @classmethod
    def load(cls, path: str | Path) -> BetaVAE:
        """Read a file written by `save`; raises `RunError` if it is anything else."""
        from safetensors.torch import load_file

        metadata = read_metadata(Path(path))
        if metadata.get("format") != FORMAT:
            raise RunError(f"{path} was not saved by BetaVAE.save; pass a file that was.")
        try:
            fields: dict[str, Any] = json.loads(metadata["config"])
            config = BetaVAEConfig(**{**fields, "hidden": tuple(fields["hidden"])})
            model = cls(config)
            weights = {k: v.to(torch.float32) for k, v in load_file(path).items()}
            model.load_state_dict(weights)
        except (InputError, KeyError, TypeError, ValueError, RuntimeError) as error:
            first_line = str(error).splitlines()[0]
            raise RunError(f"Config and weights in {path} do not fit: {first_line}") from error
        return model.eval()

    def _with_class(self, inputs: Tensor, labels: Tensor | None) -> Tensor:
        if not self.classes:
            return inputs
        if labels is None:
            raise InputError(f"This β-VAE has {self.classes} classes; pass a label for each image.")
        one_hot = F.one_hot(labels, self.classes).to(inputs.dtype)
        return torch.cat([inputs, self.config.label_scale * one_hot], dim=1)

    def _initialise(self, generator: torch.Generator) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
                nn.init.zeros_(layer.bias)
        # A last encoder layer at full scale starts with codes far from the prior, and exp of the
        # log variance can overflow in the first steps.
        with torch.no_grad():
            self.get_submodule(f"encoder.{2 * len(self.config.hidden)}").weight.mul_(0.1)  # type: ignore[operator]


def train_beta_vae(
    images: NDArray[np.uint8],
    labels: Sequence[int] | NDArray[np.int64] | None,
    config: BetaVAEConfig,
    epochs: int = 60,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> BetaVAE:
    """Fit a β-VAE with Adam; the same seed, data and machine give the same weights.

    `images` is (N, H, W) or (N, H, W, C) uint8, `labels` (N,) class numbers below
    `config.classes` or None when that is 0. `progress(epoch, loss)` is called after each epoch
    (1-based) with the mean loss over it, in nats. Raises `InputError` for data that does not
    match the config.
    """
    pixels = flatten_images(images, config)
    targets = check_labels(labels, len(pixels), config.classes)
    if len(pixels) == 0 or epochs < 1:
        raise InputError(f"{len(pixels)} images and {epochs} epochs; pass at least one of each.")
    generator = torch.Generator().manual_seed(seed)
    model = BetaVAE(config, seed).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    steps = epochs * -(-len(pixels) // config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for epoch in range(1, epochs + 1):
        total = 0.0
        order = torch.randperm(len(pixels), generator=generator)
        for rows in torch.split(order, config.batch_size):
            noise = torch.randn((len(rows), config.latent), generator=generator)
            loss = model.loss(pixels[rows], None if targets is None else targets[rows], noise)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        if progress is not None:
            progress(epoch, total / len(pixels))
    return model.eval()


def flatten_images(images: NDArray[np.uint8], config: BetaVAEConfig) -> Tensor:
    """(N, H, W[, C]) uint8 → (N, pixels) float32 in [0, 1]; `InputError` if the shape differs."""
    wanted = (config.height, config.width, config.channels)
    shape = (*images.shape[1:], 1) if images.ndim == 3 else images.shape[1:]
    if images.dtype != np.uint8 or shape != wanted:
        raise InputError(
            f"Got {images.dtype} images of shape {images.shape}; this β-VAE wants uint8 "
            f"(N, {', '.join(map(str, wanted))})."
        )
    return torch.from_numpy(images.reshape(len(images), -1).astype(np.float32) / 255.0)


def check_labels(
    labels: Sequence[int] | NDArray[np.int64] | None, n: int, classes: int
) -> Tensor | None:
    """(n,) int64 class numbers, or None for a model without classes; else `InputError`."""
    if classes == 0:
        if labels is not None:
            raise InputError("Labels were given to a β-VAE without classes; pass labels=None.")
        return None
    if labels is None or len(labels) != n:
        given = "no labels" if labels is None else f"{len(labels)} labels"
        raise InputError(f"Got {given} for {n} images; pass one class number for each image.")
    numbers = np.asarray(labels)
    if n and not (np.issubdtype(numbers.dtype, np.integer) and numbers.ndim == 1):
        raise InputError(f"Labels must be whole numbers from 0 to {classes - 1}.")
    wrong = numbers[(numbers < 0) | (numbers >= classes)]
    if wrong.size:
        raise InputError(f"Label {wrong[0]} is not one of the classes 0 to {classes - 1}.")
    return torch.from_numpy(numbers.astype(np.int64))


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; `RunError` if there is no readable one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as handle:
            return dict(handle.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise RunError(f"Cannot read {path} as a safetensors file: {error}.") from error


def _layers(widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers of these widths with ReLU between them, left uninitialised."""
    modules: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        if i:
            modules.append(nn.ReLU())
        # skip_init: the default initialisation would draw from torch's global generator.
        modules.append(nn.utils.skip_init(nn.Linear, inputs, outputs))  # type: ignore[no-untyped-call]
    return nn.Sequential(*modules)
