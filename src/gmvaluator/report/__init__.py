"""What people look at: a run as one self-contained page, and figures for papers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmvaluator.report.figures import write_figures
    from gmvaluator.report.page import write_report

_HOMES = {"write_figures": "figures", "write_report": "page"}

__all__ = ["write_figures", "write_report"]


def __getattr__(name: str) -> Any:
    # names load on first use: the command line asks this package for its defaults
    if name not in _HOMES:
        raise AttributeError(f"module 'gmvaluator.report' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"gmvaluator.report.{_HOMES[name]}"), name)
