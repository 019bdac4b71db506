"""Opening models: detects the kind of a model, and makes samplers of Python callables."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gmvaluator import generators
from gmvaluator.errors import InputError, MissingPackageError
from gmvaluator.files.seals import hash_file
from gmvaluator.samplers.base import Label, PixelRange, Sampler
from gmvaluator.samplers.networks import code_drawer, code_shape, network_sampler
from gmvaluator.samplers.pipelines import open_pipeline, pipeline_sampler
from gmvaluator.versions import TORCH, needs_torch

SPECS = (
    "'demo', a generator saved by gmvaluator (.safetensors), a TorchScript (.pt) or torch.export "
    "(.pt2) file, a diffusers folder or hub id (org/name), 'package.module:callable'; in Python "
    "also a callable, a torch module or a diffusers pipeline"
)


def load_sampler(
    spec: str | os.PathLike[str] | Callable[..., object],
    *,
    latent: int | tuple[int, ...] | None = None,
    pixel_range: PixelRange = "unit",
    inference_steps: int | None = None,
    guidance: float | None = None,
    truncation: float | None = None,
    device: str = "cpu",
) -> Sampler:
    """Open a model to draw from.

    Args:
        spec: a callable f(n, seed), f(n) or either with a keyword `labels`; the import path
            'package.module:callable' of one; a TorchScript (.pt) or torch.export (.pt2) file
            or module (in eval mode) that maps latent codes (B, *latent) to images; a diffusers
            pipeline (folder, hub id or object); a .safetensors file saved by
            `gmvaluator.generators`; or 'demo'. Callables and pipelines run their code: load only
            models you trust.
        latent: length or shape of one latent code. Needed for a .pt file; a .pt2 file has it.
        pixel_range: range of float images of a callable or file.
        inference_steps: denoising steps of a diffusers pipeline or a ddpm; None = its own.
        guidance: scale of a ddpm's classifier-free guidance; None = its own.
        truncation: bound on the codes of a GAN, 0 = none; None = its own.
        device: torch device for files and pipelines.

    Raises:
        InputError: `spec` is no such model, or its file cannot be opened.
        MissingPackageError: diffusers is needed and not installed.
        MissingWeightsError: a hub id cannot be reached.
    """
    if pixel_range not in ("unit", "symmetric"):
        raise InputError(f"pixel_range={pixel_range!r}; pass 'unit' or 'symmetric'.")
    if callable(spec):
        return _from_object(spec, latent, pixel_range, inference_steps, device)
    text = os.fspath(spec)
    path = Path(text)
    sampling = {"sampling_steps": inference_steps, "guidance": guidance, "truncation": truncation}
    if text == "demo":
        return _demo(sampling)
    if (path / "model_index.json").is_file():
        return open_pipeline(text, inference_steps, device)
    if path.is_file():
        if path.suffix == ".safetensors":
            return _from_generator(path, sampling, device)
        if path.suffix in (".pt", ".pth", ".pt2", ".ts"):
            return network_sampler(path, latent, pixel_range, device)
    elif path.suffix in (".safetensors", ".pt", ".pth", ".pt2", ".ts"):
        raise InputError(f"There is no file {text}; check the path.")
    elif re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", text):
        return _from_callable(_import(text), text, pixel_range)
    elif not path.exists() and re.fullmatch(r"(hf:)?[\w.-]+/[\w.-]+", text):
        return open_pipeline(text.removeprefix("hf:"), inference_steps, device)
    raise InputError(f"{text!r} is no model that can be drawn from; pass {SPECS}.")


def _import(spec: str) -> Callable[..., object]:
    module_name, _, attribute = spec.partition(":")
    try:
        target: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"Cannot import {spec}: {error}. Check the name and that its folder is on the "
            "Python path (PYTHONPATH=.)."
        ) from error
    if not callable(target):
        raise InputError(f"{spec} is a {type(target).__name__}; wanted a callable f(n, seed).")
    function: Callable[..., object] = target
    return function


def _from_object(
    spec: Callable[..., object],
    latent: int | tuple[int, ...] | None,
    pixel_range: PixelRange,
    inference_steps: int | None,
    device: str,
) -> Sampler:
    """A callable, a torch module or a diffusers pipeline that is in memory already."""
    owner = getattr(spec, "__module__", None) or "?"
    name = f"{owner}:{getattr(spec, '__qualname__', type(spec).__name__)}"
    if hasattr(spec, "set_progress_bar_config"):
        return pipeline_sampler(spec, name, inference_steps, device)
    if hasattr(spec, "named_parameters"):
        draw_batch = code_drawer(spec, name, code_shape(name, latent), None, device)
        return Sampler(name, draw_batch, pixel_range=pixel_range)
    return _from_callable(spec, name, pixel_range)


def _from_callable(function: Callable[..., object], name: str, pixel_range: PixelRange) -> Sampler:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} has no readable signature; wrap it as f(n, seed).") from error
    kinds = [p.kind for p in parameters.values() if p.name != "labels"]
    positional = sum(
        kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for kind in kinds
    )
    many = inspect.Parameter.VAR_POSITIONAL in kinds
    if positional == 0 and not many:
        raise InputError(f"{name} takes no number of images; write it as f(n, seed) or f(n).")
    seed_by_name = "seed" in parameters
    takes_labels = "labels" in parameters

    def draw_batch(n: int, seed: int, labels: Sequence[Label] | None) -> object:
        keywords: dict[str, Any] = {"labels": labels} if takes_labels else {}
        if seed_by_name:
            return function(n, seed=seed, **keywords)
        if positional > 1 or many:
            return function(n, seed, **keywords)
        return function(n, **keywords)

    return Sampler(name, draw_batch, takes_labels, pixel_range=pixel_range)


def _demo(sampling: Mapping[str, float | None]) -> Sampler:
    """A sampler of the packaged generator, which has no settings of the drawing."""
    given = [setting for setting, value in sampling.items() if value is not None]
    if given:
        raise InputError(f"The demo generator has no sampling setting {given[0]}; leave it out.")
    model = generators.light_demo_generator()
    return _class_sampler(model, model.label_names, "demo", model.fingerprint)


def _from_generator(path: Path, sampling: Mapping[str, float | None], device: str) -> Sampler:
    """A sampler of a generator file. `sampling`: settings to change."""
    settings = {setting: value for setting, value in sampling.items() if value is not None}
    try:
        model = generators.load_generator(path, **settings).to(device)
    except ModuleNotFoundError as error:
        if error.name not in TORCH:
            raise
        raise MissingPackageError(needs_torch(f"the generator {path}")) from error
    name = str(path) + "".join(f", {setting}={value:g}" for setting, value in settings.items())
    return _class_sampler(model, model.class_names, name, hash_file(path))


def _class_sampler(
    model: generators.Generator, names: tuple[str, ...], name: str, fingerprint: str
) -> Sampler:
    number = {label: i for i, label in enumerate(names)}

    def draw_batch(n: int, seed: int, labels: Sequence[Label] | None) -> object:
        classes = None if labels is None else [number[str(label)] for label in labels]
        return model.sample(n, classes, seed)

    return Sampler(name, draw_batch, bool(names), names, fingerprint=fingerprint)
