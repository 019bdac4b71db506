"""The packaged β-VAE of digits, drawn from without torch.

The images are those of `BetaVAE.sample`: the decoder is three matrix products, and the noise is
that of torch's generator on a processor for codes of fewer than 16 numbers (random bits: Matsumoto
& Nishimura, 1998; normal numbers: Box & Muller, 1958). So nobody needs torch for the demonstration.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.generators.randomness import IMAGE, derived_seed


class DemoGenerator:
    """A `Generator` from the file of a fully connected β-VAE with classes."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self.fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()
        file: Any = safe_open(path, "np")
        metadata = file.metadata()
        self.config: dict[str, Any] = json.loads(metadata["config"])
        self.label_names: tuple[str, ...] = tuple(json.loads(metadata["label_names"]))
        names = sorted((n for n in file.keys() if n.startswith("decoder.")), key=_place)  # noqa: SIM118
        arrays = [file.get_tensor(name).astype(np.float32) for name in names]
        # a layer's bias comes after its weight
        self._layers = list(zip(arrays[1::2], arrays[::2], strict=True))

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.label_names)

    def sample(
        self, n: int, labels: Sequence[int] | None = None, seed: int = 0
    ) -> NDArray[np.uint8]:
        """`n` images, (n, H, W) uint8; without labels the classes take turns."""
        codes = np.array([self._noise(seed, number) for number in range(n)], np.float32)
        codes = codes.reshape(n, self.config["latent"])
        one_hot = np.zeros((n, self.classes), np.float32)
        shown = [number % self.classes for number in range(n)] if labels is None else labels
        one_hot[np.arange(n), shown] = self.config["label_scale"]
        signal: NDArray[Any] = np.concatenate(
            [codes * np.float32(self.config["sampling_scale"]), one_hot], 1
        )
        for place, (weight, bias) in enumerate(self._layers):
            signal = (signal if place == 0 else np.maximum(signal, 0)) @ weight.T + bias
        shades = 255 / (1 + np.exp(-np.maximum(signal, -80)))
        side = round(signal.shape[1] ** 0.5)
        return np.asarray(np.rint(shades), dtype=np.uint8).reshape(n, side, side)

    def _noise(self, seed: int, number: int) -> NDArray[np.float32]:
        """(latent,) standard normal float32, as torch draws them from the image's own seed."""
        # torch keeps 32 bits of a seed
        random = np.random.RandomState(derived_seed(seed, IMAGE, number) & 0xFFFFFFFF)
        n_pairs = -(-int(self.config["latent"]) // 2)
        bits = random.randint(0, 1 << 32, (n_pairs, 2, 2), np.uint32).astype(np.uint64)
        turn, height = ((bits[..., 0] << 32 | bits[..., 1]) & (2**53 - 1)).T * 2.0**-53
        radius, angle = np.sqrt(-2 * np.log1p(-height)), 2 * np.pi * turn
        normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()
        return normal[: self.config["latent"]].astype(np.float32)


def _place(name: str) -> tuple[int, str]:
    """Where a tensor of the decoder comes, such as `decoder.2.bias`."""
    _, layer, kind = name.split(".")
    return int(layer), kind
