"""Versions of the packages that compute a value, for `run.json` and `doctor`."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "gmvaluator",
    "numpy",
    "scipy",
    "safetensors",
    "torch",
    "torchvision",
    "timm",
    "openvino",
    "faiss-cpu",
    "pillow",
    "pyarrow",
    "open_clip_torch",
    "lpips",
    "stlpips_pytorch",
    "pyiqa",
    "diffusers",
    "mlxtend",
)


def installed(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Version by package name, Python included; packages that are missing are left out."""
    versions = {"python": platform.python_version()}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
