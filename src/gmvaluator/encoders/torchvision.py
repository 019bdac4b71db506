"""AlexNet and DenseNet-121 of torchvision, as in the paper's comparison of encoders (Table 9)."""

from __future__ import annotations

import re
from typing import Any

import torch
import torchvision

from gmvaluator.encoders._modules import Normalise, frozen
from gmvaluator.encoders.base import Network
from gmvaluator.encoders.variants import input_size, no_variant
from gmvaluator.images import Preprocessing
from gmvaluator.weights import WeightFile, Weights, load_state, load_strict

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

DEFAULT_SIZE = 224

_OLD_DENSE_KEY = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


def build_alexnet(variant: str | None, size: int | None, weights: Weights) -> Network:
    """`alexnet[@size]`: the 4,096 activations before the classifying layer."""
    no_variant("alexnet", variant)
    side = input_size("alexnet", size, DEFAULT_SIZE, minimum=63)
    model, file = load_torchvision("alexnet", weights)
    head = list(model.classifier.children())[:-1]
    trunk = (model.features, model.avgpool, torch.nn.Flatten(), *head)
    return _network("alexnet", side, trunk, file)


def build_densenet121(variant: str | None, size: int | None, weights: Weights) -> Network:
    """`densenet121[@size]`: the 1,024 pooled features after the last ReLU."""
    no_variant("densenet121", variant)
    side = input_size("densenet121", size, DEFAULT_SIZE, minimum=29)
    model, file = load_torchvision("densenet121", weights)
    pool = torch.nn.AdaptiveAvgPool2d(1)
    trunk = (model.features, torch.nn.ReLU(), pool, torch.nn.Flatten())
    return _network("densenet121", side, trunk, file)


def load_torchvision(name: str, weights: Weights) -> tuple[Any, WeightFile]:
    """The torchvision model `name` with its ImageNet weights (`torchvision:<name>`).

    Raises MissingWeightsError, or InputError if the file is of another network.
    """
    file = weights.resolve(f"torchvision:{name}")
    # published DenseNet files predate the rule that module names hold no dots
    state = {_OLD_DENSE_KEY.sub(r"\1\2.", key): v for key, v in load_state(file.path).items()}
    model = torchvision.models.get_model(name, weights=None)
    load_strict(model, state, file.path)
    return model, file


def _network(name: str, side: int, trunk: tuple[torch.nn.Module, ...], file: WeightFile) -> Network:
    return Network(
        name=f"{name}@{side}",
        module=frozen(Normalise.from_unit(MEAN, STD), *trunk),
        preprocessing=Preprocessing(side, interpolation="bilinear"),
        metric="centred-cosine",
        weights=(file,),
    )
