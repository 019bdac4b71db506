"""`gmvaluator uncertainty`: how certain the values of a run are."""

from __future__ import annotations

from pathlib import Path

from gmvaluator.cli.help import verb
from gmvaluator.cli.options import LEVEL, PRINTING, RUN, SEED, options


@verb("uncertainty run/ --level 0.9")
@options(RUN, LEVEL, SEED, *PRINTING)
def uncertainty(run: Path, level: float, seed: int, as_json: bool) -> None:
    """Compute how certain the values of RUN are.

    Also estimates how many generated images would be enough. Writes intervals.parquet (an interval
    per training image), uncertainty.json, uncertainty.md and a plot into RUN. Needs no images.
    """
    from gmvaluator.certainty import uncertainty_run
    from gmvaluator.cli.printing import chosen_progress, print_result

    progress = chosen_progress()
    analysis = uncertainty_run(run, level=level, seed=seed, progress=progress)
    files, result = analysis.save(run), analysis.result()
    written = f"written: {', '.join(file.name for file in files)} in {run}"
    print_result(result.as_json(), f"{result.as_text()}\n\n{written}", as_json=as_json)
