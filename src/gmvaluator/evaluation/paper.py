"""Figures that the paper reports (Yang et al., ICLR 2025, arXiv 2304.10701)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Tables 2 and 7: best variant, identical class ratio in percent by k
CLASS_RATIO: Mapping[tuple[str, str], Mapping[int, float]] = MappingProxyType(
    {
        ("mnist", "beta-vae"): {30: 88.8, 50: 88.1, 100: 86.8},
        ("mnist", "gan"): {30: 97.7, 50: 97.7, 100: 97.4},
        ("mnist", "ddpm"): {30: 93.9, 50: 93.4, 100: 92.6},
        ("cifar10", "biggan"): {30: 77.9},
    }
)
# Table 2: VAE-TracIn. Its CIFAR-10 row has k·ratio = 1.88 at every k and lies below chance, so it
# looks like a fault of that evaluation.
VAE_TRACIN_RATIO: Mapping[str, Mapping[int, float]] = MappingProxyType(
    {"mnist": {30: 72.00, 50: 71.11, 100: 68.58}, "cifar10": {30: 6.28, 50: 3.77, 100: 1.88}}
)
# Tables 4 and 15: seconds on an RTX 3080 for MNIST, of so many training and generated images
SECONDS_SIZE = (60_000, 10_000)
SECONDS: Mapping[str, float] = MappingProxyType(
    {"no-rerank": 2137, "l2": 3388, "lpips": 4771, "dreamsim": 17086, "if4gan": 14543}
)
# Table 4: seconds a generated image
SECONDS_A_SAMPLE: Mapping[str, float] = MappingProxyType({"no-rerank": 0.250, "vae-tracin": 47.945})
