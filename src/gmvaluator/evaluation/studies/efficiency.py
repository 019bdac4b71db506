"""C4 and Appendix O: seconds (Tables 4 and 15), and how they grow with the training set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gmvaluator.certainty.tables import Cell, StudyResult
from gmvaluator.errors import InputError
from gmvaluator.evaluation.layout import Line, plot, table
from gmvaluator.evaluation.named import NamedValuer
from gmvaluator.evaluation.paper import SECONDS, SECONDS_A_SAMPLE, SECONDS_SIZE
from gmvaluator.evaluation.study import Context, FittedValuer, Pieces, walk
from gmvaluator.evaluation.subjects.subject import Subject
from gmvaluator.evaluation.valuers import anew
from gmvaluator.images import ImageSet
from gmvaluator.images.pixels import random_subset

STAGES = (
    "embed train",
    "fit",
    "embed generated",
    "recall",
    "rerank",
    "weights",
    "quality",
    "values",
)
PAPER_ROW = {"st-lpips": "lpips"}


def efficiency(context: Context, k: int = 50, *, name: str = "c4") -> StudyResult:
    """Seconds of a whole valuation without any result of earlier runs.

    Args:
        context: its m images are drawn before the clock starts.
        k: number of contributors per generated image.
        name: name of the result.
    """
    n = len(context.train)
    pieces = _timed(context, "c4", [n], k)
    # another size's seconds make no ratio
    comparable = (n, context.m) == SECONDS_SIZE

    def rows() -> Iterator[list[Cell]]:
        for valuer in context.valuers:
            seconds = SECONDS.get(PAPER_ROW.get(valuer.name, valuer.name))
            for subject in context.subjects:
                at = (valuer.name, subject.name, str(n))
                total = pieces.mean(*at, "total")
                if not math.isnan(total.mean):  # NaN: the valuer cannot look into this generator
                    yield [
                        valuer.name,
                        subject.name,
                        *(pieces.mean(*at, stage).mean for stage in STAGES),
                        total,
                        total.mean / context.m,
                        float(seconds) if seconds else None,
                        seconds / total.mean if seconds and comparable else None,
                    ]

    columns = ("total, s", "s a generated image", "paper on its GPU, s", "× faster")
    title = f"{context.train_name}, n = {n}, m = {context.m}, k = {k}"
    return StudyResult(
        name=name,
        title="Efficiency (C4)",
        tables=(table(title, ("valuer", "images of", *STAGES, *columns), rows(), digits=2),),
        parameters=context.parameters() | {"k": k},
        notes=(
            "Seconds on the cores named in the JSON file, everything computed anew; training the "
            "generators is not counted, but IF4GAN's traced training is (fit). The paper's "
            "seconds are for n = 60,000, m = 10,000 on an RTX 3080, its LPIPS row beside ST-LPIPS; "
            "it reports "
            f"{SECONDS_A_SAMPLE['no-rerank']:.2f} s a generated image without re-rank and "
            f"{SECONDS_A_SAMPLE['vae-tracin']:.1f} s for VAE-TracIn.",
        ),
        details=pieces.details(),
    )


def growth(
    context: Context, sizes: Sequence[int], k: int = 50, *, name: str = "growth_n"
) -> StudyResult:
    """Seconds by stage as the training set grows (Appendix O), each size computed anew.

    Args:
        sizes: numbers of training images, ascending; random subsets of the context's set.

    Raises:
        InputError: a size out of range.
    """
    check_sizes(sizes, len(context.train))
    pieces = _timed(context, "growth", list(sizes), k)
    subject = context.subjects[0].name
    rows = (
        [valuer.name, n]
        + [pieces.mean(valuer.name, subject, str(n), stage).mean for stage in STAGES]
        + [pieces.mean(valuer.name, subject, str(n), "total")]
        for valuer in context.valuers
        for n in sizes
    )
    lines = [
        Line(v.name, sizes, [pieces.mean(v.name, subject, str(n), "total") for n in sizes])
        for v in context.valuers
    ]
    title = f"{context.train_name}, m = {context.m}"
    return StudyResult(
        name=name,
        title="Growth with the training set (Appendix O)",
        tables=(table(title, ("valuer", "n", *STAGES, "total, s"), rows, digits=2),),
        parameters=context.parameters() | {"sizes": list(sizes), "k": k},
        details=pieces.details(),
        plots={"seconds": plot({subject: lines}, "training images n", "seconds", log="xy")},
    )


def usual_sizes(n: int) -> list[int]:
    """Numbers of training images to compare at, where n are the most."""
    return [*(size for size in (1_000, 5_000, 20_000) if size < n), n]


def check_sizes(sizes: Sequence[int], n: int) -> None:
    """Raises `InputError` unless the numbers of training images ascend from 1 up to n."""
    if not sizes or list(sizes) != sorted(set(sizes)) or not 1 <= sizes[0] <= sizes[-1] <= n:
        raise InputError(f"sizes {list(sizes)}; pass ascending ones from 1 to {n}")


def _timed(context: Context, kind: str, sizes: Sequence[int], k: int) -> Pieces:
    def prepare(valuer: NamedValuer) -> Callable[[Subject, int], dict[str, Any]]:
        def compute(subject: Subject, seed: int) -> dict[str, Any]:
            images = subject.sample(context.m, seed).images
            return {
                str(n): _seconds(anew(valuer), random_subset(context.train, n), images, k)
                for n in sizes
            }

        return compute

    return walk(context, kind, {"sizes": list(sizes), "k": k, "stages": list(STAGES)}, prepare)


def _seconds(valuer: NamedValuer, train: ImageSet, images: ImageSet, k: int) -> dict[str, float]:
    spent = FittedValuer(valuer, train, k).value(images).record.seconds
    by_stage = {stage: float(spent.get(stage, 0.0)) for stage in STAGES}
    return by_stage | {"total": sum(by_stage.values())}
