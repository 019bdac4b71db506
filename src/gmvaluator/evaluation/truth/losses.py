"""Losses of generative models at images: the quantity that retraining changes.

A low loss means that the model would draw the image, or one like it. Every model is measured with
the same random numbers, so that losses differ by the models alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gmvaluator.encoders.embedding import embed
from gmvaluator.errors import InputError
from gmvaluator.evaluation.truth.likeness import ENCODER, fixed_encoder
from gmvaluator.generators.adversarial import AdversarialModel
from gmvaluator.generators.base import GeneratorModel
from gmvaluator.generators.beta_vae import VAE
from gmvaluator.generators.data import read_training_data
from gmvaluator.generators.ddpm import DDPM
from gmvaluator.generators.layers import to_signed
from gmvaluator.generators.randomness import STATISTICS, generator
from gmvaluator.geometry import Space, nearest
from gmvaluator.images import ImageSet
from gmvaluator.progress import Silent

Losses = dict[str, NDArray[np.float64]]

SEED = 0
ELBO_DRAWS = 16
NOISINGS = 64  # (time, noise) pairs an image
DRAWN = 2_000  # images drawn from a GAN
NEIGHBOURS = 10

WHAT: Mapping[str, str] = {
    "elbo": f"the negative β-ELBO in nats, mean of {ELBO_DRAWS} codes",
    "denoising": f"the squared error of the predicted noise (image, of a model that predicts it), "
    f"mean of {NOISINGS} times and noises",
    "pixels": f"the mean distance to the {NEIGHBOURS} nearest of {DRAWN:,} drawn images, by pixels",
    "features": f"the mean distance to the {NEIGHBOURS} nearest of {DRAWN:,} drawn images, by "
    f"{ENCODER}",
}


def losses(model: GeneratorModel, images: ImageSet) -> Losses:
    """(m,) losses of a model at images, by name of the loss. `WHAT` describes the losses.

    A VAE and a diffusion model have losses of their own. A GAN has none: its loss is the distance
    of the image to its nearest drawings in fixed spaces. This distance estimates the GAN's density
    at the image (the nearest neighbours of Loftsgaarden & Quesenberry, 1965).

    Raises:
        InputError: the model has classes or is of another family, or the images do not fit the
            model.
    """
    for kind, measure in _MEASURES:
        if isinstance(model, kind):
            with torch.no_grad():
                return measure(model.eval(), images)
    raise InputError(f"{model.config.name} has no loss to measure; pass a VAE, a GAN or a ddpm")


def _pixels(model: GeneratorModel, images: ImageSet) -> Tensor:
    """(m, C, S, S) uint8 in the model's size and channels."""
    read = read_training_data(images, model.config.size, Silent(), conditional=False)
    if read.skipped or read.images.shape[1] > model.config.channels:
        raise InputError(
            f"images of {read.images.shape[1]} channels, {len(read.skipped)} of them unreadable, "
            f"for a model of {model.config.channels}; pass images that it may draw"
        )
    pixels = np.repeat(read.images, model.config.channels // read.images.shape[1], axis=1)
    return torch.from_numpy(np.ascontiguousarray(pixels))


def _elbo(model: Any, images: ImageSet) -> Losses:
    pixels = _pixels(model, images).to(torch.float32) / 255
    total = np.zeros(len(pixels))
    for draw in range(ELBO_DRAWS):
        noise = torch.randn(
            (len(pixels), model.config.latent), generator=generator(SEED, STATISTICS, draw)
        )
        error, divergence = model.elbo_terms(pixels, None, noise)
        total += (error + model.config.beta * divergence).double().numpy()
    return {"elbo": total / ELBO_DRAWS}


def _denoising(model: Any, images: ImageSet) -> Losses:
    signed = to_signed(_pixels(model, images))
    nobody = torch.full((len(signed),), model.nobody)
    total = np.zeros(len(signed))
    for draw in range(NOISINGS):
        # evenly spread times: the middle of each of as many equal parts
        time = int((draw + 0.5) / NOISINGS * model.config.times)
        noise = torch.randn(signed.shape, generator=generator(SEED, STATISTICS, draw))
        times = torch.full((len(signed),), time)
        total += model.errors(signed, noise, times, nobody).double().numpy()
    return {"denoising": total / NOISINGS}


def _nearness(model: Any, images: ImageSet) -> Losses:
    drawn = ImageSet.open(list(model.sample(DRAWN, seed=SEED)))
    by_space = {}
    for name, encoder in (("pixels", f"pixels@{model.config.size}"), ("features", ENCODER)):
        built = fixed_encoder(encoder)
        queries, points = (embed(image_set, built).vectors for image_set in (images, drawn))
        space = Space.fit(built.metric, points)
        squared, _ = nearest(space.place(queries), space.place(points), NEIGHBOURS)
        by_space[name] = np.sqrt(squared.astype(np.float64)).mean(axis=1)
    return by_space


_MEASURES: tuple[tuple[Any, Callable[[Any, ImageSet], Losses]], ...] = (
    (VAE, _elbo),
    (DDPM, _denoising),
    (AdversarialModel, _nearness),
)
