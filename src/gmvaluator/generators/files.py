"""Generator files: safetensors whose metadata names the family, its config and its labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gmvaluator.errors import RunError
from gmvaluator.files.atomic import publish_file

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Snapshot:
    """Weights kept during training, after `step` updates, the last at `learning_rate`."""

    path: Path
    step: int
    learning_rate: float


def snapshot_folder(path: str | Path) -> Path:
    """Where the snapshots of the generator file `path` are."""
    return Path(path).with_suffix(".steps")


def list_snapshots(path: str | Path) -> tuple[Snapshot, ...]:
    """The snapshots that training kept beside the generator file `path`, by step.

    Raises `RunError` if one of them cannot be read.
    """
    snapshots = []
    for file in snapshot_folder(path).glob(f"*{SUFFIX}"):
        if re.fullmatch(r"\d+", file.stem):
            rate = read_metadata(file).get("learning_rate", "nan")
            snapshots.append(Snapshot(file, int(file.stem), float(rate)))
    return tuple(sorted(snapshots, key=lambda snapshot: snapshot.step))


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    dtype: Literal["float32", "float16"],
    metadata: dict[str, str],
) -> None:
    """Publish one safetensors file; floating-point tensors are stored as `dtype`.

    Raises `RunError` if the file cannot be written or its folder does not exist.
    """
    import torch
    from safetensors.torch import save

    kind = torch.float16 if dtype == "float16" else torch.float32
    stored = {
        name: tensor.detach().to("cpu", kind if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in tensors.items()
    }
    if not path.parent.is_dir():
        raise RunError(f"cannot write {path}: there is no folder {path.parent}; create it")
    with publish_file(path) as part:
        part.write_bytes(save({k: v.contiguous() for k, v in stored.items()}, metadata))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, floating-point ones as float32."""
    import torch
    from safetensors.torch import load_file

    return {
        name: tensor.to(torch.float32) if tensor.is_floating_point() else tensor
        for name, tensor in load_file(path).items()
    }


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file. `RunError` if the file is missing or cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as handle:
            return dict(handle.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise RunError(f"Cannot read {path} as a safetensors file: {error}.") from error
