"""Groups of training images, such as those of an owner: subsets have all of a group or nothing."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.images import ImageSet
from gmvaluator.images.sources.base import label_text
from gmvaluator.shown import short_repr

LEAST_GROUPS = 4
LABEL = "label"


@short_repr
@dataclass(frozen=True, eq=False)
class Groups:
    """The group of each of n training images.

    Attributes:
        by: column that names the groups.
        names: (g,) distinct names, all of them in use.
        numbers: (n,) int64, the place in `names` of each image's group.
    """

    by: str
    names: tuple[str, ...]
    numbers: NDArray[np.int64]

    def __post_init__(self) -> None:
        count = len(self.names)
        if count < LEAST_GROUPS:
            raise InputError(
                f"column {self.by} has {count} group{'s' * (count != 1)}, and halves of them say "
                f"little; pass a column of at least {LEAST_GROUPS} groups"
            )
        used = np.unique(self.numbers)
        if len(set(self.names)) != count or not np.array_equal(used, np.arange(count)):
            raise InputError(
                f"{count} names of groups, {len(set(self.names))} of them distinct, and "
                f"{len(used)} groups of images; pass one name for each group"
            )

    @property
    def half(self) -> int:
        """Number of groups in a subset: half of them."""
        return round(len(self.names) / 2)

    @property
    def digest(self) -> str:
        """Twelve hex digits that tell one grouping of the images from another."""
        return hashlib.blake2b(self.numbers.astype("<i8").tobytes(), digest_size=6).hexdigest()

    def check_count(self, count: int) -> None:
        """Raise InputError unless there are so many different halves."""
        possible = math.comb(len(self.names), self.half)
        if not 1 <= count <= possible:
            raise InputError(
                f"subsets={count} of {len(self.names)} groups, which have {possible} different "
                f"halves; pass 1 to {possible} (--subsets)"
            )

    def subsets(self, count: int, seed: int = 0) -> NDArray[np.bool_]:
        """(count, n) bool, the images of different random halves of the groups.

        A smaller count gives the first halves of a larger one.

        Raises:
            InputError: there are not so many different halves.
        """
        self.check_count(count)
        halves: dict[bytes, NDArray[np.bool_]] = {}
        draw = 0
        while len(halves) < count:
            present = np.zeros(len(self.names), dtype=bool)
            order = np.random.default_rng([seed, draw]).permutation(len(self.names))
            present[order[: self.half]] = True
            halves.setdefault(present.tobytes(), present)
            draw += 1
        return np.stack(list(halves.values()))[:, self.numbers]

    def present(self, subsets: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(s, g) bool, the groups of (s, n) subsets of images.

        Raises:
            InputError: a subset parts a group.
        """
        _, first = np.unique(self.numbers, return_index=True)
        groups = subsets[:, first]
        if not np.array_equal(groups[:, self.numbers], subsets):
            raise InputError("a subset holds part of a group; pass subsets of whole groups")
        return groups

    def sums(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """(g, m) sums of the (n, m) scores of each group's images."""
        sums = np.zeros((len(self.names), scores.shape[1]))
        np.add.at(sums, self.numbers, scores)
        return sums


def by_unit(
    scores: NDArray[np.float64], subsets: NDArray[np.bool_], groups: Groups | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(n, m) scores and (s, n) subsets by what the subsets are drawn of: images, or groups of them.

    Raises:
        InputError: a subset parts a group.
    """
    return (scores, subsets) if groups is None else (groups.sums(scores), groups.present(subsets))


def groups_of(train: ImageSet, by: str) -> Groups:
    """The groups of images by a column of the set's metadata, or by `label`.

    Raises:
        InputError: there is no such column, an image has no group, or there are fewer than four
            groups.
    """
    if by in train.metadata:
        column = train.metadata[by]
    elif by == LABEL and train.labels is not None:
        column = train.labels
    else:
        columns = [*train.metadata, *([LABEL] if train.labels is not None else [])]
        raise InputError(
            f"the training images have no column {by}; there are: {', '.join(columns) or 'none'}. "
            "Pass a CSV or Parquet manifest with such a column, or another column (--by)"
        )
    texts = [label_text(entry) for entry in column]
    if without := [name for name, text in zip(train.ids, texts, strict=True) if text is None]:
        raise InputError(
            f"column {by} names no group for {len(without)} of the {len(train)} training images "
            f"({', '.join(without[:3])}{', …' if len(without) > 3 else ''}); fill it in, or leave "
            "these images out"
        )
    known = [text for text in texts if text is not None]
    names = tuple(sorted(set(known)))
    place = {name: number for number, name in enumerate(names)}
    return Groups(by, names, np.array([place[text] for text in known], dtype=np.int64))
