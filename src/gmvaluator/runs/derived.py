"""What other commands add to a run's folder, and what becomes of it when the run is replaced."""

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
"""Files that a command makes again from the run; beside another run they would be of no run."""
RECORDS = ("payout.json",)
"""Files that stay when the run is replaced: what was paid was paid."""


def left_of_before(folder: Path) -> list[Path]:
    """Records of the run that `folder` held before the one that was just saved there."""
    return [folder / name for name in RECORDS if (folder / name).exists()]


def drop_derived(folder: Path) -> None:
    """Delete what was made of the run that `folder` held before; payouts are records and stay.

    Raises:
        RunError: a file cannot be deleted.
    """
    try:
        for pattern in REMADE:
            for file in folder.glob(pattern):
                file.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"{error.filename or folder} is of the run that was here before and cannot be deleted "
            f"({error.strerror or error}); delete it"
        ) from error
