"""`gmvaluator audit`: near copies of training images among the generated ones of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gmvaluator.cli.claims import claim
from gmvaluator.cli.help import verb
from gmvaluator.cli.options import (
    BACKEND,
    CACHE,
    DEVICE,
    FALSE_ALARMS,
    GENERATED_IMAGES,
    NO_CACHE,
    OVERWRITE,
    PIXEL_LIMIT,
    PRINTING,
    RUN,
    TRAIN_IMAGES,
    option,
    options,
)


@verb("audit run/ --false-alarms 0.001")
@options(
    RUN,
    OVERWRITE,
    FALSE_ALARMS,
    option(
        "--threshold",
        "Distance up to which an image is a copy; 0: the same image, 1: as far as usual. "
        "Default: the distance that follows from --false-alarms.",
        type=float,
    ),
    option(
        "--max",
        "Number of generated images to look at, evenly spread. Default: all.",
        to="most",
        type=int,
    ),
    option(
        "--candidates",
        "Number of training images that each generated image is compared with in detail.",
        default=16,
    ),
    option(
        "--calibration",
        "Largest number of training images that are compared with all others to find the "
        "distance below which an image is a copy.",
        default=2000,
    ),
    option(
        "--encoder NAME",
        "Network that finds the training images to compare with, beside small pixels.",
        default="efficientnet-lite0",
    ),
    option(
        "--evidence",
        "Number of copies shown side by side in the pages audit/, nearest first; 0: no pages.",
        type=click.IntRange(min=0),
        default=200,
    ),
    TRAIN_IMAGES,
    GENERATED_IMAGES,
    PIXEL_LIMIT,
    DEVICE,
    BACKEND,
    CACHE,
    NO_CACHE,
    *PRINTING,
)
def audit(
    run: Path,
    train_images: str | None,
    generated_images: str | None,
    false_alarms: float,
    threshold: float | None,
    most: int | None,
    candidates: int,
    calibration: int,
    encoder: str,
    evidence: int,
    overwrite: bool,
    cache: Path | None,
    no_cache: bool,
    as_json: bool,
    **runtime: Any,
) -> None:
    """Find generated images that copy training images.

    The audit lays each generated image over the training images most like it: shifted, mirrored
    and zoomed. A copy is nearer than training images are to each other; --false-alarms sets how
    strictly. Writes audit.parquet, audit.json and pages of evidence (audit/) into RUN.
    """
    from gmvaluator.audit import audit_run
    from gmvaluator.audit.findings import (
        AUDIT_PAGES,
        AUDIT_RECORD,
        AUDIT_TABLE,
        LISTED,
        check_audit_output,
    )
    from gmvaluator.audit.near_copies import CopySettings
    from gmvaluator.cli.printing import chosen_progress, print_result, table
    from gmvaluator.runs.record import read_record

    read_record(run)
    claim(run / AUDIT_RECORD)
    settings = CopySettings(false_alarms, candidates, calibration, encoder, threshold=threshold)
    check_audit_output(run, overwrite=overwrite, evidence=evidence)
    result = audit_run(
        run,
        train=train_images,
        generated=generated_images,
        settings=settings,
        most=most,
        cache=False if no_cache else cache or True,
        progress=chosen_progress(),
        **{name: value for name, value in runtime.items() if value is not None},
    )
    pages = f", {run / AUDIT_PAGES}/index.html" if evidence else ""
    record = result.save(overwrite=overwrite, evidence=evidence)
    ids, trained = result.run.generated.ids, result.run.train.ids
    columns = ("distance", "copy", "generated image", "nearest training image", "placement")
    rows = [
        (
            f"{pair.distance:.3f}",
            "yes" if pair.is_copy else "no",
            ids[pair.generated],
            trained[pair.train],
            pair.placement,
        )
        for pair in result.nearest[:LISTED]
    ]
    lines = [
        f"{len(result.copies)} of {result.n_audited} generated images are near copies "
        f"(distance ≤ {result.calibration.threshold:.3f}; 0 the same, 1 as usual)",
        result.calibration.stated,
        *(f"Warning: {warning}" for warning in result.calibration.warnings),
        "",
        f"The nearest {len(rows)}, copies or not:",
        table(columns, rows, left=columns[1:]),
        "",
        f"saved in {run / AUDIT_TABLE}, {record}{pages}",
    ]
    summary = result.as_json() | {"out": str(run)}
    print_result(summary, "\n".join(lines), as_json=as_json)
