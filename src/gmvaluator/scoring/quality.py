"""Quality q_j of generated images, 0 bad … 1 good (the calibration factor of Eq. 6)."""

from __future__ import annotations

import hashlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmvaluator.errors import InputError, MissingPackageError, RunError, either
from gmvaluator.geometry import Vectors, blocks, nearest, squared_by_product
from gmvaluator.images import ImageSet, Preprocessing
from gmvaluator.images.tensors import as_numbers
from gmvaluator.matching.placed import PlacedSet, RecallSpace
from gmvaluator.progress import Progress, Silent
from gmvaluator.shown import short_repr
from gmvaluator.threads import BUILDING
from gmvaluator.versions import how_to_install
from gmvaluator.weights import Weights, load_state, load_strict

if TYPE_CHECKING:
    import torch

REFERENCE_SIZE = 5_000
NEIGHBOURS = 3
# of the squared norms: vectors nearer than this are equal, what remains is rounding of the sums
EQUAL = 1e-12
MANIQA_SIZE = 224
MANIQA_BATCH = 4
# of the network trained on KonIQ-10k; checkpoints do not record it, and PIPAL's takes 0.13
MANIQA_SCALE = 0.8


@short_repr
@dataclass(frozen=True, eq=False)
class RealismReference:
    """Hyperspheres around real images that the realism score measures against.

    Attributes:
        rows: (r,) rows of the reference images in the training set.
        radii: (r,) float32, distance of each to its third nearest reference image.
        vectors: (r, dim) placed vectors of the reference images, where an index holds them side by
            side; None: read from those of all training images.
    """

    rows: NDArray[np.int64]
    radii: NDArray[np.float32]
    vectors: Vectors | None = None

    @staticmethod
    def fit(vectors: Vectors, order: NDArray[np.int64]) -> RealismReference:
        """Take the first `REFERENCE_SIZE` training images in a fixed order as the reference.

        Hyperspheres larger than the median are dropped, as in Kynkäänniemi et al. (NeurIPS 2019,
        on Eq. 3), since they stand in sparse regions and reach too far. Copies of an image count
        once: their radii would be 0 and say nothing of how densely real images lie.

        Args:
            vectors: (n, dim), placed.
            order: (n,) rows in an order that does not depend on how the set is listed.

        Raises:
            InputError: fewer than two training images.
        """
        if len(order) < 2:
            raise InputError(
                "quality 'realism' measures against neighbours and needs at least 2 training "
                f"images, not {len(order)}; pass quality 'none'"
            )
        rows = _distinct(vectors, order[:REFERENCE_SIZE])
        reference = vectors[rows]
        neighbours = min(NEIGHBOURS + 1, len(rows))
        squared, _ = nearest(reference, reference, neighbours)
        radii = np.sqrt(squared[:, -1])
        small = radii <= np.median(radii)
        return RealismReference(rows=rows[small], radii=radii[small])


def _distinct(vectors: Vectors, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """`rows` without those whose vector an earlier one has."""
    first: dict[bytes, int] = {}
    for row in rows.tolist():
        # + 0 turns a negative zero into the equal positive one: equal vectors have equal bytes
        vector = (vectors[row] + 0).tobytes()
        first.setdefault(hashlib.blake2b(vector, digest_size=16).digest(), row)
    return np.array(list(first.values()), dtype=np.int64)


def realism(generated: Vectors, train: Vectors, reference: RealismReference) -> NDArray[np.float64]:
    """Realism score R = max_r radius_r / ‖x̂ − x_r‖, clipped to [0, 1] → (m,) float64.

    Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models",
    NeurIPS 2019, Eq. 3. 1 means inside the estimated manifold of the training images.

    Args:
        generated: (m, dim), placed in the space of `train`.
        train: (n, dim), placed.
    """
    scores = np.zeros(len(generated), dtype=np.float64)
    row_bytes = 8 * train.shape[1]
    for spheres in blocks(len(reference.rows), row_bytes):
        # float64: the product leaves no digits of a small distance in float32
        near = reference.vectors
        chosen = train[reference.rows[spheres]] if near is None else near[spheres]
        real = chosen.astype(np.float64)
        squared_radii = reference.radii[spheres].astype(np.float64) ** 2
        for rows in blocks(len(generated), max(row_bytes, 8 * len(real))):
            ratio = _sphere_ratios(generated[rows].astype(np.float64), real, squared_radii)
            scores[rows] = np.maximum(scores[rows], ratio)
    return scores


def _sphere_ratios(
    points: NDArray[np.float64], real: NDArray[np.float64], squared_radii: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(b, dim), (r, dim), (r,) → (b,) largest radius / distance, at most 1."""
    squared, sums = squared_by_product(points, real)
    inside = squared <= np.maximum(squared_radii, EQUAL * sums)
    ratio = np.divide(squared_radii, squared, where=~inside, out=np.ones_like(squared))
    return np.asarray(np.sqrt(ratio.max(axis=1)), dtype=np.float64)


def maniqa(
    images: ImageSet,
    rows: NDArray[np.int64],
    weights: Weights,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """MANIQA no-reference quality (Yang et al., CVPRW 2022) of `rows` through pyiqa → (m,) float64.

    Each image is squashed to the network's 224 px and seen once, whole: the published score
    averages 20 crops of 224 px, which are all the same one here. MANIQA's code is Apache-2.0;
    pyiqa is licensed for non-commercial use.

    Args:
        images: the generated images.
        rows: (m,) those to score, all readable.
        weights: where "maniqa" comes from: a checkpoint trained on KonIQ-10k.
        device: of torch.
        progress: hears how far it is.

    Raises:
        MissingPackageError: pyiqa is not installed or cannot be imported.
        MissingWeightsError: the weights are neither at hand nor reachable.
        InputError: the weights are not MANIQA's, or an image cannot be read any more.
    """
    import torch

    path = _require_maniqa(weights)
    network = _load_maniqa(path).to(device)
    scores: list[float] = []
    with (progress or Silent()).stage("quality: maniqa", len(rows)) as advance:
        for batch in images.batches(
            Preprocessing(MANIQA_SIZE), batch_size=MANIQA_BATCH, rows=rows, on_error="raise"
        ):
            pixels = torch.from_numpy(batch.pixels).to(device).float() / 255
            deterministic = torch.backends.cudnn.flags(benchmark=False, deterministic=True)
            with torch.inference_mode(), deterministic:
                scores.extend(network(pixels).flatten().tolist())
            advance(len(batch.rows))
    quality = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(quality).all():
        raise InputError(f"MANIQA returned NaN or infinite scores; check the weight file {path}")
    return np.clip(quality, 0.0, 1.0)


def _require_maniqa(weights: Weights) -> Path:
    if importlib.util.find_spec("pyiqa") is None:
        raise MissingPackageError(
            "quality 'maniqa' needs pyiqa (licensed for non-commercial use): "
            f"{how_to_install('maniqa')}; or take quality 'realism' or 'none'"
        )
    return weights.resolve("maniqa").path


def _load_maniqa(path: Path) -> torch.nn.Module:
    """pyiqa's network filled from a checkpoint: its own loader runs pickled code and prints."""
    network = untrained_maniqa()
    state = load_state(path)
    # pyiqa's training wraps the tensors in `params`, data-parallel training prefixes their names
    state = state["params"] if isinstance(state.get("params"), dict) else state
    state = {str(name).removeprefix("module."): tensor for name, tensor in state.items()}
    load_strict(network, state, path)
    return network.eval().requires_grad_(False)


def untrained_maniqa() -> torch.nn.Module:
    """pyiqa's network with random numbers, for images of `MANIQA_SIZE` pixels seen once."""
    try:
        from pyiqa.archs import maniqa_arch
    except ImportError as error:
        raise MissingPackageError(
            f"quality 'maniqa' needs pyiqa, which is installed but cannot be imported ({error}); "
            "repair it: pip install --force-reinstall pyiqa; or take quality 'realism' or 'none'"
        ) from error
    with _untrained_trunk(maniqa_arch):
        network: torch.nn.Module = maniqa_arch.MANIQA(
            pretrained=False, scale=MANIQA_SCALE, img_size=MANIQA_SIZE, test_sample=1
        )
    return network


@contextmanager
def _untrained_trunk(module: Any) -> Iterator[None]:
    """Keep pyiqa's module from downloading a trained ViT, which the checkpoint replaces anyway."""
    with BUILDING:
        timm = module.timm
        module.timm = SimpleNamespace(create_model=lambda name, **_: timm.create_model(name))
        try:
            yield
        finally:
            module.timm = timm


def supplied_quality(
    supplied: ArrayLike | Callable[[ImageSet], ArrayLike], images: ImageSet, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """A user's array, or function of the image set, as (m,) q_j of the readable images.

    Args:
        supplied: one number per image of the set or per readable image; or a function that returns
            these.
        images: the generated images, unreadable ones included.
        rows: (m,) rows of the readable images.

    Raises:
        InputError: not numbers, or another shape. `contribute` checks the range.
    """
    quality = _numbers(supplied(images) if callable(supplied) else supplied, len(images))
    if quality.shape == (len(images),):
        quality = quality[rows]
    if quality.shape != (len(rows),):
        raise InputError(
            f"quality has shape {quality.shape} for {len(images)} generated images; "
            f"pass one number an image, shape ({len(images)},)"
        )
    return quality


@short_repr
@dataclass(frozen=True, eq=False)
class Judged:
    """The m generated images that a quality is measured of, and what may be measured with.

    Attributes:
        generated: the images.
        first: the (first) recall space, with the training vectors.
        reference: of the realism score; None where fitting learned none.
        weights: where network weights come from.
        device: of torch.
        progress: counts images.
        to_domain: gives the (m,) squared distances of the images as small pictures to the domain of
            the training images, and that of the usual training image (`gmvaluator.engine.domain`).
    """

    generated: PlacedSet
    first: RecallSpace
    reference: RealismReference | None
    weights: Weights
    device: str
    progress: Progress
    to_domain: Callable[[], tuple[NDArray[np.float64], float]]


class Quality(ABC):
    """One way to measure q_j: one class here and one line of the table `QUALITIES`.

    Attributes:
        name: in settings and on the command line.
        needs_reference: whether fitting learns a `RealismReference`.
        by_domain: whether the distance of images to the domain is read.
    """

    name: str
    needs_reference: bool = False
    by_domain: bool = False

    def require(self, weights: Weights) -> None:
        """Raise before long work where the quality cannot run on this machine."""
        del weights

    def hashes(self, weights: Weights) -> dict[str, str]:
        """SHA-256 by name of the weight files that the quality uses, for `run.json`."""
        del weights
        return {}

    @abstractmethod
    def measure(self, judged: Judged) -> NDArray[np.float64]:
        """(m,) q_j, 0 bad … 1 good."""


class Realism(Quality):
    """The realism score in the recall space."""

    name = "realism"
    needs_reference = True

    def measure(self, judged: Judged) -> NDArray[np.float64]:
        if judged.reference is None:
            raise RunError("the index holds no realism reference; fit again")
        vectors = judged.generated.vectors[judged.first.encoder.fingerprint]
        # vectors of mirror images, if any, come after those of the images
        vectors = vectors[: len(judged.generated.rows)]
        return realism(vectors, judged.first.vectors, judged.reference)


class Maniqa(Quality):
    """MANIQA through pyiqa."""

    name = "maniqa"

    def require(self, weights: Weights) -> None:
        """Load the network.

        Raises:
            MissingPackageError, MissingWeightsError, InputError: as `maniqa`.
        """
        _load_maniqa(_require_maniqa(weights))

    def hashes(self, weights: Weights) -> dict[str, str]:
        return {"maniqa": weights.resolve("maniqa").sha256}

    def measure(self, judged: Judged) -> NDArray[np.float64]:
        generated = judged.generated
        return maniqa(
            generated.source(),
            generated.rows,
            judged.weights,
            device=judged.device,
            progress=judged.progress,
        )


class WithinDomain(Quality):
    """√(median distance of training images / distance of the image), at most 1.

    The distance is the squared Mahalanobis distance of small pictures (`gmvaluator.engine.domain`).
    Noise is far, also where the training set holds some of it. Blur is not.
    """

    name = "domain"
    by_domain = True

    def measure(self, judged: Judged) -> NDArray[np.float64]:
        distances, usual = judged.to_domain()
        ratio = np.ones(len(distances))
        # where most training images are one picture, nothing says what is usual
        np.divide(usual, distances, out=ratio, where=(distances > usual) & (usual > 0))
        return np.sqrt(ratio)


class NoQuality(Quality):
    """1 for every image."""

    name = "none"

    def measure(self, judged: Judged) -> NDArray[np.float64]:
        return np.ones(len(judged.generated.rows), dtype=np.float64)


class Supplied(Quality):
    """A user's array, or function of the generated `ImageSet`."""

    name = "given"

    def __init__(self, supplied: ArrayLike | Callable[[ImageSet], ArrayLike]) -> None:
        self._supplied = supplied if callable(supplied) else _numbers(supplied, "m")
        if isinstance(self._supplied, np.ndarray) and self._supplied.ndim != 1:
            raise InputError(
                f"quality has shape {self._supplied.shape}; pass one number an image, shape (m,)"
            )

    def measure(self, judged: Judged) -> NDArray[np.float64]:
        generated = judged.generated
        return supplied_quality(self._supplied, generated.source(), generated.rows)


QUALITIES: Mapping[str, Quality] = MappingProxyType(
    {quality.name: quality for quality in (Realism(), WithinDomain(), Maniqa(), NoQuality())}
)
"""Qualities by name."""

QualitySource = str | ArrayLike | Callable[[ImageSet], ArrayLike]
"""What a user may pass as quality: a name, m numbers, or a function of the generated images."""


def _numbers(supplied: ArrayLike, n: int | str) -> NDArray[np.float64]:
    """What a user passes as quality, as numbers; `n` is how many there are to be."""
    try:
        return as_numbers(supplied).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"quality of type {type(supplied).__name__} cannot be read as numbers ({error}); pass "
            f"one number an image, shape ({n},)"
        ) from error


def as_quality(quality: QualitySource) -> Quality:
    """The quality of a name, or a user's own.

    Raises:
        InputError: unknown name.
    """
    if not isinstance(quality, str):
        return Supplied(quality)
    if quality not in QUALITIES:
        raise InputError(
            f"unknown quality {quality!r}; choose one of {', '.join(QUALITIES)}, "
            + either("or pass an array or a function", "or an .npy file of one number an image")
        )
    return QUALITIES[quality]
