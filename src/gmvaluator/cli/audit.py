"""`gmvaluator audit`: near copies of training images among the generated ones of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gmvaluator.cli.options import (
    BACKEND,
    CACHE,
    DEVICE,
    GENERATED,
    NO_CACHE,
    PRINTING,
    RUN,
    TRAIN,
    options,
    overwrite,
)


@click.command()
@options(RUN, overwrite("the audit"))
@click.option(
    "--false-alarms",
    type=float,
    default=0.01,
    show_default=True,
    help="Share of innocent images that may be called copies; the threshold follows from it.",
)
@click.option("--max", "most", type=int, help="Generated images looked at, evenly spread (all).")
@click.option(
    "--candidates",
    type=int,
    default=16,
    show_default=True,
    help="Training images that each generated image is laid over.",
)
@click.option(
    "--calibration",
    type=int,
    default=2_000,
    show_default=True,
    help="Training images compared with all others for the threshold, at most.",
)
@click.option(
    "--encoder",
    default="efficientnet-lite0",
    show_default=True,
    help="Encoder that training images to compare with are recalled by, beside small pixels.",
)
@click.option(
    "--evidence",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Copies shown side by side, nearest first; 0: no pages.",
)
@options(TRAIN, GENERATED, DEVICE, BACKEND, CACHE, NO_CACHE, *PRINTING)
def audit(
    run: Path,
    train: str | None,
    generated: str | None,
    false_alarms: float,
    most: int | None,
    candidates: int,
    calibration: int,
    encoder: str,
    evidence: int,
    overwrite: bool,
    cache: Path | None,
    no_cache: bool,
    as_json: bool,
    quiet: bool,
    **runtime: Any,
) -> None:
    """Which generated images of RUN are near copies of which training images?

    Every generated image is laid over the training images that are most like it: shifted, mirrored,
    zoomed. Copies are those nearer than training images are to each other, but for the share given
    by --false-alarms. Writes audit.parquet, audit.json and evidence pages (audit/) into RUN.
    """
    from gmvaluator.audit import audit_run
    from gmvaluator.audit.findings import AUDIT_PAGES, AUDIT_TABLE, check_audit_output
    from gmvaluator.audit.near_copies import CopySettings
    from gmvaluator.cli.printing import print_result

    settings = CopySettings(false_alarms, candidates, calibration, encoder)
    check_audit_output(run, overwrite=overwrite, evidence=evidence)
    found = audit_run(
        run,
        train=train,
        generated=generated,
        settings=settings,
        most=most,
        cache=False if no_cache else cache or True,
        progress=not quiet and not as_json,
        **{name: given for name, given in runtime.items() if given is not None},
    )
    pages = f", {run / AUDIT_PAGES}/index.html" if evidence else ""
    record = found.save(overwrite=overwrite, evidence=evidence)
    ids, trained = found.run.generated.ids, found.run.train.ids
    lines = [
        f"{len(found.copies)} of {found.n_audited} generated images are near copies "
        f"(distance ≤ {found.calibration.threshold:.3f}; 0 the same, 1 as usual)",
        found.calibration.stated,
        *(
            f"  {pair.distance:.3f}  {ids[pair.generated]}  of  {trained[pair.train]}"
            f"  ({pair.placement})"
            for pair in found.copies[:10]
        ),
        f"saved in {run / AUDIT_TABLE}, {record}{pages}",
    ]
    summary = found.as_json() | {"out": str(run)}
    print_result(summary, "\n".join(lines), as_json=as_json)
