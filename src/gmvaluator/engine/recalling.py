"""Recall for one fitted training set: in one or two spaces, by an image and its mirror image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.embedding import Embeddings
from gmvaluator.encoders.mirrored import Mirrored
from gmvaluator.engine.index_cache import IndexCache
from gmvaluator.engine.trained import Fitted
from gmvaluator.files.store import Store
from gmvaluator.geometry import Vectors
from gmvaluator.images import ImageSet
from gmvaluator.matching.recall import Candidates, by_turns, choose_index, nearer, recall
from gmvaluator.matching.rerank import Side, Term, placed_vectors
from gmvaluator.memory import allocate
from gmvaluator.progress import Progress
from gmvaluator.settings import Settings


class Recaller:
    """Finds candidates among one fitted training set; indexes are kept for the next call.

    Args:
        fitted: the training set.
        encoders: of its recall spaces.
        settings: of the valuation: index, mirror and seed.
        store: where trained indexes are kept; None keeps them in memory only.
        memory: bytes that may be used.
        progress: hears how far it is.
    """

    def __init__(
        self,
        fitted: Fitted,
        encoders: Sequence[Encoder],
        settings: Settings,
        store: Store | None,
        memory: int,
        progress: Progress,
    ) -> None:
        self._fitted = fitted
        self._encoders = encoders
        self._settings = settings
        self._memory = memory
        self._progress = progress
        self._indexes = [
            IndexCache(
                replace(fitted, space=each.space, vectors=each.vectors),
                # what a user's own code computes may not be recognised later
                encoder.fingerprint if getattr(encoder, "table", None) is not None else None,
                store,
                settings.seed,
            )
            for each, encoder in zip(fitted.spaces, encoders, strict=True)
        ]

    def place(self, images: ImageSet, embeddings: Embeddings) -> list[Vectors]:
        """Vectors of generated images in each space, mirror images after them if these are asked.

        Args:
            images: the generated images.
            embeddings: the m readable ones, by the first encoder; their memory is used again.

        Returns:
            (m, dim) or (2m, dim) vectors a space.

        Raises:
            InputError: an image can no longer be read.
        """
        side = Side(images, embeddings.rows, {}, tally=embeddings.tally)
        spaces = [each.space for each in self._fitted.spaces]
        own = spaces[0].place(embeddings.vectors, in_place=True)
        others = [
            placed_vectors(Term(encoder, space), side, self._memory, self._progress)
            for encoder, space in zip(self._encoders[1:], spaces[1:], strict=True)
        ]
        return self.mirrored([own, *others], side)

    def mirrored(self, placed: Sequence[Vectors], side: Side) -> list[Vectors]:
        """Vectors of images in each space, followed by their mirror images where these are asked.

        Args:
            placed: (m, dim) vectors a space.
            side: the m images.
        """
        if not self._settings.mirror:
            return list(placed)
        spaces = [each.space for each in self._fitted.spaces]
        return [
            self._followed(vectors, Term(Mirrored(encoder), space), side)
            for vectors, encoder, space in zip(placed, self._encoders, spaces, strict=True)
        ]

    def find(self, generated: Sequence[Vectors], n: int) -> tuple[tuple[str, ...], Candidates]:
        """The index taken in each space, and the n candidates of each generated image.

        From one space the nearest n, from two by turns. Of an image and its mirror image the
        nearer counts.

        Args:
            generated: as `place` gives them.
            n: candidates a generated image.
        """
        names, found = [], []
        parts = zip(self._fitted.spaces, self._indexes, generated, strict=True)
        for fitted, indexes, vectors in parts:
            n_train, dim = fitted.vectors.shape
            name = self._settings.index
            if name == "auto":
                name = choose_index(n_train, len(vectors), dim, memory=self._memory)
            with self._progress.stage(f"recall ({name})", len(vectors)) as advance:
                each = recall(indexes.get(name), fitted.space, vectors, n, n_train=n_train)
                advance(len(vectors))
            names.append(name)
            found.append(nearer(each, self._fitted.ties) if self._settings.mirror else each)
        if len(found) == 1:
            return tuple(names), found[0]
        first, second = found
        return tuple(names), by_turns(first, second, self._fitted.ties)

    def _followed(self, vectors: Vectors, term: Term, side: Side) -> Vectors:
        """(m, dim) vectors, then those of the same images by another encoder: (2m, dim)."""
        after = placed_vectors(term, side, self._memory, self._progress)
        both = allocate((2 * len(vectors), vectors.shape[1]), self._memory // 2)
        np.concatenate([vectors, after], out=both)
        return both
