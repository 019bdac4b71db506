"""Recall: the nearest training images of every generated one, exactly or by product quantization.

The paper recalls by product quantization (Jégou et al., 2011) through faiss. Exact search by
blocks costs less than training a quantizer until sets are large; `choose_index` says where.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.geometry import Space, Vectors, nearest

INDEX_NAMES = ("auto", "exact", "pq", "ivfpq")

EXACT_OPERATIONS = 1e13
"""n·m·dim up to which `auto` searches exactly: about three minutes on two cores."""
EXACT_BYTES = 8 << 30
"""Bytes of float32 vectors up to which `auto` searches exactly."""
PQ_VECTORS = 1_000_000
"""Training images up to which `auto` scans all product-quantized codes; above, inverted lists."""

PQ_TRAINING_VECTORS = 16_384
PQ_ITERATIONS = 8
PQ_DIM = 256
PQ_SUBVECTORS = 64


@dataclass(frozen=True, eq=False)
class Candidates:
    """Training images recalled for each generated one, nearest first.

    Attributes:
        rows: (m, candidates) int64, row of the training image.
        distances: (m, candidates) float32, in the recall space's unit; an approximate index's
            own estimate where one was used.
        n_train: number of training images.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float32]
    n_train: int


class Index(Protocol):
    """Anything that finds the n nearest of the vectors it was built on."""

    def search(self, queries: Vectors, n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...


class ExactIndex:
    """Blocked brute force over the placed vectors themselves."""

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = vectors

    def search(self, queries: Vectors, n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return nearest(queries, self.vectors, n)


class FaissIndex:
    """A trained faiss index that returns squared Euclidean distances."""

    def __init__(self, index: Any) -> None:
        self.index = index

    def search(self, queries: Vectors, n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        queries = np.ascontiguousarray(queries)
        squared, rows = self.index.search(queries, n)
        with self._own_effort():
            # only the queries that came back short: what one image finds never depends on others
            while (short := (rows < 0).any(axis=1)).any() and self._widen(n):
                squared[short], rows[short] = self.index.search(queries[short], n)
        if short.any():
            raise InputError(
                f"the index found fewer than {n} candidates for some images; ask for fewer "
                "candidates or take index='exact'"
            )
        return squared, rows

    @contextmanager
    def _own_effort(self) -> Iterator[None]:
        """Put back how far the index searches by itself, whatever `_widen` changed."""
        inner = _inner(self.index)
        nprobe = getattr(inner, "nprobe", None)
        ef_search = inner.hnsw.efSearch if hasattr(inner, "hnsw") else None
        try:
            yield
        finally:
            if nprobe is not None:
                inner.nprobe = nprobe
            if ef_search is not None:
                inner.hnsw.efSearch = ef_search

    def _widen(self, n: int) -> bool:
        """Let a search that came back short look at more; False when it saw everything."""
        import faiss

        inner = _inner(self.index)
        if isinstance(inner, faiss.IndexIVF) and inner.nprobe < inner.nlist:
            inner.nprobe = min(2 * inner.nprobe, inner.nlist)
            return True
        if isinstance(inner, faiss.IndexHNSW) and inner.hnsw.efSearch < max(n, self.index.ntotal):
            inner.hnsw.efSearch = max(n, 2 * inner.hnsw.efSearch)
            return True
        return False


def choose_index(n: int, m: int, dim: int) -> str:
    """The `auto` rule: exact while time and memory allow, then PQ, then IVF-PQ.

    Exact search does n·m·dim multiply-adds and keeps 4·n·dim bytes; `EXACT_OPERATIONS` and
    `EXACT_BYTES` bound them. Beyond, PQ codes are scanned up to `PQ_VECTORS` images.
    """
    if n * m * dim <= EXACT_OPERATIONS and 4 * n * dim <= EXACT_BYTES:
        return "exact"
    return "pq" if n <= PQ_VECTORS else "ivfpq"


def check_index_name(name: str) -> None:
    """Raise InputError unless `name` is known or a faiss factory string."""
    if name in INDEX_NAMES:
        return
    import faiss

    try:
        faiss.index_factory(64, name)
    except RuntimeError:
        raise InputError(
            f"unknown index {name!r}; choose one of {', '.join(INDEX_NAMES)} or a faiss factory "
            "string such as 'IVF256,PQ32'"
        ) from None


def build_index(
    vectors: Vectors, name: str, *, order: NDArray[np.int64] | None = None, seed: int = 0
) -> Index:
    """Build an index over (n, dim) placed vectors.

    Args:
        vectors: placed by `Space.place`.
        name: `exact`, `pq`, `ivfpq` or a faiss factory string (trained with faiss's defaults).
        order: (n,) rows in an order that does not depend on how the set happens to be listed;
            training reads them so, and permuting the set then trains the same index.
        seed: of the k-means initialisation.

    Raises:
        InputError: unknown name, or a factory string that does not fit n or dim.
    """
    n, dim = vectors.shape
    # two vectors cannot train a quantizer, and need none
    if name == "exact" or (name in ("pq", "ivfpq") and n < 4):
        return ExactIndex(vectors)
    import faiss

    quick = name in ("pq", "ivfpq")
    factory = _factory(name, n, dim) if quick else name
    try:
        index = faiss.index_factory(dim, factory)
        _configure_training(index, quick=quick, seed=seed)
        training = np.arange(n) if order is None else order
        index.train(vectors[training[:PQ_TRAINING_VECTORS] if quick else training])
        for start in range(0, n, 65_536):
            index.add(vectors[start : start + 65_536])
    except RuntimeError as error:
        cause = str(error).rsplit("Error: ", 1)[-1].splitlines()[0]
        raise InputError(
            f"faiss cannot build index {name!r} on {n} vectors of {dim} numbers ({cause}); "
            "choose exact, pq or another factory string"
        ) from None
    if index.metric_type != faiss.METRIC_L2:
        raise InputError(f"index {name!r} does not measure L2 distance; choose one that does")
    return FaissIndex(index)


def recall(index: Index, space: Space, generated: Vectors, n: int, *, n_train: int) -> Candidates:
    """The n nearest training images of each generated one.

    Args:
        index: built on the training images placed in `space`.
        generated: (m, dim), placed in `space`.
        n: candidates a generated image, at most `n_train`.
    """
    squared, rows = index.search(generated, n)
    return Candidates(rows=rows, distances=space.distance(squared), n_train=n_train)


def _inner(index: Any) -> Any:
    """The index behind rotations and projections."""
    import faiss

    inner = faiss.downcast_index(index)
    while isinstance(inner, faiss.IndexPreTransform):
        inner = faiss.downcast_index(inner.index)
    return inner


def _factory(name: str, n: int, dim: int) -> str:
    """PCA to at most 256 dimensions, then as many sub-vectors as divide them, up to 64."""
    reduced = min(PQ_DIM, dim, n)
    subvectors = max(s for s in range(1, PQ_SUBVECTORS + 1) if reduced % s == 0)
    # 2^bits centroids need as many training vectors
    bits = min(8, n.bit_length() - 1)
    lists = f"IVF{max(1, min(int(4 * n**0.5), n // 39))}," if name == "ivfpq" else ""
    rotate = f"PCAR{reduced}," if reduced < dim else ""
    # np: without it faiss anneals a code order for Hamming search, which recall does not do and
    # which costs far more than the k-means itself
    return f"{rotate}{lists}PQ{subvectors}x{bits}np"


def _configure_training(index: Any, *, quick: bool, seed: int) -> None:
    """Seed every k-means in the index; in `quick` form also stop it where recall stops gaining."""
    inner = _inner(index)
    quantizers: list[Any] = [getattr(inner, "pq", None), inner]
    for clustering in [each.cp for each in quantizers if hasattr(each, "cp")]:
        clustering.seed = seed + 1
        # a small training set is the caller's to have; faiss would print a warning on it
        clustering.min_points_per_centroid = 1
        if quick:
            clustering.niter = PQ_ITERATIONS
    if quick and hasattr(inner, "nprobe"):
        inner.nprobe = max(1, inner.nlist // 16)
