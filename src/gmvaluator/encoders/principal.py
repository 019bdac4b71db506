"""Principal components of a training set's pixels as an encoder (Pearson, 1901)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh

from gmvaluator.arguments import whole_number
from gmvaluator.encoders._modules import frozen, state_file
from gmvaluator.encoders.backends import NetworkEncoder, Runtime
from gmvaluator.encoders.base import Network
from gmvaluator.errors import InputError
from gmvaluator.geometry import evenly_spread
from gmvaluator.images import ImageSet, ImageSource, Preprocessing

SIZE = 28
MOST_IMAGES = 20_000  # evenly spread over a larger set


class Projection(torch.nn.Module):
    """(B, 3, S, S) uint8 → (B, c) float32: pixels in [0, 1] minus the mean, times the axes."""

    mean: torch.Tensor
    axes: torch.Tensor

    def __init__(self, mean: NDArray[np.float64], axes: NDArray[np.float64]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean.astype(np.float32)))
        self.register_buffer("axes", torch.from_numpy(axes.astype(np.float32)))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.float().flatten(1) / 255 - self.mean) @ self.axes


class PrincipalComponents(NetworkEncoder):
    """The scores of images on the first principal components; made by `fit`.

    Distances are Euclidean. With all components they are those of pixels, with the first ones
    those of low-pass images, with whitened ones Mahalanobis distances. The components are part of
    the fingerprint.
    """

    @classmethod
    def fit(
        cls,
        train: ImageSource,
        components: int = 64,
        *,
        size: int = SIZE,
        whiten: bool = False,
        runtime: Runtime | None = None,
    ) -> PrincipalComponents:
        """Learn the components of training images, at most `MOST_IMAGES` of them.

        Args:
            train: any source of `ImageSet`.
            components: how many.
            size: side that images are squashed to, in pixels.
            whiten: divide each score by its standard deviation among the training images.

        Raises:
            InputError: more components than the images vary in, or an unreadable image.
        """
        components, size = whole_number("components", components, 1), whole_number("size", size, 1)
        pixels = _pixels(ImageSet.open(train), size)
        mean = pixels.mean(axis=0, dtype=np.float64)
        pixels -= mean.astype(np.float32)
        n, dim = pixels.shape
        if not 1 <= components <= min(n - 1, dim):
            raise InputError(
                f"{components} components asked of {n} images of {dim} numbers; pass 1 to "
                f"{min(n - 1, dim)}"
            )
        variances, axes = _leading(pixels, components)
        if variances[-1] <= 1e-6 * variances[0]:
            n_directions = int((variances > 1e-6 * variances[0]).sum())
            raise InputError(
                f"the training images vary in {n_directions} directions, not {components}; pass "
                "fewer components"
            )
        if whiten:
            axes = axes / np.sqrt(variances)
        module = frozen(Projection(mean, axes))
        name = f"pca:{components}{':whitened' if whiten else ''}@{size}"
        network = Network(
            name=name,
            module=module,
            preprocessing=Preprocessing(size, interpolation="bilinear"),
            metric="euclidean",
            weights=(state_file(name, module),),
        )
        return cls(network, runtime or Runtime())


def _pixels(images: ImageSet, size: int) -> NDArray[np.float32]:
    """(n, 3·size²) float32 in [0, 1]."""
    rows = evenly_spread(len(images), MOST_IMAGES)
    preprocessing = Preprocessing(size, interpolation="bilinear")
    blocks = [
        batch.pixels.reshape(len(batch.pixels), -1).astype(np.float32) / 255
        for batch in images.batches(preprocessing, rows=rows, on_error="raise")
    ]
    return np.concatenate(blocks)


def _leading(
    centred: NDArray[np.float32], components: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Greatest variances (c,), descending, and unit axes (dim, c); an axis's greatest part is > 0.

    Through whichever of the two products is the smaller: of dimensions or of images.
    """
    n, dim = centred.shape
    wide = dim > n
    products = (centred @ centred.T if wide else centred.T @ centred).astype(np.float64)
    last = len(products) - 1
    values, vectors = eigh(products, subset_by_index=(last - components + 1, last))
    values, vectors = values[::-1], vectors[:, ::-1]
    axes = centred.T.astype(np.float64) @ vectors if wide else vectors
    axes = axes / np.maximum(np.sqrt(np.square(axes).sum(axis=0)), 1e-30)
    greatest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    return np.maximum(values, 0) / n, axes * np.sign(greatest)
