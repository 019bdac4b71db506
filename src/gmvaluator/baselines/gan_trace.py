"""Training a GAN with a record of its last updates, on disk."""

from __future__ import annotations

import hashlib
import json
import math
import time
import zipfile
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray
from torch import Tensor

from gmvaluator.baselines.gan_steps import (
    GANPair,
    GANRecipe,
    Parameters,
    flatten,
    make_step,
    unflatten,
)
from gmvaluator.errors import InputError, RunError
from gmvaluator.files.atomic import publish_file, remove_leftovers
from gmvaluator.generators.randomness import STEP, batch_rows, generator
from gmvaluator.memory import reserve, reserving
from gmvaluator.progress import Progress, Silent

MARKER = "trace.json"
_FORMAT = "gmvaluator/gan-trace/1"


@dataclass(frozen=True, eq=False)
class Trace:
    """Recorded updates of a training.

    Attributes:
        folder: folder of the trace.
        recipe: recipe of the training.
        pair: the networks. Their own weights are not used.
        n: number of training images.
        rows: (T, B) int64, the images of each update.
        codes: (T, B, latent), the codes of each update.
        weights: (T + 1, P), weights before each update, critic first. The last row is final.
        data_key, data_set_key: hashes of the training images, with and without their order.
        seconds: seconds of the training.
    """

    folder: Path
    recipe: GANRecipe
    pair: GANPair
    n: int
    rows: NDArray[np.int64]
    codes: NDArray[np.floating[Any]]
    weights: NDArray[np.floating[Any]]
    data_key: str
    data_set_key: str
    seconds: float

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, step: int) -> tuple[Parameters, Parameters]:
        """(critic, generator) before recorded update `step`, or at the end for `len(self)`."""
        vector = torch.from_numpy(np.array(self.weights[step]))
        critic, maker = unflatten(vector, *self.pair.start())
        return critic, maker

    @property
    def final(self) -> tuple[Parameters, Parameters]:
        """(critic, generator) at the end of the training."""
        return self.at(len(self))

    def batch(self, data: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(real images, codes) of recorded update `step`."""
        return data[self.rows[step]], torch.from_numpy(np.array(self.codes[step]))

    def check_data(self, data: Tensor) -> None:
        """Raises `InputError` unless these are the training images, in their order."""
        keys = data_keys(data)
        if keys == (self.data_key, self.data_set_key):
            return
        if keys[1] == self.data_set_key:
            raise InputError(
                f"trace {self.folder} was recorded with these images in another order; pass them "
                "in the order of its training"
            )
        raise InputError(
            f"trace {self.folder} was recorded with {self.n} other images than these {len(data)}; "
            "pass its training set"
        )

    def replay(self, data: Tensor, removed: Collection[int] = ()) -> tuple[Parameters, Parameters]:
        """(critic, generator) after all recorded updates, without the terms of some images."""
        step = make_step(self.pair, self.recipe)
        gone = np.fromiter(removed, np.int64, len(removed))
        critic, maker = self.at(0)
        for t in range(len(self)):
            real, codes = self.batch(data, t)
            weights = torch.from_numpy(~np.isin(self.rows[t], gone)).to(real.dtype)
            critic, maker = step(critic, maker, weights, real, codes)
        return critic, maker

    @staticmethod
    def open(folder: str | Path, pair: GANPair) -> Trace:
        """Read a trace of `train_traced`.

        Raises:
            RunError: the folder holds no finished trace, or the trace is damaged or of other
                networks.
        """
        where = Path(folder).absolute()
        file = where / MARKER
        if not file.is_file():
            raise RunError(
                f"{where} holds no finished trace ({MARKER}); record one with train_traced"
            )
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            recipe = GANRecipe(**record["recipe"])
            rows = np.load(where / "rows.npy")
            codes, weights = (
                np.load(where / f"{name}.npy", mmap_mode="r") for name in ("codes", "weights")
            )
            keys = (record["data_key"], record["data_set_key"])
            seconds = float(record["seconds"])
            trace = Trace(where, recipe, pair, record["n"], rows, codes, weights, *keys, seconds)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"trace {where} is damaged ({error}); record it again") from error
        if record["networks"] != _shapes(pair):
            raise RunError(f"trace {where} is of other networks than those given")
        if len(trace.weights) != len(trace) + 1:
            raise RunError(f"trace {where} is damaged (weights and updates differ in number)")
        if not np.isfinite(trace.weights[-1]).all():
            raise RunError(f"trace {where} ends in weights that are not finite; train again")
        return trace


def train_traced(
    pair: GANPair,
    data: Tensor,
    out: str | Path,
    recipe: GANRecipe | None = None,
    *,
    progress: Progress | None = None,
) -> Trace:
    """Train from the networks' present weights and record the last epochs.

    An interrupted training, called again with the same arguments, goes on from the last whole
    epoch. The result is the same bit for bit, with the same number of threads. A trace takes
    (weights × updates) numbers on disk.

    Args:
        pair: the networks. They are not changed.
        data: (n, …) training images, the critic's inputs.
        out: folder of the trace.
        recipe: recipe of the training.
        progress: receives the progress.

    Raises:
        InputError: there are fewer images than a batch needs.
        RunError: `out` holds another trace or cannot be written, or a weight is not finite.
    """
    recipe = recipe or GANRecipe()
    if len(data) < recipe.batch_size:
        raise InputError(
            f"{len(data)} training images for batches of {recipe.batch_size}; pass a smaller "
            "batch_size"
        )
    recorder = _Recorder(Path(out), pair, data, recipe)
    try:
        return recorder.run(progress or Silent())
    except OSError as error:
        raise RunError(
            f"{out} cannot be written ({error.strerror or error}); the trace needs "
            f"{recorder.bytes / 1e9:.2f} GB"
        ) from error


class _Recorder:
    def __init__(self, folder: Path, pair: GANPair, data: Tensor, recipe: GANRecipe) -> None:
        self._folder, self._pair, self._data, self._recipe = folder, pair, data, recipe
        self._per_epoch = len(data) // recipe.batch_size
        self._steps = recipe.epochs * self._per_epoch
        self._first = (recipe.epochs - recipe.traced) * self._per_epoch
        self._start = flatten(*pair.start())
        key, set_key = data_keys(data)
        start = hashlib.blake2b(self._start.numpy().tobytes(), digest_size=12).hexdigest()
        self._request = {
            "format": _FORMAT,
            "recipe": asdict(recipe),
            "n": len(data),
            "networks": _shapes(pair),
            "start": start,
            "data_key": key,
            "data_set_key": set_key,
        }

    @property
    def bytes(self) -> int:
        """Approximate size of the trace on disk."""
        numbers_per_step = self._start.numel() + self._recipe.batch_size * self._pair.latent
        return (self._steps - self._first) * numbers_per_step * self._start.element_size()

    def run(self, progress: Progress) -> Trace:
        self._folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self._folder)
        self._check_same(MARKER)
        if not (self._folder / MARKER).is_file():
            self._record(progress)
        return Trace.open(self._folder, self._pair)

    def _record(self, progress: Progress) -> None:
        self._check_same("request.json")
        self._write("request.json", self._request)
        vector, done, before = self._resumed()
        began = time.perf_counter()
        recorded = self._steps - self._first
        size = self._recipe.batch_size
        arrays = {
            "rows": self._array("rows", (recorded, size), np.dtype(np.int64)),
            "codes": self._array("codes", (recorded, size, self._pair.latent), self._dtype),
            "weights": self._array("weights", (recorded + 1, vector.numel()), self._dtype),
        }
        step = make_step(self._pair, self._recipe)
        critic, maker = unflatten(vector, *self._pair.start())
        with progress.stage("train traced GAN", self._steps) as advance:
            advance(done)
            for number in range(done, self._steps):
                rows = batch_rows(self._recipe.seed, number, len(self._data), size)
                codes = torch.randn(
                    (size, self._pair.latent),
                    generator=generator(self._recipe.seed, STEP, number),
                    dtype=self._data.dtype,
                )
                if number >= self._first:
                    place = number - self._first
                    arrays["rows"][place] = rows
                    arrays["codes"][place] = codes.numpy()
                    arrays["weights"][place] = flatten(critic, maker).numpy()
                ones = torch.ones(size, dtype=self._data.dtype)
                critic, maker = step(critic, maker, ones, self._data[rows], codes)
                advance(1)
                if (number + 1) % self._per_epoch == 0:
                    vector = flatten(critic, maker)
                    self._check_finite(vector, number + 1)
                    for array in arrays.values():
                        array.flush()
                    self._save(vector, number + 1, before + time.perf_counter() - began)
        arrays["weights"][recorded] = flatten(critic, maker).numpy()
        for array in arrays.values():
            array.flush()
        seconds = round(before + time.perf_counter() - began, 3)
        self._write(MARKER, self._request | {"seconds": seconds})
        for name in ("request.json", "state.npz"):
            (self._folder / name).unlink(missing_ok=True)

    @property
    def _dtype(self) -> np.dtype[Any]:
        return self._start.numpy().dtype

    def _array(self, name: str, shape: tuple[int, ...], kind: np.dtype[Any]) -> Any:
        """The array on disk, from an interrupted training or new."""
        file = self._folder / f"{name}.npy"
        if file.is_file():
            array = np.load(file, mmap_mode="r+")
            if array.shape == shape and array.dtype == kind:
                return array
        n_bytes = math.prod(shape) * kind.itemsize
        with (
            publish_file(file) as part,
            part.open("wb") as handle,
            reserving(n_bytes, self._folder, "free some space, or choose another folder"),
        ):
            header = {"descr": dtype_to_descr(kind), "fortran_order": False, "shape": shape}
            write_array_header_1_0(handle, header)
            reserve(handle, handle.tell() + n_bytes)
        return np.load(file, mmap_mode="r+")

    def _resumed(self) -> tuple[Tensor, int, float]:
        """(weights, updates done, their seconds) at the end of the last whole epoch."""
        file = self._folder / "state.npz"
        if not file.is_file():
            return self._start, 0, 0.0
        try:
            with file.open("rb") as handle, np.load(handle) as state:
                weights = torch.from_numpy(state["weights"])
                return weights, int(state["step"]), float(state["seconds"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise RunError(f"{file} is damaged ({error}); delete it to start again") from error

    def _save(self, vector: Tensor, step: int, seconds: float) -> None:
        with publish_file(self._folder / "state.npz") as part, part.open("wb") as handle:
            np.savez(handle, weights=vector.numpy(), step=step, seconds=seconds)

    def _check_same(self, name: str) -> None:
        file = self._folder / name
        if not file.is_file():
            return
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{file} is damaged ({error}); delete {self._folder}") from error
        if other := [name for name in self._request if record.get(name) != self._request[name]]:
            raise RunError(
                f"{self._folder} holds another trace (it differs in {', '.join(other)}); choose "
                "another folder, or delete it"
            )

    def _check_finite(self, vector: Tensor, step: int) -> None:
        if not bool(torch.isfinite(vector).all()):
            raise RunError(
                f"weights are not finite after update {step}; take smaller learning rates"
            )

    def _write(self, name: str, content: dict[str, Any]) -> None:
        with publish_file(self._folder / name) as part:
            part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def data_keys(data: Tensor) -> tuple[str, str]:
    """(hash that depends on the order, hash that does not) of images."""
    digests = [
        hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=16).digest()
        for image in data
    ]
    ordered = hashlib.blake2b(b"".join(digests), digest_size=16)
    unordered = hashlib.blake2b(b"".join(sorted(digests)), digest_size=16)
    return ordered.hexdigest(), unordered.hexdigest()


def _shapes(pair: GANPair) -> dict[str, dict[str, list[int]]]:
    critic, maker = pair.start()
    return {
        role: {name: list(parameter.shape) for name, parameter in network.items()}
        for role, network in (("critic", critic), ("generator", maker))
    }
