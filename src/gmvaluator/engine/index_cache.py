"""Indexes built once: in memory by name, and on disk by everything that decides them."""

from __future__ import annotations

from gmvaluator import versions
from gmvaluator.engine.trained import Fitted
from gmvaluator.files.store import Store
from gmvaluator.matching.recall import ExactIndex, Index, build_index, open_index, save_index
from gmvaluator.matching.search.product_quantization import DESIGN


class IndexCache:
    """The indexes over one fitted training set.

    Args:
        fitted: the training set.
        fingerprint: of what made its vectors; None where they may not be recognised later.
        store: where trained indexes are kept; None keeps them in memory only.
        seed: of the training.
    """

    def __init__(
        self, fitted: Fitted, fingerprint: str | None, store: Store | None, seed: int
    ) -> None:
        self._fitted = fitted
        self._fingerprint = fingerprint
        self._store = store
        self._seed = seed
        self._indexes: dict[str, Index] = {}

    def get(self, name: str) -> Index:
        """The index of a name, trained now, before, or by an earlier run.

        Raises:
            InputError: the index does not fit the vectors.
            RunError: the cache cannot be written.
        """
        if name not in self._indexes:
            self._indexes[name] = self._open(name)
        return self._indexes[name]

    def _open(self, name: str) -> Index:
        vectors = self._fitted.vectors
        # exact search needs no training, only the vectors
        if self._store is None or self._fingerprint is None or name == "exact":
            return self._build(name)
        n, dim = vectors.shape
        file = self._store.index(
            {
                "index": name,
                "design": DESIGN,
                "n": n,
                "dim": dim,
                "metric": self._fitted.space.metric,
                "seed": self._seed,
                "train": self._fitted.distinct.fingerprint,
                "encoder": self._fingerprint,
                # another version may train otherwise, or write another format
                "versions": versions.installed(("gmvaluator", "faiss-cpu")),
            }
        )
        path = file.check()
        if path is not None:
            return open_index(path, vectors)
        index = self._build(name)
        if isinstance(index, ExactIndex):
            return index  # too few vectors to train on
        file.write(lambda part: save_index(index, part))
        return index

    def _build(self, name: str) -> Index:
        return build_index(self._fitted.vectors, name, order=self._fitted.order, seed=self._seed)
