"""Photographs for benchmarks, since none of a free licence lie at hand.

Images of CIFAR-10, enlarged, with texture and grain. The amplitude of the texture falls as 1/f, as
that of natural images does (Field, 1987). They are JPEGs of quality 90 with halved colour (4:2:0),
which cameras write. How many bits they take decides how long decoding takes, so there are two
kinds: `sharp`, of about 2.5 bits a pixel, and `soft`, of about 1, as a portrait before a blurred
background.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

QUALITY = 90
KINDS = {"sharp": (18.0, 1.5), "soft": (6.0, 0.5)}
"""Standard deviations of texture and grain, in grey levels."""
TEXTURES = 4


def photographs(data: Path, side: int, n: int, kind: str) -> list[bytes]:
    """JPEG files of n square photographs of different CIFAR images; DATA holds cifar10/."""
    column = pq.read_table(data / "cifar10" / "test.parquet", columns=["image"])["image"]
    return [
        photograph(column[row]["bytes"].as_py(), side, row, kind)
        for row in range(min(n, len(column)))
    ]


def photograph(small: bytes, side: int, seed: int, kind: str) -> bytes:
    """A JPEG file of an image, enlarged to `side` pixels, with texture and grain."""
    rng = np.random.default_rng(seed)
    enlarged = Image.open(io.BytesIO(small)).convert("RGB").resize((side, side))
    texture = _textures(side, kind)[rng.integers(TEXTURES)]
    shift = rng.integers(0, side, 2)
    texture = np.roll(texture, tuple(shift), axis=(0, 1))[:, :: rng.choice((-1, 1))]
    pixels = np.asarray(enlarged, np.float32) + texture[..., None]
    target = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(
        target, "JPEG", quality=QUALITY, subsampling="4:2:0"
    )
    return target.getvalue()


@cache
def _textures(side: int, kind: str) -> NDArray[np.float32]:
    """(TEXTURES, side, side) texture and grain."""
    rng = np.random.default_rng(side)
    texture, grain = KINDS[kind]
    squared = np.fft.fftfreq(side)[:, None] ** 2 + np.fft.rfftfreq(side)[None] ** 2
    squared[0, 0] = 1
    fields = []
    for _ in range(TEXTURES):
        phases = rng.standard_normal(squared.shape) + 1j * rng.standard_normal(squared.shape)
        field = np.fft.irfft2(phases / np.sqrt(squared), s=(side, side))
        fine = rng.standard_normal((side, side))
        fields.append(texture * field / field.std() + grain * fine)
    return np.asarray(fields, np.float32)
