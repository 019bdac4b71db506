"""A run in; out come static figures for papers and slides, each as PNG and as PDF."""

from __future__ import annotations

from pathlib import Path

from gmvaluator.files.atomic import publish_file
from gmvaluator.report.columns import spread_order
from gmvaluator.runs import plots
from gmvaluator.runs.folder import Run, as_run

FIGURES = "figures"
SHEET_ROWS = 8
_DPI = 200


def figures_run(run: str | Path | Run, folder: str | Path | None = None) -> tuple[Path, ...]:
    """Write the cumulative share, the distribution and a sheet of contributors.

    Args:
        run: a run folder, or a run from `open_run`.
        folder: where to write. Default: `figures` in the run's folder.

    Returns:
        The files: `cumulative`, `distribution` and `contributors`, each .png and .pdf.

    Raises:
        RunError: a file cannot be written.
    """
    run = as_run(run)
    target = run.folder / FIGURES if folder is None else Path(folder)
    valuation = run.valuation
    cumulative, distribution = plots.new_figure(4.6, 3.4), plots.new_figure(4.6, 3.4)
    plots.draw_cumulative(cumulative.subplots(), valuation.values)
    plots.draw_histogram(distribution.subplots(), valuation.values)
    rows = spread_order(len(valuation.generated_ids))[:SHEET_ROWS].tolist()
    sheet = plots.plot_contributors(
        valuation.contributions, valuation.quality, rows, run.train, run.generated
    )
    files = []
    for name, figure in (
        ("cumulative", cumulative),
        ("distribution", distribution),
        ("contributors", sheet),
    ):
        for kind in ("png", "pdf"):
            file = target / f"{name}.{kind}"
            with publish_file(file) as part:
                # no date: the same run gives the same file
                metadata = {"CreationDate": None} if kind == "pdf" else None
                figure.savefig(part, format=kind, dpi=_DPI, metadata=metadata)
            files.append(file)
    return tuple(files)
