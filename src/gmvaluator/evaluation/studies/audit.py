"""Are planted copies found, and innocent images left alone? (`gmvaluator.audit`; Appendix K)

Copies of training images under graded transformations, and real images that were held out. No
generator is needed, and no label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.audit.align import PLACEMENTS
from gmvaluator.audit.near_copies import CopyFinder, CopySettings, Matches
from gmvaluator.errors import InputError
from gmvaluator.evaluation.metrics import Interval, mean_interval
from gmvaluator.evaluation.planted.known_sources import (
    Made,
    PlantedSet,
    PlantedSubject,
    Pool,
    Truth,
)
from gmvaluator.evaluation.planted.transformations import (
    Images,
    Transformation,
    cropped_anywhere,
    suited,
)
from gmvaluator.evaluation.results import Cell, StudyResult, Table, grid
from gmvaluator.evaluation.study import Context
from gmvaluator.images import ImageSet
from gmvaluator.images.pixels import random_subset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
WANTED = ("identity", "flip", "JPEG 50", "crop 5 %")
"""What must be found of all of them, or nearly so, for an audit to be of use."""
DRAWN = (*WANTED, "crop 10 %", "crop 20 %", "blur 1 px", "noise 0.2", "rotation 15°")
Result = Mapping[str, Any]


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
        context: its training set gives the sources; its subjects and valuers are not used, and m
            is the number of copies of each transformation.
        held_out: real images none of which is in the training set.
        innocents: of them taken a repetition.
        settings: of the audit; `false_alarms` is what the tables are for.
        name: of the result.

    Raises:
        InputError: too few images.
        ImageError: a training image cannot be read.
    """
    chosen = settings or CopySettings()
    if not 1 <= innocents <= len(held_out):
        raise InputError(
            f"innocents={innocents} of {len(held_out)} held-out images; pass 1 to {len(held_out)}"
        )
    pool = Pool.read(context.train)
    used = audited(pool.colour)
    recipe = repr([each.name for each in used])
    make = partial(_copies, used=used)
    subject = PlantedSubject("audited", recipe, make, pool, context.work)
    measured = _Measured(context, chosen)
    results = []
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
                "settings": vars(chosen) | {"false_alarms": None},
                "levels": LEVELS,
                "placements": len(PLACEMENTS),
            }
            compute = partial(measured.piece, subject, held_out, innocents, seed)
            results.append(context.work.piece("audit", key, compute))
            advance(1)
    return _result(context, results, chosen, innocents, name)


def audited(colour: bool) -> tuple[Transformation, ...]:
    """Those of the study of known sources, crops out of the middle, and three at once."""
    return (
        *suited(colour),
        *(
            Transformation(f"crop {cut} %, anywhere", partial(cropped_anywhere, cut / 100))
            for cut in (5, 10)
        ),
        Transformation("flip, crop 5 %, JPEG 50", _altered),
    )


def _altered(images: Images, rng: np.random.Generator) -> Images:
    named = {each.name: each for each in suited(colour=False)}
    for name in ("flip", "crop 5 %", "JPEG 50"):
        images = named[name].apply(images, rng)
    return images


def _copies(pool: Pool, m: int, seed: int, *, used: Sequence[Transformation]) -> Made:
    """The same m training images under each transformation."""
    rng = np.random.default_rng([seed, 4])
    rows = pool.draw(m, rng)
    originals = pool.pixels(rows)
    images = np.concatenate([each.apply(originals, rng) for each in used])
    sources = np.tile(rows, len(used))[:, None]
    kinds = np.repeat([each.name for each in used], m)
    return Made(images, Truth.of_sources(kinds, sources, np.ones(sources.shape)))


class _Measured:
    """Measures one repetition; the training set is fitted when the first asks for it."""

    def __init__(self, context: Context, settings: CopySettings) -> None:
        self._context = context
        self._settings = settings

    def piece(
        self, subject: PlantedSubject, held_out: ImageSet, innocents: int, seed: int
    ) -> dict[str, Any]:
        """Distances of copies and of innocent images, and the thresholds of all levels."""
        planted = subject.planted(self._context.m, seed)
        real = self._finder.match(random_subset(held_out, innocents, seed))
        return {
            "kinds": _of_kinds(planted, self._finder.match(planted.images)),
            "innocent": real.distances[:, 0].tolist(),
            "thresholds": [self._finder.calibration_at(level).threshold for level in LEVELS],
            "calibration": self._finder.calibration.as_json(),
        }

    @cached_property
    def _finder(self) -> CopyFinder:
        context = self._context
        return CopyFinder(context.train, self._settings, progress=context.progress)


def _of_kinds(planted: PlantedSet, found: Matches) -> dict[str, Any]:
    """By transformation: the least distance of each copy, and whether it is to the source."""
    kinds, sources = planted.truth.kinds, planted.truth.sources[:, 0]
    nearest, best = found.distances[:, 0], found.candidates[:, 0]
    if not np.array_equal(found.rows, np.arange(len(kinds))):
        raise InputError("some planted copies cannot be read; empty the working folder")
    return {
        str(kind): {
            "distances": nearest[kinds == kind].tolist(),
            "right": (best == sources)[kinds == kind].tolist(),
            "recalled": float((found.candidates == sources[:, None]).any(1)[kinds == kind].mean()),
        }
        for kind in dict.fromkeys(kinds)
    }


def _result(
    context: Context,
    results: Sequence[Result],
    settings: CopySettings,
    innocents: int,
    name: str,
) -> StudyResult:
    level = settings.false_alarms
    return StudyResult(
        name=name,
        title="Near copies of training images",
        tables=(
            _by_kind(context, results, level),
            _by_level(context, results),
        ),
        parameters={
            each: value
            for each, value in context.parameters().items()
            if each not in ("subjects", "valuers")
        }
        | {"innocents": innocents, "settings": vars(settings)},
        notes=(
            f"{context.m} copies of each transformation and {innocents} real held-out images a "
            "repetition. Found: called a copy, of the training image it is a copy of. Precision: "
            "found copies among all images called copies, where there are as many innocent images "
            "as copies of that transformation; a copy called one of another image counts as "
            "wrong. Candidates: the source is among the training images the copy is laid over.",
            results[0]["calibration"]["stated"],
        ),
        details={"levels": LEVELS, "pieces": [dict(each) for each in results]},
        plots={
            "recall": lambda figure: _draw_recall(figure, results),
            "distances": lambda figure: _draw_distances(figure, results, level),
        },
    )


def _by_kind(context: Context, results: Sequence[Result], level: float) -> Table:
    rows: list[list[Cell]] = [
        [
            kind,
            _mean([_found(each, kind, _threshold(each, level)) for each in results]),
            _mean([_precision(each, kind, _threshold(each, level)) for each in results]),
            _mean([_called(each, kind, _threshold(each, level)) for each in results]),
            float(np.mean([each["kinds"][kind]["recalled"] for each in results])),
            float(np.median([each["kinds"][kind]["distances"] for each in results])),
        ]
        for kind in results[0]["kinds"]
    ]
    columns = (
        "transformation",
        "recall: found",
        "precision",
        "called a copy of any",
        "source among candidates",
        "median distance",
    )
    title = f"{context.train_name}, n = {len(context.train)}, false alarms {level:g} asked for"
    return Table(title, columns, grid(rows))


def _by_level(context: Context, results: Sequence[Result]) -> Table:
    kinds = [kind for kind in DRAWN if kind in results[0]["kinds"]]
    rows: list[list[Cell]] = []
    for place, level in enumerate(LEVELS):
        thresholds = [each["thresholds"][place] for each in results]
        rows.append(
            [
                f"{level:g}",
                float(np.mean(thresholds)),
                _mean([_alarms(e, t) for e, t in zip(results, thresholds, strict=True)]),
                *(
                    float(
                        np.mean([_found(e, k, t) for e, t in zip(results, thresholds, strict=True)])
                    )
                    for k in kinds
                ),
            ]
        )
    columns = ("false alarms asked for", "threshold", "on held-out images", *kinds)
    title = f"{context.train_name}: false alarms and recall by threshold"
    return Table(title, columns, grid(rows))


def _threshold(result: Result, level: float) -> float:
    if level in LEVELS:
        return float(result["thresholds"][LEVELS.index(level)])
    raise InputError(f"false alarms {level}; this study keeps {', '.join(map(str, LEVELS))}")


def _mean(samples: Sequence[float]) -> Interval:
    return mean_interval(samples)


def _found(result: Result, kind: str, threshold: float) -> float:
    within, right = _within(result, kind, threshold)
    return float((within & right).mean())


def _called(result: Result, kind: str, threshold: float) -> float:
    return float(_within(result, kind, threshold)[0].mean())


def _alarms(result: Result, threshold: float) -> float:
    return float((np.array(result["innocent"]) <= threshold).mean())


def _precision(result: Result, kind: str, threshold: float) -> float:
    """NaN where nothing is called a copy."""
    called = _called(result, kind, threshold) + _alarms(result, threshold)
    return _found(result, kind, threshold) / called if called else float("nan")


def _within(
    result: Result, kind: str, threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    measured = result["kinds"][kind]
    return np.array(measured["distances"]) <= threshold, np.array(measured["right"], dtype=bool)


def _draw_recall(figure: Figure, results: Sequence[Result]) -> None:
    """Recall against the false alarms that held-out images show, by threshold."""
    panel = figure.subplots()
    thresholds = np.quantile([each["innocent"] for each in results], np.linspace(0, 0.2, 60))
    alarms = [np.mean([_alarms(each, t) for each in results]) for t in thresholds]
    for kind in (kind for kind in DRAWN if kind in results[0]["kinds"]):
        found = [np.mean([_found(each, kind, t) for each in results]) for t in thresholds]
        panel.plot(alarms, found, label=kind)
    panel.set_xlabel("false alarms among held-out images")
    panel.set_ylabel("recall")
    panel.set_ylim(-0.02, 1.02)
    panel.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=5, fontsize="small")


def _draw_distances(figure: Figure, results: Sequence[Result], level: float) -> None:
    """Distances of copies by transformation beside those of held-out images."""
    panel = figure.subplots()
    kinds = list(results[0]["kinds"])
    found = [
        np.concatenate([each["kinds"][kind]["distances"] for each in results]) for kind in kinds
    ]
    found.append(np.concatenate([each["innocent"] for each in results]))
    panel.boxplot(found, whis=(1, 99), sym="", tick_labels=[*kinds, "held out"])
    panel.axhline(float(np.mean([_threshold(each, level) for each in results])), linestyle=":")
    panel.tick_params(axis="x", rotation=60, labelsize="small")
    panel.set_ylabel("distance (dotted: threshold)")
    panel.grid(alpha=0.3, axis="y")
