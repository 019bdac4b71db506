"""Checkpoints of VAEs: of this package's families, of the authors' code, and of users."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gmvaluator.errors import InputError, RunError, either
from gmvaluator.generators import load_generator
from gmvaluator.generators.base import GeneratorModel
from gmvaluator.generators.beta_vae import VAE
from gmvaluator.generators.files import Snapshot, list_snapshots

# of the authors' training: images a step
OFFICIAL_BATCH = 64


@dataclass(frozen=True)
class VAECheckpoint:
    """Weights after `step` updates.

    Attributes:
        name: name in messages, the file's path if there is a file.
        step: number of updates so far.
        learning_rate: learning rate η of the updates since the previous checkpoint.
        batch_size: number of images per update.
        load: () → network on the CPU. The network has `encode(pixels) → (mean, log variance)` and
            `decode(codes) → pixel logits`. A conditional network takes class numbers as second
            argument of both.
    """

    name: str
    step: int
    learning_rate: float
    batch_size: int
    load: Callable[[], nn.Module]


def checkpoints_of(generator: str | Path) -> list[VAECheckpoint]:
    """The snapshots of a β-VAE of this package that was trained with `keep`.

    Raises:
        InputError: the generator is of another family.
        RunError: the file is missing, or has no snapshots beside it.
    """
    path = Path(generator)
    model = load_generator(path)
    if not isinstance(model, VAE):
        raise InputError(
            f"{path} is a {model.config.name}; VAE-TracIn needs a VAE (beta-vae, conv-beta-vae)"
        )
    snapshots = list_snapshots(path)
    if not snapshots:
        raise RunError(
            f"{path} has no snapshots of its training beside it; train it again with "
            + either("train_generator(…, keep=5)", "--keep 5")
        )
    return [_snapshot_checkpoint(snapshot, model) for snapshot in snapshots]


def _snapshot_checkpoint(snapshot: Snapshot, final: GeneratorModel) -> VAECheckpoint:
    def load() -> nn.Module:
        model = load_generator(snapshot.path)
        if (model.config, model.label_names) != (final.config, final.label_names):
            raise RunError(
                f"{snapshot.path} is of another network than the generator it lies beside; train "
                "the generator again with --keep"
            )
        return model

    return VAECheckpoint(
        str(snapshot.path),
        snapshot.step,
        snapshot.learning_rate,
        final.config.batch_size,
        load,
    )


def official_checkpoints(folder: str | Path) -> list[VAECheckpoint]:
    """The checkpoints of Kong & Chaudhuri's convolutional VAE for 64 × 64 colour images.

    Files are named by the number of updates. Other files, such as `last`, are left out.

    Raises:
        RunError: the folder is missing or holds no numbered file, or a file is damaged or of
            another network. Damaged weights raise when their checkpoint is loaded.
    """
    where = Path(folder)
    files = [file for file in where.glob("*") if re.fullmatch(r"\d+", file.name)]
    if not files:
        raise RunError(
            f"{where} holds no checkpoints: files named by the number of updates, such as 300000"
        )
    checkpoints = []
    for file in sorted(files, key=lambda path: int(path.name)):
        stored = _stored(file)
        try:
            rate = float(stored["optim_states"]["optim"]["param_groups"][0]["lr"])
            step = int(stored["iter"])
        except (KeyError, TypeError, IndexError) as error:
            raise RunError(
                f"{file} has no {error} where the authors' checkpoints have it; wanted: iter, "
                "model_states.net and optim_states.optim"
            ) from error
        checkpoints.append(
            VAECheckpoint(str(file), step, rate, OFFICIAL_BATCH, _official_loader(file))
        )
    return checkpoints


def _official_loader(file: Path) -> Callable[[], nn.Module]:
    def load() -> nn.Module:
        weights = _stored(file).get("model_states", {}).get("net", {})
        codes = weights.get("decoder.0.weight")
        network = OfficialConvVAE(codes.shape[1] if isinstance(codes, Tensor) else 64)
        return _with_weights(network, weights, file)

    return load


def module_checkpoints(
    network: nn.Module,
    files: Sequence[str | Path],
    *,
    learning_rate: float,
    batch_size: int,
    steps: Sequence[int] | None = None,
) -> list[VAECheckpoint]:
    """Checkpoints of a user's own VAE.

    Args:
        network: a network with `encode` and `decode`; see `VAECheckpoint.load`. It is copied.
        files: state dicts of `torch.save` or safetensors.
        learning_rate: learning rate of the training.
        batch_size: number of images per update.
        steps: number of updates before each file. Default: the numbers in the files' names.

    Raises:
        InputError: `network` lacks a method, or a file's name holds no number.
    """
    check_network(network, type(network).__name__)
    paths = [Path(file) for file in files]
    numbers = steps if steps is not None else [_number_in(path) for path in paths]
    if len(numbers) != len(paths):
        raise InputError(f"{len(numbers)} steps for {len(paths)} files; pass one a file")

    def loader(path: Path) -> Callable[[], nn.Module]:
        def load() -> nn.Module:
            return _with_weights(copy.deepcopy(network), _stored(path), path)

        return load

    made = [
        VAECheckpoint(str(path), step, learning_rate, batch_size, loader(path))
        for path, step in zip(paths, numbers, strict=True)
    ]
    return sorted(made, key=lambda checkpoint: checkpoint.step)


def check_network(network: object, name: str) -> None:
    """Raises `InputError` unless the network has `encode` and `decode`."""
    missing = [
        method for method in ("encode", "decode") if not callable(getattr(network, method, None))
    ]
    if missing or not isinstance(network, nn.Module):
        raise InputError(
            f"{name} has no {' and no '.join(missing) or 'parameters'}; VAE-TracIn needs a torch "
            "module with encode(pixels) → (mean, log variance) and decode(codes) → pixel logits"
        )


class OfficialConvVAE(nn.Module):
    """The convolutional VAE of Kong & Chaudhuri (NeurIPS 2021) for 64 × 64 colour images.

    Args:
        latent: length of the code.
    """

    image_shape = (3, 64, 64)
    beta = 2.0
    interpolation = "bilinear"

    def __init__(self, latent: int = 128) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, 32, 4, 2, 1), nn.ReLU()),
            *(nn.Conv2d(32, 32, 4, 2, 1), nn.ReLU()),
            *(nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU()),
            *(nn.Conv2d(64, 64, 4, 2, 1), nn.ReLU()),
            *(nn.Conv2d(64, 256, 4), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(256, 2 * latent)),
        )
        self.decoder = nn.Sequential(
            *(nn.Linear(latent, 256), nn.Unflatten(1, (256, 1, 1)), nn.ReLU()),
            *(nn.ConvTranspose2d(256, 64, 4), nn.ReLU()),
            *(nn.ConvTranspose2d(64, 64, 4, 2, 1), nn.ReLU()),
            *(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU()),
            *(nn.ConvTranspose2d(32, 32, 4, 2, 1), nn.ReLU()),
            nn.ConvTranspose2d(32, 3, 4, 2, 1),
        )

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, 64, 64) → mean and log variance, (B, latent) each."""
        mean, spread = self.encoder(pixels).chunk(2, dim=1)
        return mean, spread

    def decode(self, codes: Tensor) -> Tensor:
        """(B, latent) → pixel logits (B, 3, 64, 64)."""
        logits: Tensor = self.decoder(codes)
        return logits


def _stored(file: Path) -> Mapping[str, Any]:
    """The mapping that a checkpoint file holds."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        stored = torch.load(file, map_location="cpu", weights_only=True)
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{file} cannot be read as a checkpoint ({reason})") from error
    if not isinstance(stored, Mapping):
        raise RunError(f"{file} holds {type(stored).__name__}; wanted a mapping of tensors")
    return stored


def _with_weights(network: nn.Module, weights: Mapping[str, Any], file: Path) -> nn.Module:
    try:
        network.load_state_dict(dict(weights))
    except (RuntimeError, AttributeError, TypeError) as error:
        first = " ".join(str(error).split())[:200]
        raise RunError(
            f"{file} is of another network than {type(network).__name__}: {first}"
        ) from error
    return network


def _number_in(path: Path) -> int:
    numbers = re.findall(r"\d+", path.stem)
    if not numbers:
        raise InputError(f"{path.name} does not tell its updates; pass steps=[…]")
    return int(numbers[-1])
