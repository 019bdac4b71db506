"""DreamSim (Fu et al., NeurIPS 2023): fine-tuned vision transformers, distance 1 − cosine.

The published weights are plain transformers and low-rank updates (LoRA) of their attention. The
updates are added into the matrices they change, W + (α/r)·B·A, which leaves ordinary networks:
nothing of the dreamsim package, which downloads base models by itself, is needed to run them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from timm.models.vision_transformer import VisionTransformer

from gmvaluator.encoders._modules import Normalise, frozen
from gmvaluator.encoders.base import Network
from gmvaluator.encoders.variants import only_size, variant_of
from gmvaluator.errors import InputError
from gmvaluator.images import Preprocessing
from gmvaluator.weights import LocalWeightFile, Weights, load_state, load_strict, weights_digest

SIZE = 224
WIDTH, DEPTH, HEADS = 768, 12, 12  # ViT-B

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class Branch:
    """One vision transformer of a DreamSim model.

    `file` lies in the model's folder, or is Meta's file registered as `registered`. A `clip`
    branch ends in CLIP's projection; the others in the class token before the last norm.
    """

    file: str
    patch: int
    kind: Literal["dino", "dinov2", "synclr", "clip", "openai-clip"]
    registered: str = ""

    @property
    def is_clip(self) -> bool:
        return self.kind in ("clip", "openai-clip")


DINO = Branch("dino_vitbase16_pretrain.pth", 16, "dino", "dino:vitb16")
DINOV2 = Branch("dinov2_vitb14_pretrain.pth", 14, "dinov2", "dinov2:vitb14")
CLIP_16 = Branch("clip_vitb16_pretrain.pth.tar", 16, "openai-clip")
OPEN_CLIP_16 = Branch("open_clip_vitb16_pretrain.pth.tar", 16, "clip")

TYPES: Mapping[str, tuple[str, tuple[Branch, ...]]] = {
    "ensemble": ("ensemble_lora", (DINO, CLIP_16, OPEN_CLIP_16)),
    "dino_vitb16": ("dino_vitb16_single_lora", (DINO,)),
    "clip_vitb32": (
        "clip_vitb32_single_lora",
        (Branch("clip_vitb32_pretrain.pth.tar", 32, "openai-clip"),),
    ),
    "open_clip_vitb32": (
        "open_clip_vitb32_single_lora",
        (Branch("open_clip_vitb32_pretrain.pth.tar", 32, "clip"),),
    ),
    "dinov2_vitb14": ("dinov2_vitb14_single_lora", (DINOV2,)),
    "synclr_vitb16": ("synclr_vitb16_single_lora", (Branch("synclr_vit_b_16.pth", 16, "synclr"),)),
    "dino_vitb16_patch": ("dino_vitb16_patch_lora", (DINO,)),
    "dinov2_vitb14_patch": ("dinov2_vitb14_patch_lora", (DINOV2,)),
}

_LORA = re.compile(r"extractor_list\.(\d+)\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight")


class QuickGELU(torch.nn.Module):
    """x·σ(1.702·x), the approximation OpenAI's CLIP was trained with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


class ProjectedToken(torch.nn.Module):
    """(B, tokens, width) → (B, 512): CLIP's projection of the class token."""

    def __init__(self, projection: torch.Tensor) -> None:
        super().__init__()
        self.projection = torch.nn.Parameter(projection.float(), requires_grad=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens[:, 0] @ self.projection


class ClassToken(torch.nn.Module):
    """(B, tokens, width) → (B, width)."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens[:, 0]


class TokenAndPatchMean(torch.nn.Module):
    """(B, tokens, width) → (B, 2·width): each token centred and scaled, patches then averaged."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        unit = centred_unit(tokens)
        return torch.cat([unit[:, 0], unit[:, 1:].mean(dim=1)], dim=1)


class Ensemble(torch.nn.Module):
    """(B, 3, 224, 224) uint8 RGB → (B, dim): the branches' features, joined."""

    def __init__(self, branches: list[torch.nn.Module], centre: bool) -> None:
        super().__init__()
        self.branches = torch.nn.ModuleList(branches)
        self.centre = centre

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = torch.cat([branch(pixels) for branch in self.branches], dim=1)
        return centred_unit(features) if self.centre else features


def centred_unit(features: torch.Tensor) -> torch.Tensor:
    """Each vector (last axis) minus its own mean, at unit length: DreamSim's normalisation."""
    centred = features - features.mean(dim=-1, keepdim=True)
    return centred / centred.square().sum(dim=-1, keepdim=True).sqrt()


def build(variant: str | None, size: int | None, weights: Weights) -> Network:
    """`dreamsim[:type]`, default ensemble; the types are those of the dreamsim package 0.2.1.

    The weights are the folder `dreamsim:<type>`, laid out as its published ZIP file (MIT), and
    for DINO branches Meta's file `dino:vitb16` or `dinov2:vitb14` (Apache-2.0), which may also
    lie in that folder or its `checkpoints` sub-folder, where the dreamsim package keeps it.

    Raises InputError for an unknown type or size or unfitting files, MissingWeightsError.
    """
    kind = variant_of("dreamsim", variant, tuple(TYPES))
    encoder = f"dreamsim:{kind}"
    only_size(encoder, size, SIZE)
    folder = weights.resolve(encoder)
    if not folder.path.is_dir():
        raise InputError(
            f"the weights given for {encoder!r} are the file {folder.path}; "
            "unpack the published ZIP file and pass its folder"
        )
    adapter, branches = TYPES[kind]
    updates = read_updates(folder.path / adapter, len(branches))
    patches = kind.endswith("_patch")
    modules, files = [], [folder]
    for branch, update in zip(branches, updates, strict=True):
        file = _branch_file(branch, folder, weights)
        modules.append(_build_branch(branch, file.path, update, patches))
        files += [] if file.path.is_relative_to(folder.path) and not branch.registered else [file]
    return Network(
        name=f"{encoder}@{SIZE}",
        module=frozen(Ensemble(modules, centre=not patches)),
        preprocessing=Preprocessing(SIZE),
        metric="cosine",
        weights=tuple(files),
    )


def read_updates(folder: Path, branches: int) -> list[dict[str, torch.Tensor]]:
    """For each branch, module name → the (out, in) matrix (α/r)·B·A to add to its weight.

    Raises InputError if `folder` holds no LoRA adapter of the plain kind.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        scale = config["lora_alpha"] / config["r"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder} holds no readable LoRA adapter ({error}); pass the unpacked ZIP file"
        ) from error
    unusual = [key for key in ("use_dora", "use_rslora", "fan_in_fan_out") if config.get(key)]
    if unusual or config.get("bias", "none") != "none":
        raise InputError(f"{folder} is a LoRA adapter with {unusual or 'biases'}, not DreamSim's")
    names = ("adapter_model.safetensors", "adapter_model.bin")
    path = next((folder / name for name in names if (folder / name).exists()), folder / names[0])
    halves: dict[tuple[int, str], dict[str, torch.Tensor]] = {}
    for key, tensor in load_state(path).items():
        if match := _LORA.search(key):
            halves.setdefault((int(match[1]), match[2]), {})[match[3]] = tensor.float()
    updates: list[dict[str, torch.Tensor]] = [{} for _ in range(branches)]
    for (index, module), pair in halves.items():
        if index >= branches or pair.keys() != {"A", "B"}:
            raise InputError(f"{path} holds an unexpected update of branch {index}, {module}")
        updates[index][module] = scale * (pair["B"] @ pair["A"])
    if not all(updates):
        raise InputError(f"{path} lacks updates for some of the {branches} transformers")
    return updates


def _branch_file(branch: Branch, folder: LocalWeightFile, weights: Weights) -> LocalWeightFile:
    for path in (folder.path / "checkpoints" / branch.file, folder.path / branch.file):
        if path.is_file():
            return LocalWeightFile(branch.registered or branch.file, path, weights_digest(path))
    if branch.registered:
        return weights.resolve(branch.registered)
    raise InputError(f"{folder.path} lacks {branch.file}; pass the unpacked ZIP file of DreamSim")


def _build_branch(
    branch: Branch, path: Path, updates: Mapping[str, torch.Tensor], patches: bool
) -> torch.nn.Module:
    state = _base_state(branch, path)
    projection = state.pop("proj", None)
    if branch.is_clip and projection is None:
        raise InputError(f"{path} lacks CLIP's projection 'proj'; pass DreamSim's own file")
    for module, update in updates.items():
        key = f"{module}.weight"
        if key not in state or state[key].shape != update.shape:
            raise InputError(f"{path} has no matrix {key!r} of the adapter's shape")
        state[key] = state[key].float() + update
    transformer = _transformer(branch)
    load_strict(transformer, state, path)
    if not branch.is_clip:
        # these branches are compared before the last norm, which was not fine-tuned
        transformer.norm = torch.nn.Identity()
    head: torch.nn.Module = TokenAndPatchMean() if patches else ClassToken()
    if branch.is_clip and projection is not None:
        head = ProjectedToken(projection)
    mean, std = OPENAI if branch.is_clip else IMAGENET
    return torch.nn.Sequential(Normalise.from_unit(mean, std), transformer, head)


def _transformer(branch: Branch) -> Any:
    """An empty ViT-B whose tensors are named as in DINO's repository; (B, 3, 224, 224) → tokens."""
    epsilon = 1e-5 if branch.is_clip else 1e-6
    transformer = VisionTransformer(
        img_size=SIZE,
        patch_size=branch.patch,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        num_classes=0,
        global_pool="",
        init_values=1.0 if branch.kind == "dinov2" else None,
        norm_layer=partial(torch.nn.LayerNorm, eps=epsilon),
        act_layer=QuickGELU if branch.kind == "openai-clip" else torch.nn.GELU,
    )
    if branch.is_clip:
        transformer.norm_pre = torch.nn.LayerNorm(WIDTH, eps=epsilon)
    return transformer


def _base_state(branch: Branch, path: Path) -> dict[str, torch.Tensor]:
    """The branch's tensors under the names of `_transformer`."""
    state = load_state(path)
    if branch.kind == "synclr":
        marker = "module.visual."
        return {key.removeprefix(marker): t for key, t in state.items() if key.startswith(marker)}
    if branch.is_clip:
        return {re.sub(r"^pos_drop\.", "norm_pre.", key): t for key, t in state.items()}
    if branch.kind == "dinov2":
        state.pop("mask_token", None)
        if "pos_embed" in state:
            state["pos_embed"] = _resized_positions(state["pos_embed"], SIZE // branch.patch)
    return state


def _resized_positions(positions: torch.Tensor, side: int) -> torch.Tensor:
    """(1, 1 + M², width) → (1, 1 + side², width), as DINOv2 does it at run time.

    Bicubic by a factor (side + 0.1) / M: the 0.1 is DINOv2's guard against rounding and shifts
    the result slightly, so it has to be kept.
    """
    token, grid = positions[:, :1], positions[:, 1:]
    old = round(grid.shape[1] ** 0.5)
    if old == side:
        return positions
    factor = (side + 0.1) / old
    grid = grid.reshape(1, old, old, -1).permute(0, 3, 1, 2).float()
    grid = torch.nn.functional.interpolate(grid, scale_factor=(factor, factor), mode="bicubic")
    return torch.cat([token, grid.permute(0, 2, 3, 1).reshape(1, side * side, -1)], dim=1)
