"""Matches: for each picture of a valuation its contributors, quality, p-value and copies."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gmvaluator.runs.valuation import Valuation


@dataclass(frozen=True)
class Contributor:
    """A training image that shares the picture, with its distance and its score."""

    train_id: str
    distance: float
    score: float


@dataclass(frozen=True)
class Match:
    """A picture and the training images that it matches.

    Attributes:
        source: file or folder that the picture is of.
        generated_id: id of the picture there.
        quality: of the picture, 0 bad … 1 good.
        match_p: share of the null sample that matches the training set no better; None: not tested.
        copy_of: training images with the same bytes, and contributors at distance 0.
        contributors: best first.
    """

    source: str
    generated_id: str
    quality: float
    match_p: float | None
    copy_of: tuple[str, ...]
    contributors: tuple[Contributor, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain types, as `gmvaluator match --json` prints them."""
        return asdict(self)

    def share(self, contributor: Contributor) -> float:
        """The part of the picture that a contributor has, in per cent; 0 of a quality of 0."""
        return 100 * contributor.score / self.quality if self.quality > 0 else 0.0


def ids_by_content(
    ids: Sequence[str], keys: Sequence[str] | None, wanted: Collection[str] | None = None
) -> dict[str, list[str]]:
    """Training ids by content key; none where the keys were not recorded.

    Args:
        ids, keys: of the training images.
        wanted: keys that are looked for; None: all.
    """
    ids_of: dict[str, list[str]] = {}
    for name, key in zip(ids, keys or (), strict=False):
        if wanted is None or key in wanted:
            ids_of.setdefault(key, []).append(name)
    return ids_of


def matches_of(
    valuation: Valuation,
    source: str,
    top: int,
    *,
    ids_by_key: Mapping[str, Sequence[str]] | None = None,
) -> list[Match]:
    """One match for each picture of a source, with at most `top` contributors.

    Args:
        valuation: of the pictures.
        source: where the pictures are from.
        top: number of contributors.
        ids_by_key: `ids_by_content` of the training set, where it is at hand.
    """
    keys = valuation.generated_keys or (None,) * len(valuation.generated_ids)
    by_key = ids_by_key
    if by_key is None:
        by_key = ids_by_content(valuation.train_ids, valuation.train_keys, set(filter(None, keys)))
    matches = []
    for j, (picture, content) in enumerate(zip(valuation.generated_ids, keys, strict=True)):
        best = valuation.contributors(j)
        same = [train for train, distance in zip(best.ids, best.distances, strict=True)
                if distance == 0]  # fmt: skip
        lines = zip(best.ids, best.distances.tolist(), best.scores.tolist(), strict=True)
        p_values = valuation.match_p
        matches.append(
            Match(
                source=source,
                generated_id=picture,
                quality=float(valuation.quality[j]),
                match_p=None if p_values is None else float(p_values[j]),
                copy_of=tuple(dict.fromkeys([*by_key.get(str(content), ()), *same])),
                contributors=tuple(Contributor(*line) for line in lines)[:top],
            )
        )
    return matches
