"""Which copies lie within a part of the spacing of training images, and which other images do.

    python benchmarks/near_copies.py --data DATA --out docs/results

The threshold of `dedup="near"` (`gmvaluator.matching.duplicates.find.NEAR_SHARE`) was chosen by it.
2,000 images of a set are the originals; 100 of them are copied in each way, and the re-rank
distance of a copy to its original is compared with the median distance from an original to its
nearest other one. DATA holds mnist/ and cifar10/ (Hugging Face layout).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from results import arguments, publish

from gmvaluator import GMValuator, ImageSet, Valuation
from gmvaluator.images.decoding import encode_jpeg
from gmvaluator.matching.duplicates.find import NEAR_SHARE
from gmvaluator.scoring.weightings.softmax import SPACING_SHARE
from gmvaluator.settings import PRESETS

Pixels = NDArray[np.uint8]

N = 2_000
COPIED = 100
RECALLED = 20
SHARES = (1 / 10, NEAR_SHARE, 1 / 3)
SETS = ("mnist", "cifar10")
SPACES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "robust": {name: PRESETS["robust"][name] for name in ("second_encoder", "rerank")},
    "pixels": {"encoder": "pixels@14", "rerank": "l2"},
}


def compressed(image: Pixels, quality: int) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(encode_jpeg(image, quality))).convert("RGB"))


def resized(image: Pixels, factor: float, *, back: bool) -> Pixels:
    height, width = image.shape[:2]
    size = (round(width * factor), round(height * factor))
    made = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    if back:
        made = made.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(made)


def noised(image: Pixels) -> Pixels:
    chance = np.random.default_rng(int(image.sum()))
    noise = chance.integers(-2, 3, image.shape)
    return np.asarray(np.clip(image.astype(np.int64) + noise, 0, 255), dtype=np.uint8)


WAYS: Mapping[str, Callable[[Pixels], Pixels]] = {
    "JPEG 95": lambda image: compressed(image, 95),
    "JPEG 75": lambda image: compressed(image, 75),
    "JPEG 50": lambda image: compressed(image, 50),
    "twice as large": lambda image: resized(image, 2, back=False),
    "¾ as large and back": lambda image: resized(image, 0.75, back=True),
    "noise of ±2 levels": noised,
    "5 % brighter": lambda image: np.clip(image * 1.05, 0, 255).astype(np.uint8),
}


def to_source(valuation: Valuation, sources: Sequence[int]) -> NDArray[np.float64]:
    """(m,) distance of each valued image to the one it was made of; infinite where not recalled."""
    found = valuation.contributions
    own = found.rows == np.asarray(sources)[:, None]
    return np.asarray(np.where(own, found.distances, np.inf).min(axis=1), dtype=np.float64)


def to_others(valuation: Valuation) -> NDArray[np.float64]:
    """(n,) distance of each training image, valued by itself, to the nearest other one."""
    found = valuation.contributions
    own = found.rows == np.arange(len(found.rows))[:, None]
    return np.asarray(np.where(own, np.inf, found.distances).min(axis=1), dtype=np.float64)


def measure(name: str, data: Path, space: str) -> list[dict[str, Any]]:
    """Shares within each part of the spacing, of copies by how they were made and of originals."""
    images = ImageSet.open(data / name / "train.parquet")
    rows = np.random.default_rng(0).permutation(len(images))[:N]
    originals = [images[int(row)] for row in rows]
    copies = [way(image) for way in WAYS.values() for image in originals[:COPIED]]
    settings: dict[str, Any] = {
        "quality": "none",
        "temperature": "spacing",
        "k": RECALLED,
        "candidates": RECALLED,
    }
    valuator = GMValuator(**settings, dedup="none", **SPACES[space]).fit(originals)
    valued = valuator.value(copies)
    spacing = float(valued.record.settings["temperature_used"]) / SPACING_SHARE
    distances = to_source(valued, list(range(COPIED)) * len(WAYS)).reshape(len(WAYS), COPIED)
    parts = dict(zip(WAYS, distances, strict=True))
    parts["another original"] = to_others(valuator.value(originals))
    return [
        {
            "set": name,
            "space": space,
            "copy": way,
            "within": {
                f"{share:.3f}": float((found <= share * spacing).mean()) for share in SHARES
            },
        }
        for way, found in parts.items()
    ]


def table(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """One row a way of copying; within the chosen part, in the three spaces of both sets."""
    columns = [(name, space) for name in SETS for space in SPACES]
    by_place = {(row["set"], row["space"], row["copy"]): row["within"] for row in found}
    lines = []
    for share in SHARES:
        lines += [
            f"Within {share:.2f} of the spacing:",
            "",
            f"| copy | {' | '.join(f'{name}, {space}' for name, space in columns)} |",
            "|---" * (1 + len(columns)) + "|",
        ]
        for way in (*WAYS, "another original"):
            cells = [by_place[name, space, way][f"{share:.3f}"] for name, space in columns]
            lines.append(f"| {way} | {' | '.join(f'{100 * cell:.1f} %' for cell in cells)} |")
        lines.append("")
    return lines[:-1]


def main() -> None:
    """Parse, measure, write."""
    parser = arguments(__doc__)
    args = parser.parse_args()
    found = [row for name in SETS for space in SPACES for row in measure(name, args.data, space)]
    publish(args.out, "near_copies", {"n": N, "copied": COPIED, "rows": found}, table(found))


if __name__ == "__main__":
    main()
