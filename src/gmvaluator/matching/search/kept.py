"""Indexes that are trained once: kept in the store for later processes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gmvaluator import versions
from gmvaluator.encoders.base import arithmetic_of
from gmvaluator.errors import RunError
from gmvaluator.files.store import Store
from gmvaluator.matching.placed import RecallSpace
from gmvaluator.matching.search.build import build_index, open_index, save_index
from gmvaluator.matching.search.indexes import ExactIndex, Index
from gmvaluator.matching.search.product_quantization import DESIGN


def open_kept_index(
    name: str,
    recall_space: RecallSpace,
    store: Store | None,
    *,
    train: str,
    order: NDArray[np.int64],
    seed: int,
) -> Index:
    """The index of a name over the training vectors of a space: from the store, or built now.

    Args:
        store: where trained indexes are kept; None: nowhere.
        train: fingerprint of the training set.
        order: (n,) rows in the order that training reads them; see `build_index`.
        seed: of the training.

    Raises:
        InputError: the index does not fit the vectors.
    """
    encoder, vectors = recall_space.encoder, recall_space.vectors
    # a user's own code may compute something else next time; exact search needs no training
    recognised = getattr(encoder, "table", None) is not None
    if store is None or not recognised or name == "exact":
        return build_index(vectors, name, order=order, seed=seed)
    n, dim = vectors.shape
    file = store.index(
        {
            "index": name,
            "design": DESIGN,
            "n": n,
            "dim": dim,
            "metric": recall_space.space.metric,
            "seed": seed,
            "train": train,
            "encoder": encoder.fingerprint,
            "arithmetic": arithmetic_of(encoder),
            # another version may train otherwise, or write another format
            "versions": versions.installed(("gmvaluator", "faiss-cpu")),
        }
    )
    path = file.check()
    if path is not None:
        try:
            return open_index(path, vectors)
        except RunError as error:  # another process pruned it meanwhile
            file.faults.report("read", error)
    index = build_index(vectors, name, order=order, seed=seed)
    # fewer vectors than an index can be trained on are searched exactly
    if not isinstance(index, ExactIndex):
        file.write(lambda part: save_index(index, part))
    return index
