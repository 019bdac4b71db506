"""A conformal test: is a generated image's best match better than those of images without one?

Eq. 6 hands out q_j whatever the contributors are, also to an image that has no source in the
training set. So each generated image is compared with a null sample: images of the training set's
kind that are known to have no source in it. Its p-value is the share of the null that is at least
as strange to the training set (`gmvaluator.engine.strangeness`), itself counted with it.

If a generated image is such an image itself (exchangeable with the null), its p-value is at most
the level with probability at most the level, whatever the distribution and the measure: split
conformal prediction (Vovk, Gammerman & Shafer, 2005; Lei et al., JASA 113, 2018). That is on
average over null samples. With one of N images at hand the rate is a draw from Beta(r, N + 1 − r),
r = ⌊level · (N + 1)⌋; r = 8 at the sizes of `null_size`, so at level 0.02 between 0.9 and 3.6 % in
19 of 20 samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.images.sources import Skip
from gmvaluator.shown import short_repr

Kind = Literal["leave-one-out", "holdout"]

DEFAULT_LEVEL = 0.02
EXCEEDANCES = 8
"""Images of the null sample that lie beyond the threshold: r of the Beta distribution above."""


def null_size(level: float) -> int:
    """Images of a null sample, where there are as many."""
    return ceil(EXCEEDANCES / level) - 1


def fresh_rows(keys: Mapping[int, str], ids: Sequence[str], training: Iterable[str]) -> list[int]:
    """Rows of held-out images that are no training images, in the order a null sample takes them.

    The order is that of the content keys, so that it does not depend on how the set is listed.

    Args:
        keys: content key by row.
        ids: of all rows; images of equal content are ordered by id.
        training: content keys of the training images.
    """
    known = set(training)
    return sorted((row for row in keys if keys[row] not in known), key=lambda r: (keys[r], ids[r]))


def images_needed(level: float) -> int:
    """The fewest images of a null sample with which a p-value can be as small as the level."""
    return ceil(1 / level - 1e-9) - 1


@short_repr
@dataclass(frozen=True, eq=False)
class Null:
    """Strangeness of images that have no source in the training set.

    Attributes:
        kind: where they come from.
        strangeness: (N,) float64, ascending.
        in_training: held-out images that were left out because they are training images.
        skipped: held-out images that could not be read.
        source, fingerprint: of the held-out set.
        missing: why there is no null sample, where there is none.
    """

    kind: Kind
    strangeness: NDArray[np.float64]
    in_training: int = 0
    skipped: tuple[Skip, ...] = ()
    source: str | None = None
    fingerprint: str | None = None
    missing: str | None = None

    def p_values(self, strangeness: NDArray[np.float64]) -> NDArray[np.float64]:
        """(m,) p_j = (1 + #{h: s_h ≥ s_j}) / (N + 1)."""
        n = len(self.strangeness)
        below = np.searchsorted(self.strangeness, strangeness, side="left")
        return np.asarray((1 + n - below) / (n + 1), dtype=np.float64)

    def error_rate(self, level: float) -> float:
        """The part of images without a contributor that have p ≤ level, on average."""
        n = len(self.strangeness)
        return floor(level * (n + 1) + 1e-9) / (n + 1)

    def threshold(self, level: float) -> float | None:
        """Images that are stranger than this have p ≤ level; None where no image can have it."""
        allowed = floor(level * (len(self.strangeness) + 1) + 1e-9)
        return float(self.strangeness[-allowed]) if allowed else None

    def usable(self, level: float) -> Null:
        """The same; without its images where the threshold is 0.

        Every image that is no copy of a training image would be beyond a threshold of 0.
        """
        if self.threshold(level) != 0:
            return self
        n, strange = len(self.strangeness), int((self.strangeness > 0).sum())
        missing = (
            f"all but {strange} of the {n} images of the null sample match a training image at 0"
        )
        return replace(self, strangeness=np.empty(0), missing=missing)

    def needs(self, level: float) -> str | None:
        """Why no p-value can be as small as the level, and what to do; None where one can."""
        n, n_needed = len(self.strangeness), images_needed(level)
        if n >= n_needed:
            return None
        reason = self.missing or f"the null sample has {n} images"
        other = f" or a level of at least {1 / (n + 1):.3g}" if n else ""
        return (
            f"{reason}, and level {level} needs at least {n_needed}; pass a holdout of as many "
            f"images{other}"
        )


@short_repr
@dataclass(frozen=True, eq=False)
class Verdict:
    """What the test says of each generated image.

    Attributes:
        null: the sample it is compared with.
        level: share of images that are wrongly said to have no contributor, at most.
        p: (m,) float64.
    """

    null: Null
    level: float
    p: NDArray[np.float64]

    @property
    def without(self) -> NDArray[np.bool_]:
        """(m,) whether an image has no contributor at this level."""
        return self.p <= self.level
