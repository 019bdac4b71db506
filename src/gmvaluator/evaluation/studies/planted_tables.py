"""Tables and plots of the study of known sources, from its pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.certainty.tables import Cell, Table
from gmvaluator.evaluation.layout import Line, curves, legend_above, table, titled_panels
from gmvaluator.evaluation.metrics import Interval, mean_interval
from gmvaluator.evaluation.planted.makers import MIXTURES, OWNER_SETS, SPLICE, STYLE
from gmvaluator.evaluation.planted.source_metrics import BIN_EDGES, FIRST
from gmvaluator.evaluation.planted.transformations import EASY
from gmvaluator.evaluation.study import Pieces

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECALL = f"recall@{FIRST}"
OF_COPIES = {
    RECALL: f"source among the first {FIRST} contributors",
    "recall@1": "source is the first contributor",
    "share": "part of the score that the source gets",
}
OF_MIXTURES = {
    "both": "both",
    "first": "first",
    "second": "second",
    "part of the score to both": "share",
    "split": "split",
}
SPLITS = {
    "correlation with the part of the pixels": "correlation",
    "mean absolute error": "error",
    "images with a source that has score": "with split",
}
SHARES_BY = {"values": "values", "first": "first contributors"}
LEAST_KNOWN = 0.05  # least known share of an owner whose relative error counts
NEAR = 0.1  # largest error of an owner's share that counts as right, absolute or relative
NOTES = (
    "Calibration: contributors by the part of the score that they have, and how often they are the "
    "true source. Its expected error is small too where scores say little, such as 1/k for each; "
    "the Brier score (0 best, 2 worst) asks for sure and right ones. An image whose quality is 0 "
    "has no score to share out and counts for recall only.",
    "Mixtures: the split is the first source's part of what both sources get; it should be its "
    "part of the pixels.",
    "Owners: known shares are counted from the sources; shares by values are sums of scores, by "
    "first contributors the part of the generated images whose first contributor the owner has. "
    f"Relative errors are those of owners with a known share of {LEAST_KNOWN:g} at least. "
    "Style: one owner's training images are in a style, and half of the generated ones; new images "
    "are taken out of the training set, so that only the style tells whose they are.",
)


class PlantedTables:
    """The tables and plots of the study.

    Args:
        pieces: results of the subjects `copies`, `mixtures`, `owners` and `style`.
        valuers: names of the valuers.
    """

    def __init__(self, pieces: Pieces, valuers: Sequence[str]) -> None:
        self._pieces = pieces
        self._valuers = valuers
        self._kinds = list(pieces.results(valuers[0], "copies")[0]["kinds"])

    def all(self, about: str) -> tuple[Table, ...]:
        """Every table. Each title starts with `about`."""
        mean, valuers = self._pieces.mean, self._valuers
        return (
            *(
                table(
                    f"{about}: {title}",
                    ("transformation", *valuers),
                    (
                        [kind, *(self._of_kind(v, kind, what) for v in valuers)]
                        for kind in self._kinds
                    ),
                )
                for what, title in OF_COPIES.items()
            ),
            self._certainty(f"{about}: copies in all"),
            table(
                f"{about}: calibration of scores on copies",
                ("valuer", "part of the score", "contributors", "mean part", "are the source"),
                self._reliability(),
            ),
            table(
                f"{about}: mixtures, sources among the first {FIRST}",
                ("valuer", "kind", *OF_MIXTURES),
                (
                    [
                        v,
                        kind,
                        *(mean(v, "mixtures", "kinds", kind, w) for w in OF_MIXTURES.values()),
                    ]
                    for v in valuers
                    for kind in (*MIXTURES, SPLICE)
                ),
            ),
            table(
                f"{about}: split of the score between the sources of a mixture",
                ("valuer", *SPLITS),
                ([v, *(mean(v, "mixtures", what) for what in SPLITS.values())] for v in valuers),
            ),
            self._owners(f"{about}: errors of owners' shares, {OWNER_SETS} sets"),
            self._first_set(f"{about}: owners' shares in set 1, seed 0"),
            self._style(f"{about}: share of the owner whose style is over-sampled"),
        )

    def draw_recall(self, figure: Figure) -> None:
        """Recall of copies by transformation."""
        (panel,) = titled_panels(figure, [""])
        places = np.arange(len(self._kinds))
        # an offset per valuer, since many recalls are 1
        beside = np.linspace(-0.3, 0.3, len(self._valuers) + 2)[1:-1]
        for valuer, offset in zip(self._valuers, beside, strict=True):
            recall = [self._of_kind(valuer, kind, RECALL).mean for kind in self._kinds]
            panel.scatter(places + offset, recall, s=14, label=valuer)
        panel.set_xticks(places, self._kinds, rotation=60, ha="right", fontsize="small")
        panel.set_ylim(-0.02, 1.02)
        panel.set_ylabel(OF_COPIES[RECALL])
        legend_above(figure, panel)

    def draw_calibration(self, figure: Figure) -> None:
        """Share of contributors that are the source, by their part of the score."""
        lines = [Line("", [1e-4, 1], [1e-4, 1], {"color": "grey", "linestyle": ":", "marker": ""})]
        for valuer in self._valuers:
            bins = self._bins(valuer)
            shown = bins[(bins[:, 0] > 0) & (bins[:, 2] > 0)]
            if len(shown):
                lines.append(Line(valuer, shown[:, 1].tolist(), shown[:, 2].tolist()))
        curves(
            figure,
            {"": lines},
            "part of the score (dotted: calibrated)",
            "part of these contributors that are the source",
            log="xy",
        )

    def draw_owners(self, figure: Figure) -> None:
        """Owners' shares by the valuers against their known shares."""
        panels = titled_panels(figure, [f"by {shown}" for shown in SHARES_BY.values()])
        for panel, by in zip(panels, SHARES_BY, strict=True):
            panel.fill_between([0, 1], [-NEAR, 1 - NEAR], [NEAR, 1 + NEAR], color="grey", alpha=0.2)
            for valuer in self._valuers:
                known_shares, shares = np.concatenate(self._owner_shares(valuer, by)).T
                panel.scatter(known_shares, shares, s=9, alpha=0.6, label=valuer)
            panel.set_xlabel("known share of an owner")
            panel.set_ylim(0, 1)
        panels[0].set_ylabel(f"found share (grey: ± {NEAR:g})")
        panels[0].legend(fontsize="small")

    def _of_kind(self, valuer: str, kind: str, what: str) -> Interval:
        return self._pieces.mean(valuer, "copies", "kinds", kind, what)

    def _certainty(self, title: str) -> Table:
        columns = {
            "all": (RECALL,),
            "calibration error, best contributor": ("best", "error"),
            "calibration error, all contributors": ("all", "error"),
            "Brier score": ("brier",),
        }
        rows: list[list[Cell]] = []
        for valuer in self._valuers:
            results = self._pieces.results(valuer, "copies")
            least = [min(result["kinds"][kind][RECALL] for kind in EASY) for result in results]
            rows.append(
                [
                    valuer,
                    mean_interval(least),
                    self._of_kind(valuer, "flip", RECALL),
                    *(self._pieces.mean(valuer, "copies", *path) for path in columns.values()),
                    sum(result["without score"] for result in results),
                ]
            )
        first = ("valuer", f"{RECALL}, least of identity, JPEG, crop 5 %", "flip")
        return table(title, (*first, *columns, "images without score"), rows)

    def _bins(self, valuer: str) -> NDArray[np.float64]:
        """(bins, 3) contributors, mean part of the score, share of sources, over all seeds."""
        counts, confidence, right = (
            np.sum(
                [result["all"][part] for result in self._pieces.results(valuer, "copies")], axis=0
            )
            for part in ("counts", "confidence", "right")
        )
        with np.errstate(invalid="ignore"):
            bins = np.stack([counts, confidence / counts, right / counts], axis=1)
        return bins.astype(np.float64)

    def _reliability(self) -> Iterator[list[Cell]]:
        for valuer in self._valuers:
            for low, high, (count, confidence, right) in zip(
                BIN_EDGES, BIN_EDGES[1:], self._bins(valuer).tolist(), strict=False
            ):
                if count > 0:
                    yield [valuer, f"{low:.3g} – {high:.3g}", int(count), confidence, right]

    def _owner_shares(self, valuer: str, by: str) -> list[NDArray[np.float64]]:
        """(sets · owners, 2) known and valuer's shares per seed, without rows that have NaN."""
        shares = []
        for result in self._pieces.results(valuer, "owners"):
            sets = result["sets"].values()
            # None becomes NaN
            columns = [np.ravel([owner_set[part] for owner_set in sets]) for part in ("known", by)]
            pairs = np.stack(columns, axis=1).astype(np.float64)
            shares.append(pairs[~np.isnan(pairs).any(axis=1)])
        return shares

    def _owners(self, title: str) -> Table:
        rows: list[list[Cell]] = []
        for valuer in self._valuers:
            for by, shown in SHARES_BY.items():
                pairs = self._owner_shares(valuer, by)
                errors = [np.abs(pair[:, 1] - pair[:, 0]) for pair in pairs]
                relative = [
                    np.abs(pair[:, 1] - pair[:, 0]) / pair[:, 0]
                    for pair in (of_seed[of_seed[:, 0] >= LEAST_KNOWN] for of_seed in pairs)
                ]
                largest = mean_interval([error.max(initial=0) for error in errors])
                rows.append(
                    [
                        *(valuer, shown, _over(errors), largest, _near(errors)),
                        *(_over(relative), _near(relative)),
                    ]
                )
        columns = (
            "valuer",
            "shares by",
            "mean error, points",
            "largest",
            f"within ± {NEAR:.2f}",
            "mean relative error",
            f"within ± {100 * NEAR:g} % of the known",
        )
        return table(title, columns, rows)

    def _first_set(self, title: str) -> Table:
        shares = {
            valuer: next(iter(self._pieces.results(valuer, "owners")[0]["sets"].values()))
            for valuer in self._valuers
        }
        known_shares = shares[self._valuers[0]]["known"]
        rows: list[list[Cell]] = [["known", "", *known_shares]]
        rows += [[v, text, *shares[v][by]] for v in shares for by, text in SHARES_BY.items()]
        owners = (f"owner {number + 1}" for number in range(len(known_shares)))
        return table(title, ("valuer", "shares by", *owners), rows)

    def _style(self, title: str) -> Table:
        rows: list[list[Cell]] = []
        for valuer in self._valuers:
            results = self._pieces.results(valuer, "style")
            held = mean_interval([result["held"][STYLE] for result in results])
            for name in results[0]["sets"]:
                known_shares, by_values, by_first = np.array(
                    [
                        [result["sets"][name][part][STYLE] for result in results]
                        for part in ("known", *SHARES_BY)
                    ],
                    dtype=np.float64,
                )
                error = np.abs(by_values - known_shares)
                numbers = (known_shares, by_values, by_first, error, error / known_shares)
                rows.append([valuer, name, held, *map(mean_interval, numbers)])
        columns = (
            "valuer",
            "generated images",
            "of the training images",
            "known",
            "by values",
            "by first contributors",
            "error by values, points",
            "relative",
        )
        return table(title, columns, rows)


def _over(errors: Sequence[NDArray[Any]]) -> Interval:
    """Mean of each seed, and the interval over seeds."""
    return mean_interval(
        [float(of_seed.mean()) if len(of_seed) else float("nan") for of_seed in errors]
    )


def _near(errors: Sequence[NDArray[np.float64]]) -> Interval:
    """Share of errors of at most `NEAR`."""
    return _over([of_seed <= NEAR for of_seed in errors])
