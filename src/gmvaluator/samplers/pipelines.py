"""diffusers pipelines, from a folder, the hub or memory."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gmvaluator.errors import InputError, MissingPackageError, MissingWeightsError, either
from gmvaluator.samplers.base import Label, Sampler, reason
from gmvaluator.versions import how_to_install


def open_pipeline(name: str, inference_steps: int | None, device: str) -> Sampler:
    """A sampler of a pipeline's folder or hub id; see `load_sampler`.

    A hub id is fetched by diffusers itself, not by `downloads.py`.
    """
    try:
        from diffusers import DiffusionPipeline
    except ImportError as error:
        raise MissingPackageError(
            f"{name} is a diffusers pipeline and diffusers is not installed; "
            f"run: {how_to_install('diffusers')}"
        ) from error
    folder = Path(name)
    local = folder.is_dir()
    try:
        opener: Any = DiffusionPipeline
        pipeline = opener.from_pretrained(name, local_files_only=local).to(device)
    # Anything: diffusers passes on errors of its HTTP client, of transformers and of JSON.
    except Exception as error:
        wrong = InputError if local else MissingWeightsError
        raise wrong(f"Cannot load the diffusers pipeline {name}: {reason(error)}") from error
    sampler = pipeline_sampler(pipeline, name, inference_steps, device)
    return replace(sampler, fingerprint=_folder_fingerprint(folder) if local else "")


def pipeline_sampler(pipeline: Any, name: str, inference_steps: int | None, device: str) -> Sampler:
    """A sampler of a pipeline in memory. Labels are prompts or classes."""
    import torch

    pipeline.set_progress_bar_config(disable=True)
    accepted = inspect.signature(type(pipeline).__call__).parameters
    label_keyword = next((k for k in ("prompt", "class_labels") if k in accepted), None)
    needs_labels = label_keyword == "prompt" or (
        label_keyword is not None
        and accepted[label_keyword].default is inspect.Parameter.empty
    )  # fmt: skip

    def draw_batch(n: int, seed: int, labels: Sequence[Label] | None) -> object:
        options: dict[str, Any] = {
            "generator": torch.Generator(device).manual_seed(seed),
            "output_type": "np",
        }
        if inference_steps is not None:
            options["num_inference_steps"] = inference_steps
        if labels is not None and label_keyword is not None:
            wanted = str if label_keyword == "prompt" else int
            options[label_keyword] = [wanted(label) for label in labels]
        elif needs_labels:
            raise InputError(
                f"{name} needs a {label_keyword} for each image; pass "
                f"{either('labels=[…]', '--label')}."
            )
        else:
            options["batch_size"] = n
        return pipeline(**{k: v for k, v in options.items() if k in accepted}).images

    steps = f"{inference_steps or 'default'} steps"
    return Sampler(f"{name}, {steps}", draw_batch, label_keyword is not None)


def _folder_fingerprint(folder: Path) -> str:
    """Changes with any file's name, size or time; hashing gigabytes of weights would take long."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = [(str(path.relative_to(folder)), path.stat()) for path in files]
    text = json.dumps([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
    return hashlib.sha256(text.encode()).hexdigest()
