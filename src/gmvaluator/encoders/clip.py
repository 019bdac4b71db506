"""The image towers of CLIP and its relatives, through open_clip (Radford et al., ICML 2021)."""

from __future__ import annotations

import contextlib
import logging
import urllib.parse
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import torch

from gmvaluator.encoders._modules import Normalise, frozen
from gmvaluator.encoders.base import Network
from gmvaluator.encoders.variants import only_size
from gmvaluator.errors import InputError, MissingPackageError
from gmvaluator.images import Preprocessing
from gmvaluator.versions import how_to_install
from gmvaluator.weights import Weights, load_state, load_strict

DEFAULT_MODEL = "ViT-B-32/openai"

HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

# the text tower is built, because open_clip has no image tower without one, but never used
_SMALLEST_TEXT = {"context_length": 2, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


def build(variant: str | None, size: int | None, weights: Weights) -> Network:
    """`clip[:<model>/<pretrained>]`, default ViT-B-32/openai; cosine of the image embeddings.

    The weights are `clip:<model>/<pretrained>`: the user's path (a state dict of the whole model
    or of its `visual` part), else the hub or address that open_clip lists.

    Raises MissingPackageError without open_clip, InputError for an unknown model or size,
    MissingWeightsError if the weights are not reachable.
    """
    open_clip = _open_clip()
    name, tag = _split(open_clip, variant or DEFAULT_MODEL)
    encoder = f"clip:{name}/{tag}"
    settings = open_clip.get_pretrained_cfg(name, tag)
    side = only_size(encoder, size, _native_size(open_clip, name))
    file = weights.resolve(encoder, _sources(settings))
    quick = bool(settings.get("quick_gelu", False))
    tower = _image_tower(open_clip, name, quick, load_state(file.path), file.path)
    return Network(
        name=f"{encoder}@{side}",
        module=frozen(Normalise.from_unit(settings["mean"], settings["std"]), tower),
        preprocessing=_preprocessing(encoder, settings, side),
        metric="cosine",
        weights=(file,),
    )


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise MissingPackageError(
            f"encoder 'clip' needs the package open_clip_torch: {how_to_install('clip')}"
        ) from error
    return open_clip


def _split(open_clip: Any, variant: str) -> tuple[str, str]:
    """`<model>/<pretrained>` checked against open_clip's list."""
    name, _, tag = variant.partition("/")
    if name not in open_clip.list_models():
        near = get_close_matches(name, open_clip.list_models(), n=4) or ["ViT-B-32", "ViT-L-14"]
        raise InputError(f"open_clip has no model {name!r}; did you mean {', '.join(near)}?")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags:
        raise InputError(
            f"open_clip has no weights {tag!r} for {name}; write clip:{name}/<one of "
            f"{', '.join(tags) or 'none: choose another model'}>"
        )
    return name, tag


def _native_size(open_clip: Any, name: str) -> int:
    size = open_clip.get_model_config(name)["vision_cfg"]["image_size"]
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise InputError(f"clip model {name} wants {size} images; choose one with square input")
    return int(sides.pop())


def _sources(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Addresses of safetensors and state dicts, in open_clip's order of preference."""
    addresses = []
    if hub := settings.get("hf_hub", ""):
        repo, _, file = hub.rpartition("/")
        if file:
            stem = file.rsplit(".", 1)[0]
            addresses += [f"hf:{repo}/{stem}.safetensors", f"hf:{repo}/{file}"]
        else:
            addresses += [f"hf:{repo}/{name}" for name in HUB_FILES]
    url = settings.get("url", "")
    # OpenAI's own files are TorchScript programs, which would have to be run to be read
    if url and "openaipublic" not in url:
        addresses.append(url + _digest_in_name(url))
    return tuple(dict.fromkeys(addresses))


def _digest_in_name(url: str) -> str:
    """open_clip's own releases carry the first digits of their SHA-256 in the file name."""
    stem = Path(urllib.parse.urlsplit(url).path).stem
    prefix = stem.rpartition("-")[2]
    published = "mlfoundations/open_clip" in url and len(prefix) == 8
    return f"#sha256={prefix}" if published else ""


def _image_tower(
    open_clip: Any, name: str, quick_gelu: bool, state: Mapping[str, torch.Tensor], path: Path
) -> torch.nn.Module:
    """The image tower of `name` filled with `state`, in float32."""
    # force_quick_gelu only switches it on; the -quickgelu configurations have it on already
    with _quiet_root_log():
        model = open_clip.create_model(
            name, force_quick_gelu=quick_gelu, text_cfg=dict(_SMALLEST_TEXT), pretrained_hf=False
        )
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    state = open_clip.convert.convert_state_dict(model, state)
    visual = {
        key.removeprefix("visual."): tensor
        for key, tensor in state.items()
        if key.startswith("visual.")
    }
    tower: torch.nn.Module = model.visual.float()
    load_strict(tower, visual or state, path)
    return tower


@contextlib.contextmanager
def _quiet_root_log() -> Iterator[None]:
    """Mute open_clip's warning, on the root logger, that a tower about to be filled is random.

    The handler keeps `logging.warning` from configuring the application's logging by itself.
    """
    root, handler = logging.getLogger(), logging.NullHandler()
    threshold = root.manager.disable
    root.addHandler(handler)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(threshold)
        root.removeHandler(handler)


def _preprocessing(encoder: str, settings: Mapping[str, Any], side: int) -> Preprocessing:
    fits: dict[str, Literal["squash", "crop"]] = {"shortest": "crop", "squash": "squash"}
    mode = settings.get("resize_mode", "shortest")
    if mode not in fits:
        raise InputError(f"{encoder} pads images ({mode}), which is not supported; choose another")
    bilinear = settings.get("interpolation") == "bilinear"
    return Preprocessing(side, fits[mode], "bilinear" if bilinear else "bicubic")
