"""Which copies lie within a part of the spacing of training images, and which other images do.

    python benchmarks/near_copies.py --data DATA --out docs/results

The thresholds of `dedup="near"` were chosen by it: `NEAR_SHARE` (`matching.duplicates.find`) and
`MOST_DIFFERENT` (`matching.duplicates.differences`).
2,000 images of a set are the originals; 100 of them are copied in each way. The re-rank distance of
a copy to its original is compared with the median distance from an original to its nearest other
one, and the largest difference of a part of the two pictures is measured. DATA holds mnist/ and
cifar10/ (Hugging Face layout).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from results import arguments, publish

from gmvaluator import GMValuator, ImageSet, Valuation
from gmvaluator.images import Preprocessing
from gmvaluator.images.decoding import encode_jpeg
from gmvaluator.matching.duplicates.differences import MOST_DIFFERENT, SIDE, difference
from gmvaluator.matching.duplicates.find import NEAR_SHARE
from gmvaluator.scoring.weightings.softmax import SPACING_PARTS
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


def cropped(image: Pixels, share: float) -> Pixels:
    """`share` of each side is cut off; the rest has the size of the whole again."""
    height, width = image.shape[:2]
    box = (share * width, share * height, (1 - share) * width, (1 - share) * height)
    made = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, box)
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
    "crop 2 %": lambda image: cropped(image, 0.02),
    "crop 5 %": lambda image: cropped(image, 0.05),
}
OTHER = "another original"


def to_source(valuation: Valuation, sources: Sequence[int]) -> NDArray[np.float64]:
    """(m,) distance of each valued image to the one it was made of; infinite where not recalled."""
    found = valuation.contributions
    own = found.rows == np.asarray(sources)[:, None]
    return np.asarray(np.where(own, found.distances, np.inf).min(axis=1), dtype=np.float64)


def to_others(valuation: Valuation) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(n,) distance of each training image, valued by itself, to the nearest other one; its row."""
    found = valuation.contributions
    own = found.rows == np.arange(len(found.rows))[:, None]
    distances = np.where(own, np.inf, found.distances).astype(np.float64)
    nearest = distances.argmin(axis=1)[:, None]
    rows = np.take_along_axis(found.rows, nearest, axis=1)[:, 0]
    return np.take_along_axis(distances, nearest, axis=1)[:, 0], rows


def small(images: Sequence[Pixels]) -> list[Pixels]:
    """The images as `difference` takes them."""
    batches = ImageSet.open(list(images)).batches(Preprocessing(SIDE, interpolation="bilinear"))
    return [pixels for batch in batches for pixels in batch.pixels]


def differences(one: Sequence[Pixels], other: Sequence[Pixels]) -> NDArray[np.float64]:
    return np.array([difference(*pair) for pair in zip(one, other, strict=True)])


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
    spacing = float(valued.record.settings["temperature_used"]) * SPACING_PARTS
    distances = to_source(valued, list(range(COPIED)) * len(WAYS)).reshape(len(WAYS), COPIED)
    parts = dict(zip(WAYS, distances, strict=True))
    parts[OTHER], nearest = to_others(valuator.value(originals))
    small_originals = small(originals)
    differ = differences(small(copies), small_originals[:COPIED] * len(WAYS))
    different = dict(zip(WAYS, differ.reshape(len(WAYS), COPIED), strict=True))
    # the nearest ones only: no other could be called a copy
    closest = np.argsort(parts[OTHER])[:COPIED]
    different[OTHER] = np.full(N, np.inf)
    different[OTHER][closest] = differences(
        [small_originals[row] for row in closest],
        [small_originals[row] for row in nearest[closest]],
    )
    return [
        {
            "set": name,
            "space": space,
            "copy": way,
            "within": {
                f"{share:.3f}": float((found <= share * spacing).mean()) for share in SHARES
            },
            "called": float(
                ((found <= NEAR_SHARE * spacing) & (different[way] <= MOST_DIFFERENT)).mean()
            ),
            "no part differs": float((different[way] <= MOST_DIFFERENT).mean()),
            "least": float(different[way].min()),
        }
        for way, found in parts.items()
    ]


def _within(row: Mapping[str, Any], share: float) -> float:
    return float(row["within"][f"{share:.3f}"])


def table(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """One row a way of copying; within the chosen part, in the three spaces of both sets."""
    columns = [(name, space) for name in SETS for space in SPACES]
    by_place = {(row["set"], row["space"], row["copy"]): row for row in found}
    parts: list[tuple[str, Callable[[Mapping[str, Any]], float]]] = [
        *(
            (
                f"Within {share:.2f} of the spacing:",
                partial(_within, share=share),
            )
            for share in SHARES
        ),
        (
            f"Within {NEAR_SHARE:.2f} of the spacing and no part differs by more than "
            f"{MOST_DIFFERENT:g}, which makes a near copy:",
            lambda row: row["called"],
        ),
        (
            f"No part differs by more than {MOST_DIFFERENT:g}, whatever the distance (of other "
            f"originals the {COPIED} nearest pairs, in parts of all {N:,}):",
            lambda row: row["no part differs"],
        ),
    ]
    lines = []
    for title, share_of in parts:
        lines += [
            title,
            "",
            f"| copy | {' | '.join(f'{name}, {space}' for name, space in columns)} |",
            "|---" * (1 + len(columns)) + "|",
        ]
        for way in (*WAYS, OTHER):
            cells = [share_of(by_place[name, space, way]) for name, space in columns]
            lines.append(f"| {way} | {' | '.join(f'{100 * cell:.1f} %' for cell in cells)} |")
        lines.append("")
    least = [by_place[name, space, OTHER]["least"] for name, space in columns]
    lines.append(
        "Least difference of a part between two originals: "
        + ", ".join(
            f"{one:.3f} ({name}, {space})"
            for one, (name, space) in zip(least, columns, strict=True)
        )
        + "."
    )
    return lines


def main() -> None:
    """Parse, measure, write."""
    parser = arguments(__doc__)
    args = parser.parse_args()
    found = [row for name in SETS for space in SPACES for row in measure(name, args.data, space)]
    publish(args.out, "near_copies", {"n": N, "copied": COPIED, "rows": found}, table(found))


if __name__ == "__main__":
    main()
