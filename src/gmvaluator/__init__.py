"""How much did each training image contribute to what a generative model produced?

GMValuator (Yang et al., ICLR 2025, arXiv 2304.10701): training-free and model-agnostic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# before any library starts threads: what a process does that forks is settled here
from gmvaluator import threads as _threads  # noqa: F401
from gmvaluator.lazy import lazy_names

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
    from gmvaluator.service.client import Client
    from gmvaluator.valuator import GMValuator
    from gmvaluator.weights import Weights

__all__ = [
    "Client",
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

# the command line answers before torch is imported
_get, _listed = lazy_names(
    __name__,
    {
        "Client": "service.client",
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
    },
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("gmvaluator")
    return _get(name)


def __dir__() -> list[str]:
    return [*_listed(), "__version__"]
