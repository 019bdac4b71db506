"""Torch networks that map latent codes to images: TorchScript, torch.export, modules."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gmvaluator.errors import InputError, either
from gmvaluator.files.seals import hash_file
from gmvaluator.samplers.base import DrawBatch, Label, PixelRange, Sampler, reason


def network_sampler(
    path: Path, latent: int | tuple[int, ...] | None, pixel_range: PixelRange, device: str
) -> Sampler:
    """A sampler of a .pt or .pt2 file; see `load_sampler`."""
    network, fixed_batch, fixed_shape = _open_network(path, device)
    shape = fixed_shape or code_shape(str(path), latent)
    draw_batch = code_drawer(network, str(path), shape, fixed_batch, device)
    return Sampler(str(path), draw_batch, pixel_range=pixel_range, fingerprint=hash_file(path))


def code_shape(name: str, latent: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape of one latent code. `InputError` if it is unknown."""
    shape = (latent,) if isinstance(latent, int) else latent
    if not shape or min(shape) < 1:
        raise InputError(
            f"{name} does not say how long a latent code is; pass "
            f"{either('latent=…', '--latent')}, say 128."
        )
    return shape


def code_drawer(
    network: Callable[..., Any],
    name: str,
    shape: tuple[int, ...],
    fixed_batch: int | None,
    device: str,
) -> DrawBatch:
    """A function that draws images from standard normal codes, `fixed_batch` at a time if set."""
    import torch

    def draw_batch(n: int, seed: int, labels: Sequence[Label] | None) -> object:
        del labels  # such a sampler takes none
        generator = torch.Generator().manual_seed(seed)
        size = fixed_batch or n
        chunks = []
        for _ in range(0, n, size):
            codes = torch.randn((size, *shape), generator=generator).to(device)
            try:
                with torch.no_grad():
                    chunks.append(network(codes))
            except (RuntimeError, AssertionError, ValueError, TypeError) as error:
                raise InputError(
                    f"{name} fails on latent codes of shape {tuple(codes.shape)}: "
                    f"{reason(error)}; pass the right {either('latent=…', '--latent')}"
                ) from error
        return torch.cat(chunks)[:n]

    return draw_batch


def _open_network(
    path: Path, device: str
) -> tuple[Callable[..., Any], int | None, tuple[int, ...] | None]:
    """The network in a .pt or .pt2 file, its fixed batch size and its code shape, or None."""
    import torch

    try:
        if path.suffix == ".pt2":
            program = torch.export.load(path)
            shape = _input_shape(program)
            fixed = shape[0] if isinstance(shape[0], int) else None
            return program.module().to(device), fixed, tuple(int(side) for side in shape[1:])
        if not _is_torchscript(path):
            raise InputError(
                f"{path} is a pickled file or no torch file; opening it could run any code, so it "
                "is refused. Export the model: torch.export.save (.pt2) or torch.jit.save (.pt)."
            )
        script: Any = torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call]
        return script.eval(), None, None
    except InputError:
        raise
    except (RuntimeError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be opened as a network: {reason(error)}") from error


def _input_shape(program: Any) -> Sequence[Any]:
    inputs = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        if node.op == "placeholder" and len(inputs) == 1 and node.name in inputs:
            shape: Sequence[Any] = node.meta["val"].shape
            return shape
    raise InputError(f"The exported network takes {len(inputs)} inputs; wanted one: latent codes.")


def _is_torchscript(path: Path) -> bool:
    """TorchScript archives hold code/ and constants.pkl; torch.save writes only pickles."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any("/code/" in name for name in names) and any("constants.pkl" in n for n in names)
