"""The sums of VAE-TracIn, one checkpoint at a time, in batches that fit into memory."""

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

# the streams of randomness that the codes of training and test images come from
_STREAM: dict[Side, int] = {"train": 0, "test": 1}
_MOST_IMAGES = 256  # per batch; larger batches are no faster on a processor
_FLOAT = 4  # bytes


@dataclass(frozen=True)
class Request:
    """The terms of the influence sums.

    Attributes:
        checkpoints: in the order of their steps.
        objective: the loss whose gradients are multiplied.
        draws: number of codes per image and checkpoint.
        antithetic: whether codes come in opposite pairs.
        seed: seed of the codes.
        n_trained: number of images that the networks were trained on.
    """

    checkpoints: tuple[VAECheckpoint, ...]
    objective: Objective
    draws: int
    antithetic: bool
    seed: int
    n_trained: int

    def key(self, train: Pixels, test: Pixels) -> str:
        """Hash of everything that the sums depend on."""
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
    """One checkpoint in memory."""

    network: ElboNetwork
    factors: bool
    latent: int
    step: int
    weight: float


@dataclass(frozen=True)
class Influences:
    """Sums Σ_c w_c ⟨ĝ_c(x), ĝ_c(z)⟩ of a request.

    Attributes:
        request: the terms.
        memory: bytes for gradients, products and sums.
        device: torch name of the device.
        sums: stores unfinished sums, so that an interrupted call goes on.
        progress: receives the progress.
    """

    request: Request
    memory: int
    device: str
    sums: PartialSums
    progress: Progress

    def blocks(self, train: Pixels, test: Pixels) -> Iterator[Influence]:
        """(n, block) influences for blocks of test images that fit into memory, in order."""
        n, m = len(train), len(test)
        width = max(1, min(m, self.memory // 4 // (8 * n)))
        checkpoints = len(self.request.checkpoints)
        with self.progress.stage("influence", checkpoints * n * -(-m // width)) as advance:
            for rows in slices(m, width):
                block = test.part(rows)
                key = self._key(train, block)
                influence, done = self.sums.resume(key, (n, len(block)))
                advance(done * n)
                for checkpoint in self._loaded(train, done):
                    influence += self._term(checkpoint, train, block, advance)
                    done += 1
                    self.sums.keep(key, influence, done)
                yield influence

    def self_influence(self, train: Pixels) -> NDArray[np.float64]:
        """(n,) Σ_c w_c ‖ĝ_c(x)‖². Both factors use the same draws."""
        n = len(train)
        total = len(self.request.checkpoints) * n
        key = f"self-{self._key(train, train)}"
        norms_so_far, done = self.sums.resume(key, (n,))
        with self.progress.stage("self-influence", total) as advance:
            advance(done * n)
            for checkpoint in self._loaded(train, done):
                for rows in slices(n, self._batch_size(checkpoint, 1)):
                    norms = self._gradients(checkpoint, train.part(rows), "train").squared_norms()
                    norms_so_far[rows] += checkpoint.weight * norms.double().cpu().numpy()
                    advance(rows.stop - rows.start)
                done += 1
                self.sums.keep(key, norms_so_far, done)
        return norms_so_far

    def _key(self, train: Pixels, test: Pixels) -> str:
        """Key of stored sums. Computed only if sums are stored, since it reads all pixels."""
        return self.request.key(train, test) if self.sums.keeps else ""

    def _term(
        self, checkpoint: _Loaded, train: Pixels, test: Pixels, advance: Advance
    ) -> Influence:
        """(n, m) term of one checkpoint."""
        n, m = len(train), len(test)
        influence = np.empty((n, m))
        for columns in slices(m, self._held_together(checkpoint, m)):
            against = self._joined(checkpoint, test.part(columns))
            width = columns.stop - columns.start
            for rows in slices(n, self._batch_size(checkpoint, width)):
                gradients = self._gradients(checkpoint, train.part(rows), "train")
                influence[rows, columns] = gradients.dot(against).double().cpu().numpy()
                if columns.stop == m:
                    advance(rows.stop - rows.start)
        influence *= checkpoint.weight
        return influence

    def _joined(self, checkpoint: _Loaded, test: Pixels) -> Gradients:
        """Gradients of all test images of a block, computed in batches."""
        batches = slices(len(test), self._batch_size(checkpoint, 1))
        parts = [self._gradients(checkpoint, test.part(rows), "test") for rows in batches]
        return parts[0].join(parts)

    def _gradients(self, checkpoint: _Loaded, images: Pixels, side: Side) -> Gradients:
        kind = next(checkpoint.network.parameters())
        request, shape = self.request, (self.request.draws, checkpoint.latent)
        key = (request.seed, checkpoint.step, _STREAM[side])
        noise = np.stack(
            [
                content_noise(image, key, shape, antithetic=request.antithetic)
                for image in images.bytes
            ]
        )
        labels = None if images.labels is None else torch.from_numpy(images.labels)
        batch = Batch(
            torch.from_numpy(images.bytes.copy()).to(kind.device, kind.dtype) / 255,
            None if labels is None else labels.to(kind.device),
            torch.from_numpy(noise).to(kind.device, kind.dtype),
        )
        return (factorised if checkpoint.factors else explicit)(checkpoint.network, batch)

    def _numbers(self, checkpoint: _Loaded) -> int:
        return gradient_numbers(checkpoint.network, self.request.draws, factors=checkpoint.factors)

    def _batch_size(self, checkpoint: _Loaded, against: int) -> int:
        """Number of images whose gradients, and products with `against` others, fit into memory."""
        pairs = 3 * against * (self.request.draws**2 if checkpoint.factors else 1)
        fitting = self.memory // 4 // (_FLOAT * (4 * self._numbers(checkpoint) + pairs))
        return max(1, min(_MOST_IMAGES, fitting))

    def _held_together(self, checkpoint: _Loaded, m: int) -> int:
        """Number of test images whose gradients fit into memory."""
        return max(1, min(m, self.memory // 4 // (_FLOAT * self._numbers(checkpoint))))

    def _loaded(self, train: Pixels, skip: int) -> Iterator[_Loaded]:
        """The checkpoints after the first `skip`, one at a time in memory."""
        before = 0
        for number, checkpoint in enumerate(self.request.checkpoints):
            steps, before = checkpoint.step - before, checkpoint.step
            if number >= skip:
                weight = checkpoint.learning_rate * checkpoint.batch_size * steps
                yield self._load(checkpoint, weight / self.request.n_trained, train)

    def _load(self, checkpoint: VAECheckpoint, weight: float, train: Pixels) -> _Loaded:
        network = loaded_network(checkpoint)
        elbo = ElboNetwork(network, self.request.objective).to(self.device)
        elbo.eval().requires_grad_(True)
        kind = next(elbo.parameters())
        # two images, three draws: a layer's number of rows tells whether it sees images or draws
        probe = train.part(slice(0, 1))
        pixels = torch.from_numpy(np.repeat(probe.bytes, 2, axis=0)).to(kind.device, kind.dtype)
        labels = None if probe.labels is None else torch.from_numpy(np.repeat(probe.labels, 2))
        labels = None if labels is None else labels.to(kind.device)
        latent = _latent(network, pixels / 255, labels, checkpoint.name)
        noise = torch.zeros((2, 3, latent), dtype=kind.dtype, device=kind.device)
        factors = can_factorise(elbo, Batch(pixels / 255, labels, noise))
        return _Loaded(elbo, factors, latent, checkpoint.step, weight)


def loaded_network(checkpoint: VAECheckpoint) -> nn.Module:
    """The network of a checkpoint, after checks of its methods and weights.

    Raises:
        InputError: the network has no `encode` or `decode`.
        RunError: the file is damaged or of another network, or a weight is not finite.
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
    """Standard normal draws that depend on the image's pixels and the key, not on its row.

    Args:
        image: pixels.
        key: further seeds.
        shape: (draws, latent).
        antithetic: the second half of the draws is minus the first half. An odd number of draws
            leaves one draw without a partner.
    """
    digest = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()
    seeds = [*key, *np.frombuffer(digest, np.uint32).tolist()]
    chance, (draws, latent) = np.random.default_rng(seeds), shape
    if not antithetic:
        return chance.standard_normal(shape, dtype=np.float32)
    half = chance.standard_normal((draws - draws // 2, latent), dtype=np.float32)
    return np.concatenate([half, -half[: draws // 2]])


def slices(n: int, size: int) -> Iterator[slice]:
    """The slices of 0 … n of at most `size` rows each."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _latent(
    network: nn.Module, pixels: torch.Tensor, labels: torch.Tensor | None, name: str
) -> int:
    """Length of the network's code."""
    label_arguments = () if labels is None else (labels,)
    try:
        with torch.no_grad():
            mean, spread = network.encode(pixels, *label_arguments)  # type: ignore[operator]
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
