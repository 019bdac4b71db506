"""A small classifier that labels the images of unconditional generators."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from gmvaluator.errors import InputError, RunError
from gmvaluator.files.atomic import publish_file
from gmvaluator.generators.data import class_numbers, ordered_labels
from gmvaluator.generators.training import torch_threads
from gmvaluator.progress import Progress, Silent

FORMAT = "gmvaluator/classifier"
BATCH = 128
PREDICT_BATCH = 512


@dataclass(frozen=True)
class ClassifierConfig:
    """Shape and accuracy of a classifier, saved with its weights.

    Attributes:
        size: side of the square input in pixels.
        channels: 1 grey, 3 RGB.
        label_names: class number → label.
        seed, epochs: seed and epochs of the training.
        accuracy: share of held-out images with the right label. NaN before the measurement.
        n_held_out: number of held-out images.
    """

    size: int
    channels: int
    label_names: tuple[str, ...]
    seed: int = 0
    epochs: int = 4
    accuracy: float = float("nan")
    n_held_out: int = 0


class Classifier(nn.Module):
    """Two convolutions, two max-pools, two linear layers."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        side = config.size // 4
        self.features = nn.Sequential(
            nn.Conv2d(config.channels, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * side * side, 128),
            nn.ReLU(),
        )
        self.head = nn.Linear(128, len(config.label_names))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, S, S) float in [0, 1] → logits (B, classes)."""
        hidden = F.dropout(self.features(pixels - 0.5), 0.3, self.training)
        logits: Tensor = self.head(hidden)
        return logits

    @torch.inference_mode()
    def predict(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(n, S, S) or (n, S, S, 3) uint8 → class numbers (n,) and their probabilities (n,).

        Raises:
            InputError: images of another shape.
        """
        self.eval()
        pixels = as_pixels(images, self.config)
        numbers, confidences = [], []
        for part in torch.split(pixels, PREDICT_BATCH):
            shares = torch.softmax(self(part.float() / 255).double(), dim=1)
            confidence, number = shares.max(dim=1)
            numbers.append(number.numpy())
            confidences.append(confidence.numpy())
        if not numbers:
            return np.empty(0, dtype=np.int64), np.empty(0)
        return np.concatenate(numbers), np.concatenate(confidences)

    def name(self, images: NDArray[np.uint8]) -> NDArray[np.object_]:
        """The label of each image, (n,)."""
        return np.asarray(self.config.label_names, dtype=object)[self.predict(images)[0]]

    def save(self, path: Path) -> None:
        """Write weights and config to one safetensors file, in one step."""
        from safetensors.torch import save

        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        metadata = {"format": FORMAT, "config": json.dumps(asdict(self.config))}
        with publish_file(path) as part:
            part.write_bytes(save(tensors, metadata))

    @classmethod
    def load(cls, path: Path) -> Classifier:
        """Read a file that `save` wrote.

        Raises:
            RunError: anything else is there.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as handle:
                metadata: dict[str, str] = handle.metadata() or {}
                tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format')}")
            fields: dict[str, Any] = json.loads(metadata["config"])
            fields["label_names"] = tuple(fields["label_names"])
            model = cls(ClassifierConfig(**fields))
            model.load_state_dict(tensors)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(
                f"{path} is no classifier of gmvaluator ({reason}); delete it to train it again"
            ) from error
        return model.eval()


def train_classifier(
    images: NDArray[np.uint8],
    labels: NDArray[np.object_],
    *,
    held_out: tuple[NDArray[np.uint8], NDArray[np.object_]],
    epochs: int = 4,
    seed: int = 0,
    progress: Progress | None = None,
) -> Classifier:
    """Train on labelled images and measure on held-out ones.

    The optimizer is AdamW with a one-cycle learning rate. Images are shifted by up to two pixels.
    The same seed, data, threads and machine give the same weights.

    Args:
        images: (n, S, S) grey or (n, S, S, 3) RGB uint8, S a multiple of 4.
        labels: (n,) strings.
        held_out: images and labels on which the accuracy is measured.
        epochs: passes over the images.
        seed: seed of the weights, order and shifts.

    Raises:
        InputError: there are no images or one class only, or the shapes do not fit.
    """
    names = ordered_labels(labels.tolist())
    if len(names) < 2:
        raise InputError(f"images of {len(names)} classes; a classifier needs at least two")
    size, channels = images.shape[1], 1 if images.ndim == 3 else images.shape[3]
    config = ClassifierConfig(size, channels, names, seed, epochs)
    pixels = as_pixels(images, config)
    numbers = torch.from_numpy(class_numbers(labels, names))
    # One thread: sums do not depend on the number of cores, and two on a busy machine mostly wait.
    with torch.random.fork_rng(devices=[]), torch_threads(1):
        torch.manual_seed(seed)
        model = Classifier(config).to(memory_format=torch.channels_last).train()
        _fit(model, pixels, numbers, epochs, seed, progress or Silent())
    right = model.name(held_out[0]) == held_out[1]
    measured = ClassifierConfig(
        size, channels, names, seed, epochs, float(np.mean(right)), len(right)
    )
    model.config = measured
    return model.eval()


def _fit(
    model: Classifier, pixels: Tensor, numbers: Tensor, epochs: int, seed: int, progress: Progress
) -> None:
    steps = epochs * -(-len(pixels) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    with progress.stage("train classifier", steps) as advance:
        for _ in range(epochs):
            order = torch.randperm(len(pixels), generator=generator)
            for rows in torch.split(order, BATCH):
                batch = _shifted(pixels[rows].float() / 255, generator)
                loss = F.cross_entropy(model(batch), numbers[rows], label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                advance(1)


def _shifted(batch: Tensor, generator: torch.Generator) -> Tensor:
    """All images of a batch moved by the same random offset of up to two pixels each way."""
    side = batch.shape[-1]
    down, right = torch.randint(0, 5, (2,), generator=generator).tolist()
    padded = F.pad(batch, (2, 2, 2, 2), mode="replicate")
    moved = padded[:, :, down : down + side, right : right + side]
    return moved.contiguous(memory_format=torch.channels_last)


def as_pixels(images: NDArray[np.uint8], config: ClassifierConfig) -> Tensor:
    """(n, S, S[, 3]) uint8 → (n, C, S, S) uint8; `InputError` for another shape."""
    stack = images[..., None] if images.ndim == 3 else images
    wanted = (config.size, config.size, config.channels)
    if stack.dtype != np.uint8 or stack.shape[1:] != wanted:
        raise InputError(
            f"images are {images.dtype} of shape {images.shape}; this classifier wants uint8 "
            f"(n, {', '.join(map(str, wanted))})"
        )
    return torch.from_numpy(np.ascontiguousarray(stack.transpose(0, 3, 1, 2)))


def as_rgb(stack: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, S, S) grey images as (n, S, S, 3). Colour images are returned as they are."""
    return np.repeat(stack[..., None], 3, axis=3) if stack.ndim == 3 else stack
