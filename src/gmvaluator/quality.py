"""Quality q_j of generated images, 0 bad … 1 good (the calibration factor of Eq. 6)."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError, MissingPackageError
from gmvaluator.geometry import Vectors, blocks, nearest
from gmvaluator.images import ImageSet, Preprocessing
from gmvaluator.progress import Progress, Silent
from gmvaluator.weights import Weights

QUALITY_NAMES = ("realism", "maniqa", "none")
REFERENCE_SIZE = 5_000
NEIGHBOURS = 3
MANIQA_SIZE = 224


@dataclass(frozen=True, eq=False)
class RealismReference:
    """Hyperspheres around real images that the realism score measures against.

    Attributes:
        rows: (r,) rows of the reference images in the training set.
        radii: (r,) float32, distance of each to its third nearest reference image.
    """

    rows: NDArray[np.int64]
    radii: NDArray[np.float32]

    @staticmethod
    def fit(vectors: Vectors, order: NDArray[np.int64]) -> RealismReference:
        """Take the first `REFERENCE_SIZE` training images in a fixed order as the reference.

        Hyperspheres larger than the median are dropped, as in Kynkäänniemi et al. (NeurIPS 2019,
        section 3.3), since they stand in sparse regions and reach too far.

        Args:
            vectors: (n, dim), placed.
            order: (n,) rows in an order that does not depend on how the set is listed.
        """
        rows = order[:REFERENCE_SIZE]
        if len(rows) < 2:
            raise InputError(
                "quality 'realism' measures against neighbours and needs at least 2 training "
                "images, not 1; pass quality 'none'"
            )
        reference = vectors[rows]
        neighbours = min(NEIGHBOURS + 1, len(rows))
        squared, _ = nearest(reference, reference, neighbours)
        radii = np.sqrt(squared[:, -1])
        kept = radii <= np.median(radii)
        return RealismReference(rows=rows[kept], radii=radii[kept])


def realism(generated: Vectors, train: Vectors, reference: RealismReference) -> NDArray[np.float64]:
    """Realism score R = max_r radius_r / ‖x̂ − x_r‖, clipped to [0, 1] → (m,) float64.

    Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models",
    NeurIPS 2019, Eq. 3. 1 means inside the estimated manifold of the training images.

    Args:
        generated: (m, dim), placed in the space of `train`.
        train: (n, dim), placed.
    """
    real = train[reference.rows]
    real_norms = np.einsum("ij,ij->i", real, real)
    scores = np.empty(len(generated), dtype=np.float64)
    squared_radii = reference.radii.astype(np.float64) ** 2
    for rows in blocks(len(generated), 8 * len(real)):
        block = generated[rows]
        norms = np.einsum("ij,ij->i", block, block)[:, None]
        squared = np.maximum(norms + real_norms - 2 * (block @ real.T), 0).astype(np.float64)
        inside = squared <= squared_radii
        ratio = np.sqrt(np.divide(squared_radii, squared, where=~inside, out=np.ones_like(squared)))
        scores[rows] = ratio.max(axis=1)
    return np.clip(scores, 0.0, 1.0)


def maniqa(
    images: ImageSet,
    rows: NDArray[np.int64],
    weights: Weights,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """MANIQA no-reference quality (Yang et al., CVPRW 2022) through pyiqa → (m,) float64.

    Images are squashed to the network's 224 px, so that a score does not depend on random crops.
    MANIQA's code is Apache-2.0; pyiqa is licensed for non-commercial use.

    Raises:
        MissingPackageError: pyiqa is not installed.
        MissingWeightsError: the weights are neither at hand nor reachable.
    """
    path = _require_maniqa(weights)
    import pyiqa
    import torch

    metric = pyiqa.create_metric(
        "maniqa", device=torch.device(device), pretrained_model_path=str(path)
    )
    scores: list[float] = []
    with (progress or Silent()).stage("quality: maniqa", len(rows)) as advance:
        for batch in images.batches(
            Preprocessing(MANIQA_SIZE), batch_size=8, rows=rows, on_error="raise"
        ):
            pixels = torch.from_numpy(batch.pixels).to(device).float() / 255
            with torch.inference_mode():
                scores.extend(metric(pixels).flatten().tolist())
            advance(len(batch.rows))
    return np.clip(np.asarray(scores, dtype=np.float64), 0.0, 1.0)


def require_quality(name: str, weights: Weights) -> None:
    """Fail before the long work where a named quality cannot run on this machine.

    Raises:
        MissingPackageError, MissingWeightsError: as `maniqa` would.
    """
    if name == "maniqa":
        _require_maniqa(weights)


def _require_maniqa(weights: Weights) -> Path:
    if importlib.util.find_spec("pyiqa") is None:
        raise MissingPackageError(
            "quality 'maniqa' needs pyiqa (licensed for non-commercial use): "
            "pip install 'gmvaluator[maniqa]'; or take quality 'realism' or 'none'"
        )
    return weights.resolve("maniqa").path


def given_quality(given: object, images: ImageSet, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """A user's array, or callable on the image set, as (m,) q_j of the readable images.

    Raises:
        InputError: another shape than one number a generated image, or outside [0, 1].
    """
    values = np.asarray(given(images) if callable(given) else given, dtype=np.float64)
    if values.shape == (len(images),):
        values = values[rows]
    if values.shape != (len(rows),):
        raise InputError(
            f"quality has shape {values.shape} for {len(images)} generated images; "
            f"pass one number an image, shape ({len(images)},)"
        )
    return values
