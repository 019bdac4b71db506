"""Product quantization (Jégou et al., 2011), as the paper recalls: the indexes `pq` and `ivfpq`.

PCA and a random rotation, then a product quantizer of 4-bit codes that SIMD registers scan (André
et al., 2015), whose best are put in order by 4-bit scalar codes. `ivfpq` scans only
the inverted lists nearest a query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.geometry import Vectors, blocks, one_thread
from gmvaluator.matching.search.indexes import (
    FaissIndex,
    Rows,
    downcast,
    inner_index,
    release,
    seed_training,
)
from gmvaluator.shown import short_repr

DESIGN = 1
"""Raised when the same vectors and name build another index, so that kept ones are not reused."""

PQ_TRAINING_VECTORS = 16_384
AXES_BYTES = 256 << 20
"""Training vectors that the axes are learned from: fewer of them where vectors are very long."""
PQ_ITERATIONS = 8
PQ_DIM = 256
TRAINABLE = 64
"""Vectors below which a quantizer has nothing to learn from."""
LIST_TRAINING_VECTORS = 32
LIST_SHARE = 8
LEAST_LISTS = 64
"""A query scans one inverted list in `LIST_SHARE`, but at least so many: few lose neighbours."""
FLAT_LISTS = 1_024
"""Lists up to which their centroids are compared one by one; above, through an HNSW graph."""
REORDERED = 8
"""Candidates the scan hands to reordering, for each one asked for."""
PROJECTION_BYTES = 16 << 20
REORDER_BYTES = 4 << 20
"""Decoded codes at a time: they stay in the processor's cache."""


def build_pq(
    vectors: Vectors | Rows, order: NDArray[np.int64] | None, *, listed: bool, seed: int
) -> PqIndex:
    """`pq`, or `ivfpq` (`listed`), over (n, dim) vectors, which are read in blocks.

    Args:
        order: rows that training reads, first ones first; evenly spaced ones by default.
    """
    import faiss

    n, dim = vectors.shape
    lists = _lists(n) if listed else 0
    n_training = min(n, max(PQ_TRAINING_VECTORS, LIST_TRAINING_VECTORS * lists))
    if order is None:
        order = np.linspace(0, n - 1, n_training).astype(np.int64)
    order = order[:n_training]
    seen = min(PQ_TRAINING_VECTORS, max(TRAINABLE, AXES_BYTES // (4 * dim)))
    projection = _projection(vectors[order[:seen]], seed)
    reduced = len(projection.axes)
    sample = np.empty((len(order), reduced), dtype=np.float32)
    for rows in blocks(len(order), 4 * dim):
        sample[rows] = projection(vectors[order[rows]])
        release(vectors)
    codes = f"PQ{_subvectors(reduced)}x4fs,Refine(SQ4)"
    graph = "_HNSW32" if lists > FLAT_LISTS else ""
    index: Any = faiss.index_factory(reduced, f"IVF{lists}{graph},{codes}" if lists else codes)
    seed_training(index, seed)
    inner = inner_index(index)
    inner.pq.cp.niter = PQ_ITERATIONS
    index.k_factor = REORDERED
    if lists:
        _train_lists(inner, sample, seed)
        inner.nprobe = min(lists, max(lists // LIST_SHARE, LEAST_LISTS))
    # its many small clusterings spend themselves on waiting for each other where cores are busy
    with one_thread():
        index.train(sample)
    for rows in blocks(n, 4 * dim):
        index.add(projection(vectors[rows]))
        release(vectors)
    return PqIndex(faiss.IndexPreTransform(projection.as_faiss(), index))


@short_repr
@dataclass(frozen=True, eq=False)
class Projection:
    """Axes (reduced, dim) and their offsets (reduced,), applied to rows of vectors.

    float64: a float32 matrix product rounds a row by its place in the block, which would flip
    codes when the set is listed otherwise.
    """

    axes: NDArray[np.float64]
    offset: NDArray[np.float64]

    @staticmethod
    def of(transform: Any) -> Projection:
        """What a `faiss.LinearTransform` holds."""
        import faiss

        transform = faiss.downcast_VectorTransform(transform)
        axes = faiss.vector_to_array(transform.A).reshape(-1, transform.d_in)
        return Projection(axes.astype(np.float64), faiss.vector_to_array(transform.b).astype("f8"))

    def __call__(self, vectors: Vectors) -> Vectors:
        """(r, dim) → (r, reduced)."""
        projected = np.empty((len(vectors), len(self.axes)), dtype=np.float32)
        for rows in blocks(len(vectors), 8 * vectors.shape[1], PROJECTION_BYTES):
            projected[rows] = vectors[rows].astype(np.float64) @ self.axes.T + self.offset
        return projected

    def as_faiss(self) -> Any:
        """As a `faiss.LinearTransform`, which an index file can hold."""
        import faiss

        transform = faiss.LinearTransform(self.axes.shape[1], len(self.axes), True)
        faiss.copy_array_to_vector(self.axes.ravel().astype(np.float32), transform.A)
        faiss.copy_array_to_vector(self.offset.astype(np.float32), transform.b)
        transform.is_trained = True
        transform.set_is_orthonormal()
        return transform


class PqIndex(FaissIndex):
    """Our `pq` and `ivfpq`: a fast scan of 4-bit codes, its best put in order by scalar codes.

    The scan adds up 8-bit table entries, so its estimates are often equal. Where faiss would let
    the listing order decide which of the equals at the cut to keep, all of them are left out.
    """

    def __init__(self, index: Any) -> None:
        super().__init__(index)
        self._projection = Projection.of(index.chain.at(0))

    def _search(self, queries: Vectors, n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        refine = downcast(self.index.index)
        placed = self._projection(queries)
        n_scanned = max(n, min(REORDERED * n, self.index.ntotal))
        estimates, scanned = refine.base_index.search(placed, n_scanned)
        if n_scanned < self.index.ntotal:
            cut = estimates == estimates[:, -1:]
            scanned[cut & ((~cut).sum(axis=1) >= n)[:, None]] = -1
        squared = np.empty((len(queries), n), dtype=np.float32)
        rows = np.empty((len(queries), n), dtype=np.int64)
        codes = _codes(refine.refine_index)
        for part in blocks(len(queries), 4 * n_scanned * placed.shape[1], REORDER_BYTES):
            # -1 reads the last vector, whose distance is then not used
            decoded = _decode(refine.refine_index, codes[scanned[part].ravel()])
            difference = decoded.reshape(-1, n_scanned, placed.shape[1])
            difference -= placed[part][:, None]
            exact = np.einsum("qcd,qcd->qc", difference, difference)
            exact[scanned[part] < 0] = np.inf
            order = np.lexsort((scanned[part], exact), axis=1)[:, :n]
            squared[part] = np.take_along_axis(exact, order, axis=1)
            rows[part] = np.take_along_axis(scanned[part], order, axis=1)
        return squared, rows


def _projection(sample: Vectors, seed: int) -> Projection:
    """PCA to at most `PQ_DIM` even dimensions, then a random rotation that spreads the variance.

    Not faiss's own PCAR: its eigen-solver takes most of the training time at 1,280 dimensions.
    """
    mean = sample.mean(axis=0, dtype=np.float64)
    axes = _principal_axes(sample - mean.astype(np.float32))
    reduced = len(axes)
    mix, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((reduced, reduced)))
    # rounded now: an index file holds float32
    matrix = (mix @ axes).astype(np.float32).astype(np.float64)
    return Projection(matrix, (-matrix @ mean).astype(np.float32).astype(np.float64))


def _principal_axes(centred: Vectors) -> NDArray[np.float64]:
    """(s, dim) → (reduced, dim) directions of the largest variance, through the smaller product."""
    n, dim = centred.shape
    reduced = min(PQ_DIM, dim, n - 1) // 2 * 2 or 1
    if dim <= n:
        _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
        return np.asarray(axes[:, ::-1][:, :reduced].T)
    variances, mixtures = np.linalg.eigh((centred @ centred.T).astype(np.float64))
    lengths = np.sqrt(np.maximum(variances[::-1][:reduced], 0))[:, None]
    axes = mixtures[:, ::-1][:, :reduced].T @ centred
    # copies of images leave directions without any variance, which tell nothing apart
    significant = lengths > 1e-6 * lengths.max(initial=0)
    directions: NDArray[np.float64] = np.zeros_like(axes, dtype=np.float64)
    np.divide(axes, lengths, where=significant, out=directions)
    return directions


def _subvectors(dim: int) -> int:
    """4-bit codes of a `dim`-dimensional vector: one a dimension, above 128 one for two."""
    return dim if dim <= PQ_DIM // 2 else dim // 2


def _lists(n: int) -> int:
    """Inverted lists of n vectors: the power of two at or below √n.

    Fast scanning makes long lists cheap, so few lists pay: they take less training and assigning.
    """
    return 1 << ((n.bit_length() - 1) // 2)


def _train_lists(inner: Any, sample: Vectors, seed: int) -> None:
    """Cluster (s, dim) `sample` into the centroids of the inverted lists."""
    import faiss

    settings = faiss.ClusteringParameters()
    settings.niter, settings.seed, settings.min_points_per_centroid = PQ_ITERATIONS, seed + 1, 1
    clustering = faiss.Clustering(inner.d, inner.nlist, settings)
    clustering.train(sample, faiss.IndexFlatL2(inner.d))
    centroids = faiss.vector_to_array(clustering.centroids).reshape(-1, inner.d)
    # several threads would link an HNSW graph in the order they happen to run
    with one_thread():
        inner.quantizer.add(centroids)


def _codes(flat: Any) -> NDArray[np.uint8]:
    """(n, code bytes) view of the codes of an index, in memory or mapped."""
    import faiss

    flat = downcast(flat)
    view: NDArray[np.uint8] = faiss.rev_swig_ptr(flat.codes.data(), flat.ntotal * flat.code_size)
    return view.reshape(flat.ntotal, flat.code_size)


def _decode(flat: Any, codes: NDArray[np.uint8]) -> Vectors:
    """(r, code bytes) → (r, dim); too small a task for threads to help each other."""
    with one_thread():
        decoded: Vectors = flat.sa_decode(codes)
    return decoded
