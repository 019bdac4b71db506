"""Progress of long stages: nothing, bars on standard error, or an object of the caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from gmvaluator.errors import InputError

Advance = Callable[[int], None]


class Progress(Protocol):
    """Hears of each stage its name and number of steps, and then of steps done.

    `with progress.stage("embed train", 60000) as advance: advance(64)`.
    """

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]: ...


class Silent:
    """Shows nothing. Default of the library."""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        yield lambda _: None


class Bars:
    """Shows a bar for each stage, on standard error."""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("{task.description:<22}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=Console(stderr=True)) as bars:
            task = bars.add_task(name, total=total)
            yield lambda n: bars.advance(task, n)


def as_progress(progress: bool | Progress) -> Progress:
    """True → bars, False → silence, an object with `stage` → itself; else an InputError."""
    if isinstance(progress, bool):
        return Bars() if progress else Silent()
    if not hasattr(progress, "stage"):
        raise InputError(f"progress={progress!r}; pass True, False or an object with `stage`")
    return progress
