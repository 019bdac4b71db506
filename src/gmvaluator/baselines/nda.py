"""NDA: nonparametric data attribution for diffusion models, from images alone.

Source: Zhao, Du, Zheng, Pang & Lin (2025), arXiv 2510.14269. A generated image is noised once to
step t of a diffusion, x_t = √ᾱ x + √(1 − ᾱ) ε. The optimal denoiser of single patches explains each
patch of x_t by all patches y of all training images, with weights
softmax(−‖x_t − √ᾱ y‖² / (2 (1 − ᾱ))). The score of a training image is the sum of the greatest
weights of its patches, over all patches of the generated image.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gmvaluator.arguments import real_number
from gmvaluator.baselines.assembling import assemble
from gmvaluator.baselines.checks import check_at_least, check_enough, fitted
from gmvaluator.baselines.nda_patches import STEPS, Floats, NoiseLevel, Window, signed
from gmvaluator.baselines.nda_softmax import StreamedSoftmax
from gmvaluator.baselines.reading import ReadSet, read_pixels, skipped_of
from gmvaluator.errors import InputError
from gmvaluator.generators.data import common_side
from gmvaluator.geometry import nearest
from gmvaluator.images import ImageSet, ImageSource
from gmvaluator.memory import parse_memory
from gmvaluator.progress import Progress, Silent
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.scores import Contributions

Pixels = NDArray[np.uint8]

LARGEST_OWN_SIDE = 64
_SIDE = 32  # of images that have no common side, or a larger one
_KEYS = 2048  # training patches a block, at least one image's
_TOGETHER = 16  # generated images that meet each block of training patches


class NDA:
    """Values training images by how well their patches explain patches of generated images.

    The scores of a generated image are shares: ≥ 0, with sum 1 over its k training images.
    `info["shares"]` reports the share of all other training images. All generated images get the
    same noise, as in the authors' code, so that a valuation does not depend on their order.

    Args:
        size: side in pixels to which images are resized. Default: the side of the training images
            if all have the same and it is at most 64, else 32.
        t: step of the noise, 0 to 999, of DDPM's linear schedule with 1,000 steps.
        patch: side of the patches in pixels, odd. The paper takes 7 for 32 × 32 images.
        topk: number of weights of a training image that count per patch.
        scales: 2 also scores half-size copies (means of 2 × 2 pixels, patches of twice the reach)
            and takes alpha · full + (1 − alpha) · half.
        alpha: 0 to 1, used with `scales=2`.
        k: number of training images per generated image.
        candidates: number of training images to score, the nearest in pixels. None: all, as
            published. Candidates change the result, since patches match anywhere: 1,000
            candidates hold a third of the 50 best of 5,000 digits.
        seed: seed of the noise.
        memory: budget such as `2GB` for sums of weights.
        progress: receives the progress.

    Raises:
        InputError: a number is out of range.
    """

    def __init__(
        self,
        *,
        size: int | None = None,
        t: int = 100,
        patch: int = 7,
        topk: int = 100,
        scales: int = 1,
        alpha: float = 0.5,
        k: int = 50,
        candidates: int | None = None,
        seed: int = 0,
        memory: int | str | None = None,
        progress: Progress | None = None,
    ) -> None:
        for name, number in (("k", k), ("patch", patch), ("topk", topk)):
            check_at_least(1, name, number)
        check_at_least(2, "size", 2 if size is None else size)
        check_at_least(k, "candidates", k if candidates is None else candidates)
        check_at_least(0, "seed", seed)
        check_at_least(0, "t", t)
        if t >= STEPS:
            raise InputError(f"t={t} was given; pass a step t from 0 to {STEPS - 1}")
        if patch % 2 == 0:
            raise InputError(f"patch={patch} is even and has no middle; pass {patch - 1}")
        if scales not in (1, 2):
            raise InputError(f"scales={scales!r} was given; pass 1, or 2 for a half-size copy too")
        wanted = "a share alpha from 0 to 1"
        if not 0 <= real_number("alpha", alpha, wanted) <= 1:
            raise InputError(f"alpha={alpha} was given; pass {wanted}")
        self.k = k
        self.seed = seed
        self._size = size
        self._t = t
        self._noise = NoiseLevel.at(t)
        self._topk = topk
        self._windows: list[tuple[Window, float]] = [(Window(patch), 1.0)]
        if scales == 2:
            self._windows = [(Window(patch), alpha), (Window(patch, 2), 1 - alpha)]
        self._candidates = candidates
        self._memory = parse_memory(memory)
        self._progress = progress or Silent()
        self._train: ReadSet | None = None

    def fit(self, train: ImageSource) -> Self:
        """Read the training images into memory.

        Raises:
            InputError: no image can be read.
        """
        images = ImageSet.open(train)
        side = self._size or common_side(images)
        if self._size is None and (side is None or not 2 <= side <= LARGEST_OWN_SIDE):
            side = _SIDE
        self._train = read_pixels(images, side or _SIDE, self._progress, "bilinear")
        return self

    def value(self, generated: ImageSource) -> Valuation:
        """The k best training images of each generated image.

        Raises:
            InputError: not fitted, k exceeds the training images, or no image can be read.
        """
        train = fitted(self._train)
        n = len(train.pixels)
        check_enough(self.k, n, "training images")
        images = self._read(generated, train)
        start = time.perf_counter()
        rows, best_sums, left_out = [], [], []
        for sums in self._blocks(train.pixels.bytes, images.pixels.bytes):
            order = np.argsort(-sums, axis=1, kind="stable")[:, : self.k]
            rows.append(order)
            best_sums.append(np.take_along_axis(sums, order, axis=1))
            left_out.append(sums.sum(axis=1) - best_sums[-1].sum(axis=1))
        best, rest = np.concatenate(best_sums), np.concatenate(left_out)
        whole = best.sum(axis=1, keepdims=True)
        return assemble(
            train.images,
            images.images,
            # nearer explains more
            Contributions(np.concatenate(rows), (-best).astype(np.float32), best / whole, n),
            settings=self._settings(train),
            seed=self.seed,
            seconds={"values": time.perf_counter() - start},
            skipped=skipped_of(train, images),
            more={"shares": _sum_summary(whole[:, 0], rest)},
        )

    def scores(self, generated: ImageSource) -> NDArray[np.float64]:
        """(n_train, m) sums of weights, not normalised.

        A column sums to at most the number of patches of a generated image. Rows and columns are
        those of `VAETracIn.influence`. Raises the errors of `value`.
        """
        train = fitted(self._train)
        images = self._read(generated, train)
        return np.concatenate(list(self._blocks(train.pixels.bytes, images.pixels.bytes))).T

    def _read(self, generated: ImageSource, train: ReadSet) -> ReadSet:
        side = train.pixels.bytes.shape[-1]
        return read_pixels(ImageSet.open(generated), side, self._progress, "bilinear")

    def _settings(self, train: ReadSet) -> dict[str, Any]:
        window, alpha = self._windows[0]
        return {
            "valuer": "nda",
            "k": self.k,
            "size": train.pixels.bytes.shape[-1],
            "t": self._t,
            "patch": window.patch,
            "topk": self._topk,
            "scales": len(self._windows),
            "alpha": alpha,
            "candidates": self._candidates,
        }

    def _blocks(self, train: Pixels, generated: Pixels) -> Iterator[NDArray[np.float64]]:
        """(b, n) sums of weights, a few generated images at a time."""
        colours = max(train.shape[1], generated.shape[1])
        side = train.shape[-1]
        train, generated = (
            np.broadcast_to(images, (len(images), colours, side, side))
            for images in (train, generated)
        )
        # subtracting the mean keeps exponents small and changes no distance
        middle = signed(train.mean(axis=(0, 2, 3), keepdims=True), self._noise.dtype)
        noised = self._noised(generated, middle)
        with self._progress.stage("patches", len(noised)) as advance:
            if self._candidates is None or self._candidates >= len(train):
                together = self._together(len(train), side)
                for first in range(0, len(noised), together):
                    block = noised[first : first + together]
                    yield self._sums(block, train, middle)
                    advance(len(block))
                return
            for row, near in enumerate(self._nearest(train, generated)):
                sums = np.zeros((1, len(train)))
                sums[:, near] = self._sums(noised[row : row + 1], train[near], middle)
                yield sums
                advance(1)

    def _nearest(self, train: Pixels, generated: Pixels) -> NDArray[np.int64]:
        """(m, candidates) rows of the training images nearest in pixels."""
        points, queries = (
            signed(images, np.dtype(np.float32)).reshape(len(images), -1)
            for images in (train, generated)
        )
        return nearest(queries, points, self._candidates or len(train))[1]

    def _noised(self, generated: Pixels, middle: Floats) -> Floats:
        """x_t, from √ᾱ times the mean training pixel."""
        clean = signed(generated, self._noise.dtype) - middle
        noise = np.random.default_rng(self.seed).standard_normal(clean.shape[1:])
        scaled = self._noise.signal * clean + self._noise.variance**0.5 * noise
        return np.asarray(scaled, dtype=clean.dtype)

    def _together(self, n: int, side: int) -> int:
        """Number of generated images whose sums per patch and training image fit in memory."""
        one = side * side * n * self._noise.dtype.itemsize
        return max(1, min(_TOGETHER, self._memory // 2 // one))

    def _sums(self, noised: Floats, train: Pixels, middle: Floats) -> NDArray[np.float64]:
        """(b, n) sums of weights for b noised images."""
        total = np.zeros((len(noised), len(train)))
        for window, share in self._windows:
            for region in window.regions(train.shape[-1]):
                queries = window.patches(noised, region)
                softmax = StreamedSoftmax(
                    queries.reshape(-1, queries.shape[2]),
                    len(train),
                    region.positions,
                    self._noise.variance,
                    self._topk,
                )
                step = max(1, _KEYS // region.positions)
                for first in range(0, len(train), step):
                    images = signed(train[first : first + step], noised.dtype) - middle
                    softmax.add(window.patches(self._noise.signal * images, region), first)
                total += share * softmax.shares().reshape(*queries.shape[:2], -1).sum(axis=1)
        return total


def _sum_summary(best: NDArray[np.float64], rest: NDArray[np.float64]) -> dict[str, float]:
    """`info["shares"]`: the sums of the k best training images and of all others."""
    share = best / (best + rest)
    return {
        "sum_kept": float(best.mean()),
        "sum_left_out": float(rest.mean()),
        "kept_mean": float(share.mean()),
        "kept_least": float(share.min()),
    }
