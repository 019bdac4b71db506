"""Spectral normalisation of all layers (Miyato et al. 2018, arXiv 1802.05957), by torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from gmvaluator.generators.layers import untouched_randomness
from gmvaluator.generators.randomness import derived_seed


def normalise(network: nn.Module, *seed: int) -> None:
    """Divide each linear and convolutional weight by its estimated largest singular value.

    The estimates start from random vectors of `seed` and are iterated to the present weights.
    Weights in files of earlier versions are renamed when they are loaded.
    """
    with untouched_randomness():
        torch.manual_seed(derived_seed(*seed))
        for layer in list(network.modules()):
            if isinstance(layer, nn.Linear | nn.Conv2d):
                spectral_norm(layer, eps=1e-12)
    network.register_load_state_dict_pre_hook(_rename)  # type: ignore[no-untyped-call]


def _rename(network: nn.Module, weights: dict[str, Any], *_: object) -> None:
    """`layer.weight` and `layer.u` of an earlier version → torch's names."""
    for name in [name.removesuffix(".u") for name in weights if name.endswith(".u")]:
        weight, u = weights.pop(f"{name}.weight"), weights.pop(f"{name}.u")
        weights[f"{name}.parametrizations.weight.original"] = weight
        weights[f"{name}.parametrizations.weight.0._u"] = u
        v = F.normalize(weight.flatten(1).T @ u, dim=0)
        weights[f"{name}.parametrizations.weight.0._v"] = v
