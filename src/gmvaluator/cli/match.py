"""What `gmvaluator match` prints of a picture: its contributors, quality, p-value and copies."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from gmvaluator.cli.printing import table
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
        source: file or folder that the command was given.
        generated_id: id of the picture there.
        quality: of the picture.
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
        return asdict(self)

    def as_text(self) -> str:
        tested = "not tested" if self.match_p is None else f"{self.match_p:.4g}"
        copies = f"; copy of {', '.join(self.copy_of)}" if self.copy_of else ""
        rows = [
            (line.train_id, f"{line.distance:.4f}", f"{100 * line.score:.3f} %")
            for line in self.contributors
        ]
        columns = ("training image", "distance", "score")
        return (
            f"{self.source}: {self.generated_id}\n"
            f"quality {self.quality:.4g}; p-value of the match {tested}{copies}\n"
            f"{table(columns, rows, left=columns[:1])}"
        )


def matches_of(valuation: Valuation, source: str, top: int) -> list[Match]:
    """One match for each picture of a source, with at most `top` contributors."""
    keys = valuation.generated_keys or (None,) * len(valuation.generated_ids)
    ids_by_key: dict[str, list[str]] = {key: [] for key in keys if key is not None}
    for name, key in zip(valuation.train_ids, valuation.train_keys or (), strict=False):
        if key in ids_by_key:
            ids_by_key[key].append(name)
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
                copy_of=tuple(dict.fromkeys([*ids_by_key.get(str(content), ()), *same])),
                contributors=tuple(Contributor(*line) for line in lines)[:top],
            )
        )
    return matches
