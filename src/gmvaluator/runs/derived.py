"""Files that other commands add to a run's folder, and their fate when the run is replaced."""

from __future__ import annotations

from pathlib import Path

from gmvaluator.errors import RunError

FIGURES = ("cumulative", "distribution", "contributors")
REMADE = (
    "report.html",
    "intervals.parquet",
    "uncertainty.json",
    "uncertainty.md",
    "uncertainty-*.svg",
    "stability.json",
    "stability.md",
    "stability-*.svg",
    "audit.parquet",
    "audit.json",
    "audit/*.html",
    *(f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "pdf")),
)
"""Files that can be regenerated from the run. They are deleted when the run is replaced."""
RECORDS = ("payout.json",)
"""Files that stay when the run is replaced: payments were made."""


def remaining_records(folder: Path) -> list[Path]:
    """Records in `folder` that stayed when its run was replaced."""
    return [folder / name for name in RECORDS if (folder / name).exists()]


def drop_derived(folder: Path) -> None:
    """Delete the files that were derived from the replaced run of `folder`; records stay.

    Raises:
        RunError: a file cannot be deleted.
    """
    try:
        for pattern in REMADE:
            for file in folder.glob(pattern):
                file.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"{error.filename or folder} is of the replaced run and cannot be deleted "
            f"({error.strerror or error}); delete it"
        ) from error
