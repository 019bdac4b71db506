"""A picture of what a generator draws: one row a class, or as many rows of anything.

python scripts/sample_grid.py FILE.safetensors --out docs/images/samples-gan.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from gmvaluator.generators import load_generator


def main() -> None:
    """Draw, arrange, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("generator", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--rows", type=int, default=10, help="of a generator without classes")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    generator = load_generator(options.generator)
    rows, columns = generator.classes or options.rows, options.columns
    labels = [i // columns for i in range(rows * columns)] if generator.classes else None
    images = generator.sample(rows * columns, labels, seed=options.seed)
    lines = images.reshape(rows, columns, *images.shape[1:])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack([np.hstack(list(line)) for line in lines])).save(options.out)


if __name__ == "__main__":
    main()
