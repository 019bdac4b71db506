"""Tables of the study of known sources, from its kept pieces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gmvaluator.evaluation.metrics import Interval, mean_interval
from gmvaluator.evaluation.planted.makers import MIXTURES, OWNER_SETS, SPLICE, STYLE
from gmvaluator.evaluation.planted.source_metrics import BIN_EDGES, FIRST
from gmvaluator.evaluation.planted.transformations import EASY
from gmvaluator.evaluation.results import Cell, Table, grid
from gmvaluator.evaluation.study import Piece, over_seeds

RECALL = f"recall@{FIRST}"
OF_COPIES = {
    RECALL: f"source among the first {FIRST} contributors",
    "recall@1": "source is the first contributor",
    "share": "part of the score that the source gets",
}
LEAST_KNOWN = 0.05  # share of an owner below which a relative error says little
NEAR = 0.1  # an owner's share counts as right within this, in points or as part of the known one
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


def tables(
    train_name: str, pieces: Sequence[Piece], valuers: Sequence[str], m: int, k: int
) -> list[Table]:
    """All of them; m images of every sort, k contributors each."""
    about = f"{train_name}, m = {m}, k = {k}"
    return [
        *(_copies(pieces, valuers, what, f"{about}: {OF_COPIES[what]}") for what in OF_COPIES),
        _certainty(pieces, valuers, f"{about}: copies in all"),
        _reliability(pieces, valuers, f"{about}: calibration of scores on copies"),
        _mixtures(pieces, valuers, f"{about}: mixtures, sources among the first {FIRST}"),
        _splits(pieces, valuers, f"{about}: split of the score between the sources of a mixture"),
        _owners(pieces, valuers, f"{about}: errors of owners' shares, {OWNER_SETS} sets"),
        _first_set(pieces, valuers, f"{about}: owners' shares in set 1, seed 0"),
        _style(pieces, valuers, f"{about}: share of the owner whose style is over-sampled"),
    ]


def of_subject(pieces: Sequence[Piece], subject: str, valuer: str | None = None) -> list[Piece]:
    """The pieces of one kind of images, and of one valuer."""
    return [each for each in pieces if each.subject == subject and valuer in (None, each.valuer)]


def kinds_of(pieces: Sequence[Piece], subject: str) -> list[str]:
    """How images of this subject were made."""
    return list(of_subject(pieces, subject)[0].result["kinds"])


def _copies(pieces: Sequence[Piece], valuers: Sequence[str], what: str, title: str) -> Table:
    rows: list[list[Cell]] = [
        [kind, *(over_seeds(pieces, each, "copies", "kinds", kind, what) for each in valuers)]
        for kind in kinds_of(pieces, "copies")
    ]
    return Table(title, ("transformation", *valuers), grid(rows))


def _certainty(pieces: Sequence[Piece], valuers: Sequence[str], title: str) -> Table:
    rows: list[list[Cell]] = []
    for valuer in valuers:
        own = of_subject(pieces, "copies", valuer)
        least = [min(each.result["kinds"][kind][RECALL] for kind in EASY) for each in own]
        rows.append(
            [
                valuer,
                mean_interval(least),
                over_seeds(pieces, valuer, "copies", "kinds", "flip", RECALL),
                over_seeds(pieces, valuer, "copies", RECALL),
                over_seeds(pieces, valuer, "copies", "best", "error"),
                over_seeds(pieces, valuer, "copies", "all", "error"),
                over_seeds(pieces, valuer, "copies", "brier"),
                sum(each.result["without score"] for each in own),
            ]
        )
    columns = (
        "valuer",
        f"{RECALL}, least of identity, JPEG, crop 5 %",
        "flip",
        "all",
        "calibration error, best contributor",
        "calibration error, all contributors",
        "Brier score",
        "images without score",
    )
    return Table(title, columns, grid(rows))


def calibration_bins(pieces: Sequence[Piece], valuer: str) -> NDArray[np.float64]:
    """(bins, 3) contributors, mean part of the score, how often the source; of all seeds."""
    told = [each.result["all"] for each in of_subject(pieces, "copies", valuer)]
    counts, said, right = (
        np.sum([each[part] for each in told], axis=0) for part in ("counts", "confidence", "right")
    )
    with np.errstate(invalid="ignore"):
        return np.stack([counts, said / counts, right / counts], axis=1).astype(np.float64)


def _reliability(pieces: Sequence[Piece], valuers: Sequence[str], title: str) -> Table:
    rows: list[list[Cell]] = [
        [valuer, f"{low:.3g} – {high:.3g}", int(line[0]), float(line[1]), float(line[2])]
        for valuer in valuers
        for low, high, line in zip(
            BIN_EDGES, BIN_EDGES[1:], calibration_bins(pieces, valuer), strict=False
        )
        if line[0] > 0
    ]
    columns = ("valuer", "part of the score", "contributors", "mean part", "are the source")
    return Table(title, columns, grid(rows))


def _mixtures(pieces: Sequence[Piece], valuers: Sequence[str], title: str) -> Table:
    heads = {
        "both": "both",
        "first": "first",
        "second": "second",
        "share": "part of the score to both",
        "split": "split",
    }
    rows: list[list[Cell]] = [
        [
            valuer,
            kind,
            *(over_seeds(pieces, valuer, "mixtures", "kinds", kind, what) for what in heads),
        ]
        for valuer in valuers
        for kind in (*MIXTURES, SPLICE)
    ]
    return Table(title, ("valuer", "kind", *heads.values()), grid(rows))


def _splits(pieces: Sequence[Piece], valuers: Sequence[str], title: str) -> Table:
    heads = {
        "correlation": "correlation with the part of the pixels",
        "error": "mean absolute error",
        "with split": "images with a source that has score",
    }
    rows: list[list[Cell]] = [
        [valuer, *(over_seeds(pieces, valuer, "mixtures", what) for what in heads)]
        for valuer in valuers
    ]
    return Table(title, ("valuer", *heads.values()), grid(rows))


def known_and_found(piece: Piece, by: str) -> NDArray[np.float64]:
    """(sets · owners, 2) known and found shares; rows without a known or a found one left out."""
    pairs = [
        pair
        for told in piece.result["sets"].values()
        for pair in zip(told["known"], told[by], strict=True)
    ]
    numbers = np.array(pairs, dtype=np.float64)  # None becomes NaN
    return np.asarray(numbers[~np.isnan(numbers).any(axis=1)])


def _over(values: Sequence[NDArray[np.float64]]) -> Interval:
    """Mean within each seed, interval over seeds."""
    return mean_interval([float(each.mean()) if len(each) else float("nan") for each in values])


def _owners(pieces: Sequence[Piece], valuers: Sequence[str], title: str) -> Table:
    rows: list[list[Cell]] = []
    for valuer in valuers:
        for by, said in (("values", "values"), ("first", "first contributors")):
            pairs = [known_and_found(each, by) for each in of_subject(pieces, "owners", valuer)]
            errors = [np.abs(each[:, 1] - each[:, 0]) for each in pairs]
            known = [each[:, 0] >= LEAST_KNOWN for each in pairs]
            relative = [
                error[some] / pair[some, 0]
                for error, pair, some in zip(errors, pairs, known, strict=True)
            ]
            rows.append(
                [
                    valuer,
                    said,
                    _over(errors),
                    mean_interval([each.max(initial=0) for each in errors]),
                    _over([(each <= NEAR).astype(np.float64) for each in errors]),
                    _over(relative),
                    _over([(each <= NEAR).astype(np.float64) for each in relative]),
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
    return Table(title, columns, grid(rows))


def _first_set(pieces: Sequence[Piece], valuers: Sequence[str], title: str) -> Table:
    told = {
        valuer: next(iter(of_subject(pieces, "owners", valuer)[0].result["sets"].values()))
        for valuer in valuers
    }
    known = told[valuers[0]]["known"]
    rows: list[list[Cell]] = [["known", "", *known]]
    for valuer in valuers:
        rows.append([valuer, "values", *told[valuer]["values"]])
        rows.append([valuer, "first contributors", *told[valuer]["first"]])
    columns = ("valuer", "shares by", *(f"owner {number + 1}" for number in range(len(known))))
    return Table(title, columns, grid(rows))


def _style(pieces: Sequence[Piece], valuers: Sequence[str], title: str) -> Table:
    rows: list[list[Cell]] = []
    for valuer in valuers:
        own = of_subject(pieces, "style", valuer)
        for name in own[0].result["sets"]:
            told = [each.result["sets"][name] for each in own]
            shares = np.array(
                [[each[part][STYLE] for part in ("known", "values", "first")] for each in told],
                dtype=np.float64,
            )
            error = np.abs(shares[:, 1] - shares[:, 0])
            rows.append(
                [
                    valuer,
                    name,
                    mean_interval([each.result["held"][STYLE] for each in own]),
                    *(mean_interval(column) for column in shares.T),
                    mean_interval(error),
                    mean_interval(error / shares[:, 0]),
                ]
            )
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
    return Table(title, columns, grid(rows))
