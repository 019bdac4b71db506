"""Packages: versions of those that compute a value, and how to install those that are missing."""

from __future__ import annotations

import platform
import re
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version

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

TORCH = ("torch", "torchvision", "timm")
"""Packages of the extra `torch`, by import name."""


def installed(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Version by package name, Python included; packages that are missing are left out."""
    versions = {"python": platform.python_version()}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = _version(package)
    return versions


# parsing the metadata of all packages takes longer than a small valuation
_version = cache(version)


def how_to_install(extra: str) -> str:
    """The command that installs what an extra of gmvaluator needs: `pip install 'pyiqa>=0.1.13'`.

    The command names the packages of the extra. No registry has gmvaluator itself, so that
    `pip install 'gmvaluator[EXTRA]'` works nowhere, and `'.[EXTRA]'` in a checkout only. A package
    without metadata runs from a checkout.
    """
    with suppress(PackageNotFoundError):
        marked = [line.partition(";") for line in requires("gmvaluator") or ()]
        packages = [
            f"'{requirement.strip()}'"
            for requirement, _, marker in marked
            if re.search(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]", marker)
        ]
        if packages:
            return f"pip install {' '.join(packages)}"
    return f"pip install '.[{extra}]' in the checkout of gmvaluator"


def needs_torch(what: str) -> str:
    """The message of an error: something runs on torch, which is not installed."""
    return f"{what} runs on torch, which is not installed: {how_to_install('torch')}"
