"""Versions of what computes a value, for `run.json` and `doctor`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "gmvaluator",
    "numpy",
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
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
