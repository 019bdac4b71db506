"""How long stages tell how far they are; silent unless someone listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """`with progress.stage("embed train", 60000) as advance: advance(64)`."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]: ...


class Silent:
    """Says nothing: the library's default."""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        yield lambda _: None


class Bars:
    """Progress bars on standard error (rich), one a stage."""

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
    """True → bars, False → silence, an object → itself."""
    if isinstance(progress, bool):
        return Bars() if progress else Silent()
    return progress
