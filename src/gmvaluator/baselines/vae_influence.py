"""The sums of VAE-TracIn: checkpoints one at a time, images in batches that fit into memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gmvaluator.baselines.partial_sums import PartialSums
from gmvaluator.baselines.reading import Pixels
from gmvaluator.baselines.sample_gradients import Batch
from gmvaluator.baselines.vae_gradients import (
    ElboNetwork,
    Gradients,
    Objective,
    can_factorise,
    explicit,
    factorised,
    gradient_numbers,
)
from gmvaluator.baselines.vae_models import VAECheckpoint, check_network
from gmvaluator.errors import InputError, RunError
from gmvaluator.progress import Advance, Progress

Side = Literal["train", "test"]
Influence = NDArray[np.float64]

# which streams of randomness the two sides draw their codes from
_STREAM: dict[Side, int] = {"train": 0, "test": 1}
_MOST_IMAGES = 256  # a batch; more gain nothing on a processor
_FLOAT = 4  # bytes


@dataclass(frozen=True)
class Request:
    """What is summed.

    Attributes:
        checkpoints: by step.
        objective: the loss.
        draws: codes an image and checkpoint.
        antithetic: whether codes come in opposite pairs.
        seed: of the codes.
        n_trained: images that the networks were trained on.
    """

    checkpoints: tuple[VAECheckpoint, ...]
    objective: Objective
    draws: int
    antithetic: bool
    seed: int
    n_trained: int

    def key(self, train: Pixels, test: Pixels) -> str:
        """Changes with anything that decides the sums."""
        digest = hashlib.blake2b(digest_size=12)
        for array in (train.bytes, train.labels, test.bytes, test.labels):
            digest.update(repr(None if array is None else array.shape).encode())
            digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
        loss = [self.objective.loss, self.objective.beta]
        sampling = [self.draws, self.antithetic, self.seed, self.n_trained]
        named = [(c.name, c.step, c.learning_rate, c.batch_size) for c in self.checkpoints]
        digest.update(json.dumps([loss, sampling, named]).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class _Loaded:
    """One checkpoint, ready to give gradients."""

    network: ElboNetwork
    factors: bool
    latent: int
    step: int
    weight: float


class Influences:
    """Sums Σ_c w_c ⟨ĝ_c(x), ĝ_c(z)⟩ for a request.

    Args:
        request: what is summed.
        memory: bytes for gradients, products and sums.
        device: torch's name of it.
        sums: keeps what is done.
        progress: hears how far it is.
    """

    def __init__(
        self, request: Request, memory: int, device: str, sums: PartialSums, progress: Progress
    ) -> None:
        self._asked = request
        self._memory = memory
        self._device = device
        self._sums = sums
        self._progress = progress

    def blocks(self, train: Pixels, test: Pixels) -> Iterator[Influence]:
        """(n, block) for as many test images at a time as fit into memory, in order."""
        n, m = len(train), len(test)
        width = max(1, min(m, self._memory // 4 // (8 * n)))
        checkpoints = len(self._asked.checkpoints)
        with self._progress.stage("influence", checkpoints * n * -(-m // width)) as advance:
            for rows in slices(m, width):
                block = test.part(rows)
                key = self._key(train, block)
                found, done = self._sums.resume(key, (n, len(block)))
                advance(done * n)
                for checkpoint in self._loaded(train, done):
                    found += self._term(checkpoint, train, block, advance)
                    done += 1
                    self._sums.keep(key, found, done)
                yield found

    def self_influence(self, train: Pixels) -> NDArray[np.float64]:
        """(n,) Σ_c w_c ‖ĝ_c(x)‖², both factors from the same draws."""
        n = len(train)
        total = len(self._asked.checkpoints) * n
        key = f"self-{self._key(train, train)}"
        found, done = self._sums.resume(key, (n,))
        with self._progress.stage("self-influence", total) as advance:
            advance(done * n)
            for checkpoint in self._loaded(train, done):
                for rows in slices(n, self._batch_size(checkpoint, 1)):
                    norms = self._gradients(checkpoint, train.part(rows), "train").squared_norms()
                    found[rows] += checkpoint.weight * norms.double().cpu().numpy()
                    advance(rows.stop - rows.start)
                done += 1
                self._sums.keep(key, found, done)
        return found

    def _key(self, train: Pixels, test: Pixels) -> str:
        """Of the sums, where they are kept; it takes a pass over all pixels."""
        return self._asked.key(train, test) if self._sums.keeps else ""

    def _term(
        self, checkpoint: _Loaded, train: Pixels, test: Pixels, advance: Advance
    ) -> Influence:
        """(n, m) what one checkpoint adds."""
        n, m = len(train), len(test)
        found = np.empty((n, m))
        for columns in slices(m, self._held_together(checkpoint, m)):
            against = self._joined(checkpoint, test.part(columns))
            width = columns.stop - columns.start
            for rows in slices(n, self._batch_size(checkpoint, width)):
                own = self._gradients(checkpoint, train.part(rows), "train")
                found[rows, columns] = own.dot(against).double().cpu().numpy()
                if columns.stop == m:
                    advance(rows.stop - rows.start)
        found *= checkpoint.weight
        return found

    def _joined(self, checkpoint: _Loaded, test: Pixels) -> Gradients:
        """Gradients of test images, computed in batches and held together."""
        batches = slices(len(test), self._batch_size(checkpoint, 1))
        parts = [self._gradients(checkpoint, test.part(rows), "test") for rows in batches]
        return parts[0].join(parts)

    def _gradients(self, checkpoint: _Loaded, images: Pixels, side: Side) -> Gradients:
        kind = next(checkpoint.network.parameters())
        asked, shape = self._asked, (self._asked.draws, checkpoint.latent)
        key = (asked.seed, checkpoint.step, _STREAM[side])
        noise = np.stack(
            [content_noise(each, key, shape, antithetic=asked.antithetic) for each in images.bytes]
        )
        labels = None if images.labels is None else torch.from_numpy(images.labels)
        batch = Batch(
            torch.from_numpy(images.bytes.copy()).to(kind.device, kind.dtype) / 255,
            None if labels is None else labels.to(kind.device),
            torch.from_numpy(noise).to(kind.device, kind.dtype),
        )
        return (factorised if checkpoint.factors else explicit)(checkpoint.network, batch)

    def _numbers(self, checkpoint: _Loaded) -> int:
        return gradient_numbers(checkpoint.network, self._asked.draws, factors=checkpoint.factors)

    def _batch_size(self, checkpoint: _Loaded, against: int) -> int:
        """Images whose gradients, activations and products with `against` others fit."""
        pairs = 3 * against * (self._asked.draws**2 if checkpoint.factors else 1)
        fitting = self._memory // 4 // (_FLOAT * (4 * self._numbers(checkpoint) + pairs))
        return max(1, min(_MOST_IMAGES, fitting))

    def _held_together(self, checkpoint: _Loaded, m: int) -> int:
        """Test images whose gradients fit."""
        return max(1, min(m, self._memory // 4 // (_FLOAT * self._numbers(checkpoint))))

    def _loaded(self, train: Pixels, skip: int) -> Iterator[_Loaded]:
        """The checkpoints after the first `skip`, one at a time in memory."""
        before = 0
        for number, checkpoint in enumerate(self._asked.checkpoints):
            steps, before = checkpoint.step - before, checkpoint.step
            if number >= skip:
                weight = checkpoint.learning_rate * checkpoint.batch_size * steps
                yield self._load(checkpoint, weight / self._asked.n_trained, train)

    def _load(self, checkpoint: VAECheckpoint, weight: float, train: Pixels) -> _Loaded:
        network = loaded_network(checkpoint)
        elbo = ElboNetwork(network, self._asked.objective).to(self._device)
        elbo.eval().requires_grad_(True)
        kind = next(elbo.parameters())
        # two images, three draws: what sees images and what sees draws differ in their rows
        probe = train.part(slice(0, 1))
        pixels = torch.from_numpy(np.repeat(probe.bytes, 2, axis=0)).to(kind.device, kind.dtype)
        labels = None if probe.labels is None else torch.from_numpy(np.repeat(probe.labels, 2))
        labels = None if labels is None else labels.to(kind.device)
        latent = _latent(network, pixels / 255, labels, checkpoint.name)
        noise = torch.zeros((2, 3, latent), dtype=kind.dtype, device=kind.device)
        factors = can_factorise(elbo, Batch(pixels / 255, labels, noise))
        return _Loaded(elbo, factors, latent, checkpoint.step, weight)


def loaded_network(checkpoint: VAECheckpoint) -> nn.Module:
    """A checkpoint's network, its methods and numbers checked.

    Raises:
        InputError: no `encode` or `decode`.
        RunError: damaged, of another network, or not finite.
    """
    network = checkpoint.load()
    check_network(network, checkpoint.name)
    for name, values in network.state_dict().items():
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            raise RunError(
                f"{checkpoint.name} holds numbers that are not finite (in {name}); leave this "
                "checkpoint out, or train again"
            )
    return network


def content_noise(
    image: NDArray[np.uint8], key: Sequence[int], shape: tuple[int, int], *, antithetic: bool
) -> NDArray[np.float32]:
    """Standard normal draws that depend on the image's pixels and the key, not on its place.

    Args:
        image: pixels.
        key: seeds beside them.
        shape: (draws, latent).
        antithetic: the second half of the draws is minus the first; of an odd number one stays
            unpaired.
    """
    digest = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()
    seeds = [*key, *np.frombuffer(digest, np.uint32).tolist()]
    chance, (draws, latent) = np.random.default_rng(seeds), shape
    if not antithetic:
        return chance.standard_normal(shape, dtype=np.float32)
    half = chance.standard_normal((draws - draws // 2, latent), dtype=np.float32)
    return np.concatenate([half, -half[: draws // 2]])


def slices(n: int, size: int) -> Iterator[slice]:
    """0 … n in pieces."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _latent(
    network: nn.Module, pixels: torch.Tensor, labels: torch.Tensor | None, name: str
) -> int:
    """Length of the code."""
    known = () if labels is None else (labels,)
    try:
        with torch.no_grad():
            mean, spread = network.encode(pixels, *known)  # type: ignore[operator]
    except (RuntimeError, ValueError, TypeError) as error:
        shape = "×".join(map(str, pixels.shape[1:]))
        raise InputError(
            f"{name} cannot encode images of {shape}, as (mean, log variance): {error}"
        ) from error
    if mean.dim() != 2 or mean.shape != spread.shape:
        raise InputError(
            f"{name} encodes as {tuple(mean.shape)} and {tuple(spread.shape)}; wanted mean and "
            "log variance of (images, latent) each"
        )
    return int(mean.shape[1])
