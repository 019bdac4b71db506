"""Are planted copies found, and innocent images left alone? (`gmvaluator.audit`; Appendix K)

Copies of training images under graded transformations, and real images that were held out. No
generator is needed, and no label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.audit.align import PLACEMENTS
from gmvaluator.audit.near_copies import CopyFinder, CopySettings, Matches
from gmvaluator.certainty.tables import Cell, StudyResult, Table
from gmvaluator.errors import InputError
from gmvaluator.evaluation.layout import Line, curves, table, titled_panels
from gmvaluator.evaluation.metrics import mean_interval
from gmvaluator.evaluation.planted.known_sources import PlantedSet, PlantedSubject, Pool
from gmvaluator.evaluation.planted.makers import copies
from gmvaluator.evaluation.planted.transformations import (
    Images,
    Transformation,
    cropped_anywhere,
    suited,
)
from gmvaluator.evaluation.study import Context
from gmvaluator.images import ImageSet
from gmvaluator.images.pixels import random_subset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
WANTED = ("identity", "flip", "JPEG 50", "crop 5 %")
"""What must be found of all of them, or nearly so, for an audit to be of use."""
DRAWN = (*WANTED, "crop 10 %", "crop 20 %", "blur 1 px", "noise 0.2", "rotation 15°")
Floats = NDArray[np.float64]


def check_innocents(innocents: int, n_held_out: int, false_alarms: float) -> None:
    """Raises `InputError` for too many innocent images, or false alarms not in `LEVELS`."""
    if not 1 <= innocents <= n_held_out:
        raise InputError(
            f"innocents={innocents} of {n_held_out} held-out images; pass 1 to {n_held_out}"
        )
    if false_alarms not in LEVELS:
        raise InputError(
            f"false alarms {false_alarms}; this study keeps {', '.join(map(str, LEVELS))}"
        )


def audit(
    context: Context,
    held_out: ImageSet,
    *,
    innocents: int = 500,
    settings: CopySettings | None = None,
    name: str = "audit",
) -> StudyResult:
    """Recall, precision and false alarms of an audit, by transformation and by threshold.

    Args:
        context: its training set gives the sources. Its m is the number of copies per
            transformation. Its subjects and valuers are not used.
        held_out: real images outside the training set.
        innocents: number of held-out images per repetition.
        settings: settings of the audit. The tables hold for its `false_alarms`.
        name: name of the result.

    Raises:
        InputError: too few images.
        ImageError: a training image cannot be read.
    """
    copy_settings = settings or CopySettings()
    check_innocents(innocents, len(held_out), copy_settings.false_alarms)
    pool = Pool.read(context.train)
    used = audited(pool.colour)
    recipe = repr([transformation.name for transformation in used])
    make = partial(copies, used=used, stream=4)
    subject = PlantedSubject("audited", recipe, make, pool, context.work)

    @cache
    def finder() -> CopyFinder:
        return CopyFinder(context.train, copy_settings, progress=context.progress)

    def compute(seed: int) -> dict[str, Any]:
        """Distances of copies and of innocent images, and the thresholds of all levels."""
        planted = subject.planted(context.m, seed)
        real = finder().match(random_subset(held_out, innocents, seed))
        return {
            "kinds": _of_kinds(planted, finder().match(planted.images)),
            "innocent": real.distances[:, 0].tolist(),
            "thresholds": [finder().calibration_at(level).threshold for level in LEVELS],
            "calibration": finder().calibration.as_json(),
        }

    pieces = []
    with context.progress.stage("evaluate audit", context.seeds) as advance:
        for seed in range(context.seeds):
            key = {
                "train": context.train_name,
                "n_train": len(context.train),
                "subject": subject.fingerprint,
                "held_out": len(held_out),
                "innocents": innocents,
                "m": context.m,
                "seed": seed,
                "settings": vars(copy_settings) | {"false_alarms": None},
                "levels": LEVELS,
                "placements": len(PLACEMENTS),
            }
            pieces.append(context.work.piece("audit", key, partial(compute, seed)))
            advance(1)
    measured = Measured(pieces)
    parameters = context.parameters() | {"innocents": innocents, "settings": vars(copy_settings)}
    return StudyResult(
        name=name,
        title="Near copies of training images",
        tables=(
            measured.by_kind(
                f"{context.train_name}, n = {len(context.train)}, false alarms "
                f"{copy_settings.false_alarms:g} asked for",
                copy_settings.false_alarms,
            ),
            measured.by_level(f"{context.train_name}: false alarms and recall by threshold"),
        ),
        parameters={
            name: value for name, value in parameters.items() if name not in ("subjects", "valuers")
        },
        notes=(
            f"{context.m} copies of each transformation and {innocents} real held-out images a "
            "repetition. Found: called a copy, of the training image it is a copy of. Precision: "
            "found copies among all images called copies, where there are as many innocent images "
            "as copies of that transformation; a copy called one of another image counts as "
            "wrong. Candidates: the source is among the training images the copy is laid over.",
            pieces[0]["calibration"]["stated"],
        ),
        details={"levels": LEVELS, "pieces": pieces},
        plots={
            "recall": measured.draw_recall,
            "distances": partial(measured.draw_distances, level=copy_settings.false_alarms),
        },
    )


def audited(colour: bool) -> tuple[Transformation, ...]:
    """`suited(colour)`, crops at random places, and three transformations in a row."""
    return (
        *suited(colour),
        *(
            Transformation(f"crop {cut} %, anywhere", partial(cropped_anywhere, cut / 100))
            for cut in (5, 10)
        ),
        Transformation("flip, crop 5 %, JPEG 50", _altered),
    )


def _altered(images: Images, rng: np.random.Generator) -> Images:
    named = {transformation.name: transformation for transformation in suited(colour=False)}
    for name in ("flip", "crop 5 %", "JPEG 50"):
        images = named[name].apply(images, rng)
    return images


def _of_kinds(planted: PlantedSet, matches: Matches) -> dict[str, Any]:
    """By transformation, the nearest distance of each copy and whether the source is nearest."""
    kinds, sources = planted.truth.kinds, planted.truth.sources[:, 0]
    nearest, best = matches.distances[:, 0], matches.candidates[:, 0]
    recalled = (matches.candidates == sources[:, None]).any(axis=1)
    if not np.array_equal(matches.rows, np.arange(len(kinds))):
        raise InputError("some planted copies cannot be read; empty the working folder")
    return {
        str(kind): {
            "distances": nearest[kinds == kind].tolist(),
            "right": (best == sources)[kinds == kind].tolist(),
            "recalled": float(recalled[kinds == kind].mean()),
        }
        for kind in dict.fromkeys(kinds)
    }


class Measured:
    """Tables and plots of all repetitions.

    Args:
        pieces: one piece of `audit` per repetition.
    """

    def __init__(self, pieces: Sequence[Mapping[str, Any]]) -> None:
        self._pieces = pieces
        self._kinds = list(pieces[0]["kinds"])
        self._innocent = np.array([piece["innocent"] for piece in pieces])
        self._thresholds = np.array([piece["thresholds"] for piece in pieces])

    def by_kind(self, title: str, level: float) -> Table:
        """Recall and precision of each transformation at one level.

        Raises:
            InputError: the level is not in `LEVELS`.
        """
        thresholds = self._at(level)
        columns = (
            "transformation",
            "recall: found",
            "precision",
            "called a copy of any",
            "source among candidates",
            "median distance",
        )
        rows: list[list[Cell]] = []
        for kind in self._kinds:
            recall, called = self._recalled(kind, thresholds), self._called(kind, thresholds)
            alarms = called + self._alarms(thresholds)
            # NaN where nothing is called a copy
            precision = np.full(len(recall), np.nan)
            np.divide(recall, alarms, out=precision, where=alarms > 0)
            rows.append(
                [
                    kind,
                    *map(mean_interval, (recall, precision, called)),
                    float(np.mean([piece["kinds"][kind]["recalled"] for piece in self._pieces])),
                    float(np.median(self._distances(kind))),
                ]
            )
        return table(title, columns, rows)

    def by_level(self, title: str) -> Table:
        """False alarms and recall of the transformations `DRAWN` at each level."""
        kinds = self._drawn()
        rows = (
            [
                f"{level:g}",
                float(thresholds.mean()),
                mean_interval(self._alarms(thresholds)),
                *(float(self._recalled(kind, thresholds).mean()) for kind in kinds),
            ]
            for level, thresholds in zip(LEVELS, self._thresholds.T, strict=True)
        )
        columns = ("false alarms asked for", "threshold", "on held-out images", *kinds)
        return table(title, columns, rows)

    def draw_recall(self, figure: Figure) -> None:
        """Recall against the false alarms that held-out images show, by threshold."""
        thresholds = np.quantile(self._innocent, np.linspace(0, 0.2, 60))
        spread = [np.full(len(self._pieces), threshold) for threshold in thresholds]
        alarms = [float(self._alarms(thresholds_of_run).mean()) for thresholds_of_run in spread]
        lines = [
            Line(
                kind,
                alarms,
                [float(self._recalled(kind, t).mean()) for t in spread],
                {"marker": ""},
            )
            for kind in self._drawn()
        ]
        axes = curves(figure, {"": lines}, "false alarms among held-out images", "recall")
        axes[0].set_ylim(-0.02, 1.02)

    def draw_distances(self, figure: Figure, level: float) -> None:
        """Distances of copies by transformation beside those of held-out images."""
        (panel,) = titled_panels(figure, [""])
        distances = [self._distances(kind).ravel() for kind in self._kinds]
        distances.append(self._innocent.ravel())
        panel.boxplot(distances, whis=(1, 99), sym="", tick_labels=[*self._kinds, "held out"])
        panel.axhline(float(self._at(level).mean()), linestyle=":")
        panel.tick_params(axis="x", rotation=60, labelsize="small")
        panel.set_ylabel("distance (dotted: threshold)")

    def _drawn(self) -> list[str]:
        return [kind for kind in DRAWN if kind in self._kinds]

    def _at(self, level: float) -> Floats:
        """(repetitions,) thresholds of a level."""
        return np.asarray(self._thresholds[:, LEVELS.index(level)])

    def _distances(self, kind: str) -> Floats:
        """(repetitions, m)."""
        return np.array([piece["kinds"][kind]["distances"] for piece in self._pieces])

    # each takes (repetitions,) thresholds and gives (repetitions,) shares

    def _recalled(self, kind: str, thresholds: Floats) -> Floats:
        right = np.array([piece["kinds"][kind]["right"] for piece in self._pieces], dtype=bool)
        return _share((self._distances(kind) <= thresholds[:, None]) & right)

    def _called(self, kind: str, thresholds: Floats) -> Floats:
        return _share(self._distances(kind) <= thresholds[:, None])

    def _alarms(self, thresholds: Floats) -> Floats:
        return _share(self._innocent <= thresholds[:, None])


def _share(true: NDArray[np.bool_]) -> Floats:
    return np.asarray(true.mean(axis=1))
