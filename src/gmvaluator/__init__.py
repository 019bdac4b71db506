"""How much did each training image contribute to what a generative model produced?

GMValuator (Yang et al., ICLR 2025, arXiv 2304.10701): training-free and model-agnostic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmvaluator.errors import (
        GMValuatorError,
        ImageError,
        InputError,
        MissingPackageError,
        MissingWeightsError,
        RunError,
    )
    from gmvaluator.images import ImageSet, Preprocessing, Skip
    from gmvaluator.runs.valuation import Valuation
    from gmvaluator.valuator import GMValuator
    from gmvaluator.weights import Weights

_HOMES = {
    "GMValuator": "valuator",
    "Valuation": "runs.valuation",
    "ImageSet": "images",
    "Preprocessing": "images",
    "Skip": "images",
    "Weights": "weights",
    "GMValuatorError": "errors",
    "ImageError": "errors",
    "InputError": "errors",
    "MissingPackageError": "errors",
    "MissingWeightsError": "errors",
    "RunError": "errors",
}

__all__ = [
    "GMValuator",
    "GMValuatorError",
    "ImageError",
    "ImageSet",
    "InputError",
    "MissingPackageError",
    "MissingWeightsError",
    "Preprocessing",
    "RunError",
    "Skip",
    "Valuation",
    "Weights",
]


def __getattr__(name: str) -> Any:
    # names load on first use, so that the command line answers before torch is imported
    if name == "__version__":
        from importlib.metadata import version

        return version("gmvaluator")
    if name not in _HOMES:
        raise AttributeError(f"module 'gmvaluator' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"gmvaluator.{_HOMES[name]}"), name)
