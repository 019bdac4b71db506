"""Plots of the study of known sources, from its kept pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gmvaluator.certainty.tables import Draw
from gmvaluator.evaluation.studies.planted_tables import (
    NEAR,
    OF_COPIES,
    RECALL,
    calibration_bins,
    kinds_of,
    known_and_found,
    of_subject,
)
from gmvaluator.evaluation.study import Piece, over_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plots(pieces: Sequence[Piece], valuers: Sequence[str]) -> dict[str, Draw]:
    """Recall by transformation, calibration, owners."""
    return {
        "recall": lambda figure: _draw_recall(figure, pieces, valuers),
        "calibration": lambda figure: _draw_calibration(figure, pieces, valuers),
        "owners": lambda figure: _draw_owners(figure, pieces, valuers),
    }


def _draw_recall(figure: Figure, pieces: Sequence[Piece], valuers: Sequence[str]) -> None:
    panel = figure.subplots()
    kinds = kinds_of(pieces, "copies")
    places = np.arange(len(kinds))
    beside = np.linspace(-0.3, 0.3, len(valuers) + 2)[1:-1]  # many are 1, and would hide each other
    for valuer, offset in zip(valuers, beside, strict=True):
        found = [over_seeds(pieces, valuer, "copies", "kinds", kind, RECALL).mean for kind in kinds]
        panel.scatter(places + offset, found, s=14, label=valuer)
    panel.set_xticks(places, kinds, rotation=60, ha="right", fontsize="small")
    panel.set_ylim(-0.02, 1.02)
    panel.set_ylabel(OF_COPIES[RECALL])
    panel.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=4, fontsize="small")


def _draw_calibration(figure: Figure, pieces: Sequence[Piece], valuers: Sequence[str]) -> None:
    panel = figure.subplots()
    panel.plot([1e-4, 1], [1e-4, 1], color="grey", linestyle=":")
    for valuer in valuers:
        bins = calibration_bins(pieces, valuer)
        shown = bins[(bins[:, 0] > 0) & (bins[:, 2] > 0)]
        panel.plot(shown[:, 1], shown[:, 2], marker="o", markersize=4, label=valuer)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("part of the score (dotted: calibrated)")
    panel.set_ylabel("part of these contributors that are the source")
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")


def _draw_owners(figure: Figure, pieces: Sequence[Piece], valuers: Sequence[str]) -> None:
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    ways: tuple[tuple[str, str], ...] = (("values", "values"), ("first", "first contributors"))
    for panel, (by, said) in zip(panels, ways, strict=True):
        panel.fill_between([0, 1], [-NEAR, 1 - NEAR], [NEAR, 1 + NEAR], color="grey", alpha=0.2)
        for valuer in valuers:
            pairs = np.concatenate(
                [known_and_found(each, by) for each in of_subject(pieces, "owners", valuer)]
            )
            panel.scatter(pairs[:, 0], pairs[:, 1], s=9, alpha=0.6, label=valuer)
        panel.set_title(f"by {said}")
        panel.set_xlabel("known share of an owner")
        panel.set_ylim(0, 1)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"found share (grey: ± {NEAR:g})")
    panels[0].legend(fontsize="small")
