"""What fitting learns from a training set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.embedding import Embeddings, Tally
from gmvaluator.geometry import Space, Vectors
from gmvaluator.images import ImageSet, Skip, set_fingerprint
from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.matching.placed import PlacedSet, RecallSpace
from gmvaluator.matching.rerank import Term
from gmvaluator.memory import Memo, once
from gmvaluator.scoring.quality import RealismReference
from gmvaluator.shown import short_repr


@short_repr
@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The n readable training images, and the order that fixed samples of them are drawn in.

    Attributes:
        ids: n ids.
        labels: n labels; None where no label is known.
        rows: (n,) row of each image in its `ImageSet`.
        keys: n content keys.
        location: where the set was read from; None for images in memory.
        skipped: images that could not be read.
    """

    ids: tuple[str, ...]
    labels: tuple[str | None, ...] | None
    rows: NDArray[np.int64]
    keys: tuple[str, ...]
    location: str | None
    skipped: tuple[Skip, ...]

    @staticmethod
    def of(images: ImageSet, embeddings: Embeddings) -> TrainingSet:
        """The images of a set that were readable."""
        rows, labels = embeddings.rows, images.labels
        return TrainingSet(
            ids=tuple(images.ids[row] for row in rows),
            labels=None if labels is None else tuple(labels[row] for row in rows),
            rows=rows,
            keys=embeddings.keys,
            location=images.location,
            skipped=embeddings.skipped,
        )

    @property
    @once
    def order(self) -> NDArray[np.int64]:
        """(n,) rows ordered by content: samples drawn so do not depend on how a set is listed."""
        by_key = sorted(range(len(self.keys)), key=lambda row: (self.keys[row], self.ids[row]))
        return np.asarray(by_key, dtype=np.int64)

    @property
    @once
    def fingerprint(self) -> str:
        """SHA-256 over ids and contents."""
        return set_fingerprint(self.ids, self.keys)

    def select(self, numbers: NDArray[np.int64]) -> TrainingSet:
        """Some of the images."""
        return replace(
            self,
            ids=tuple(self.ids[number] for number in numbers),
            labels=None if self.labels is None else tuple(self.labels[n] for n in numbers),
            rows=self.rows[numbers],
            keys=tuple(self.keys[number] for number in numbers),
        )


@short_repr
@dataclass(frozen=True, eq=False)
class Trained:
    """Learned state of a `GMValuator`.

    Copies count once. So c of the n training images count, one of each cluster of copies, and
    everything but `train` and `clusters` is about these c images.

    Attributes:
        train: the readable training images, all n.
        placed: the c images with their vectors; the images themselves where they are at hand.
        spaces: the recall spaces, one or two.
        order: (c,) see `TrainingSet.order`.
        terms: the re-rank distances, in the order of the settings.
        realism: reference of the realism score; None for other qualities.
        encoders: fingerprint of each encoder by name, those of the recall first.
        weights: sha256 of each weight file by name.
        clusters: copies among the training images; None where none were looked for.
        seconds: of this process by stage; empty for an index that another process made.
        memo: results for later generated sets, which depend on the training set alone.
    """

    train: TrainingSet
    placed: PlacedSet
    spaces: tuple[RecallSpace, ...]
    order: NDArray[np.int64]
    terms: tuple[Term, ...]
    realism: RealismReference | None
    encoders: Mapping[str, str]
    weights: Mapping[str, str]
    clusters: Clusters | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    memo: Memo = field(default_factory=Memo)

    @property
    def space(self) -> Space:
        """Of the first recall space."""
        return self.spaces[0].space

    @property
    def vectors(self) -> Vectors:
        """(c, dim) float32, training vectors in the first recall space."""
        return self.spaces[0].vectors

    @property
    @once
    def distinct(self) -> TrainingSet:
        """The c training images that count: all of them, or one of each cluster."""
        return distinct_images(self.train, self.clusters)

    def counting(self, tally: Tally) -> Trained:
        """The same, but images that pass through the networks from now on count in `tally`."""
        return replace(self, placed=replace(self.placed, tally=tally))

    @property
    def n_copies(self) -> int:
        """Training images that another image stands for."""
        return len(self.train.ids) - len(self.order)

    def in_whole(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of `train` from rows of `distinct`."""
        return rows if self.clusters is None else self.clusters.kept[rows]

    @property
    @once
    def ties(self) -> NDArray[np.int64]:
        """(c,) rank of each training image in `order`; breaks equal distances."""
        ties = np.empty(len(self.order), dtype=np.int64)
        ties[self.order] = np.arange(len(self.order))
        return ties


def distinct_images(train: TrainingSet, clusters: Clusters | None) -> TrainingSet:
    """The training images that count: all, or one of each cluster of copies."""
    return train if clusters is None or not clusters.copies else train.select(clusters.kept)
