"""The page of one valuation: picks what to show and fetches the pictures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import ImageError
from gmvaluator.geometry import evenly_spread
from gmvaluator.images import ImageSet
from gmvaluator.report.page import (
    OPEN_CARDS,
    ContributorCard,
    GeneratedCard,
    PageData,
    SkippedRow,
    ValueCard,
    write_page,
)
from gmvaluator.valuation import Valuation

GENERATED_SHOWN = 200
CONTRIBUTORS_SHOWN = 10
VALUES_SHOWN = 30
THUMBNAIL_SIDE = 128


def write_run_page(
    valuation: Valuation,
    train: ImageSet,
    generated: ImageSet,
    path: str | Path,
    *,
    title: str,
    summary: tuple[tuple[str, str], ...] = (),
) -> Path:
    """Write the page of a valuation, with the images of the sets it was made from.

    Args:
        valuation: the result to show.
        train, generated: where the pictures are read from; matched by id, and an image that
            cannot be read any more is shown as missing.
        path: the HTML file.
        title: heading.
        summary: further (name, number) pairs for the row of large numbers.

    Raises:
        RunError: the file cannot be written.
    """
    training = _Gallery(train, valuation.train_ids, valuation.train_labels)
    drawn = _Gallery(generated, valuation.generated_ids, valuation.generated_labels)
    m = len(valuation.generated_ids)
    info = valuation.info
    order = np.argsort(valuation.ranks)
    page = PageData(
        title=title,
        asked=(
            f"How much did each of {info['n_train']:,} training images contribute to "
            f"{m:,} generated images?"
        ),
        generated=tuple(_generated_card(valuation, j, drawn, training) for j in _spread(m)),
        most=_value_cards(valuation, order[:VALUES_SHOWN], training),
        least=_value_cards(valuation, order[::-1][:VALUES_SHOWN], training),
        summary=summary,
        settings=_pairs(info["settings"]),
        versions=_pairs(info["versions"]),
        seconds=tuple((stage, f"{spent:.1f}") for stage, spent in info["seconds"].items()),
        skipped=tuple(SkippedRow(side, skip.id, skip.reason) for side, skip in valuation.skipped),
        values=tuple(valuation.values.tolist()),
        n_generated=m,
    )
    return write_page(page, path)


@dataclass(frozen=True)
class _Gallery:
    """Pictures and labels of a set by row of the valuation."""

    images: ImageSet
    ids: tuple[str, ...]
    labels: tuple[str | None, ...] | None

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.images.ids)}

    def png(self, row: int) -> bytes | None:
        place = self._places.get(self.ids[row])
        if place is None:
            return None
        try:
            return self.images.png(place, THUMBNAIL_SIDE)
        except ImageError:
            return None

    def label(self, row: int) -> str | None:
        return None if self.labels is None else self.labels[row]


def _spread(m: int) -> list[int]:
    """Rows of at most `GENERATED_SHOWN` generated images; the open ones span the whole set."""
    shown, opened = (
        [int(row) for row in evenly_spread(m, n)] for n in (GENERATED_SHOWN, OPEN_CARDS)
    )
    return opened + [row for row in shown if row not in opened][: GENERATED_SHOWN - len(opened)]


def _generated_card(
    valuation: Valuation, j: int, drawn: _Gallery, training: _Gallery
) -> GeneratedCard:
    scores = valuation.contributions
    contributors = [
        ContributorCard(
            id=valuation.train_ids[row],
            png=training.png(row),
            distance=float(scores.distances[j, place]),
            score=float(scores.scores[j, place]),
            label=training.label(row),
        )
        for place, row in enumerate(scores.rows[j][:CONTRIBUTORS_SHOWN])
    ]
    return GeneratedCard(
        id=valuation.generated_ids[j],
        png=drawn.png(j),
        quality=float(valuation.quality[j]),
        contributors=tuple(contributors),
        label=drawn.label(j),
    )


def _value_cards(
    valuation: Valuation, rows: NDArray[np.int64], training: _Gallery
) -> tuple[ValueCard, ...]:
    return tuple(
        ValueCard(
            id=valuation.train_ids[row],
            png=training.png(row),
            value=float(valuation.values[row]),
            rank=int(valuation.ranks[row]),
            n_supported=int(valuation.n_supported[row]),
            label=training.label(row),
        )
        for row in rows
    )


def _pairs(mapping: dict[str, object]) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value)) for name, value in mapping.items())
