"""`gmvaluator reweigh`: a run with another weighting, temperature or k, without fitting again."""

from __future__ import annotations

from pathlib import Path

from gmvaluator.cli.claims import claim_folder
from gmvaluator.cli.help import verb
from gmvaluator.cli.options import (
    GENERATED_IMAGES,
    NO_REPORT,
    OVERWRITE,
    PIXEL_LIMIT,
    PRINTING,
    REWEIGHING,
    RUN,
    TRAIN_IMAGES,
    options,
    out,
)
from gmvaluator.cli.printing import chosen_progress, print_valuation


@verb("reweigh run/ --temperature 0.1 --out run-sharp/")
@options(
    RUN,
    out("Folder to write the new run to.", required=True),
    OVERWRITE,
    NO_REPORT,
    *REWEIGHING,
    TRAIN_IMAGES,
    GENERATED_IMAGES,
    PIXEL_LIMIT,
    *PRINTING,
)
def reweigh(
    run: Path,
    out: Path,
    overwrite: bool,
    no_report: bool,
    weighting: str | None,
    temperature: str | None,
    k: int | None,
    train_images: str | None,
    generated_images: str | None,
    as_json: bool,
) -> None:
    """Weigh RUN again with another weighting, temperature or k.

    The scores follow from the distances that the run recorded: no image is embedded, and nothing
    is fitted. Writes a run folder, as value does. Quality and the test of --null stay as they are.
    """
    from gmvaluator.report import report_run
    from gmvaluator.runs.folder import open_run
    from gmvaluator.runs.record import MARKER
    from gmvaluator.runs.reweighing import reweigh_run
    from gmvaluator.settings import read_temperature

    claim_folder(out, MARKER, overwrite=overwrite)
    valuation = reweigh_run(
        run,
        out,
        weighting=weighting,
        temperature=None if temperature is None else read_temperature(temperature),
        k=k,
        overwrite=overwrite,
    )
    page = None
    if not no_report:
        opened = open_run(out, train=train_images, generated=generated_images)
        page = report_run(opened, progress=chosen_progress())
    print_valuation(valuation, out, as_json=as_json, report=page)
