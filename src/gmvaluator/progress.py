"""Progress of long stages: nothing, bars or lines on standard error, or an object of the caller."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
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


LINE_SECONDS = 30.0
"""Time between two lines of a stage."""


class Lines:
    """Writes a line to standard error when a stage begins, and every half minute while it lasts.

    Args:
        clock: seconds that pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        started = written = self._clock()
        done = 0

        def advance(n: int) -> None:
            nonlocal done, written
            done += n
            now = self._clock()
            if now - written >= LINE_SECONDS:
                written = now
                self._write(f"{name}: {done:,} of {total:,} after {_duration(now - started)}")

        self._write(f"{name}: {total:,}")
        yield advance

    @staticmethod
    def _write(line: str) -> None:
        # `print` writes to standard output where standard error is closed
        if sys.stderr is not None:
            # the disk of a log is full, say: no reason to end the work
            with suppress(OSError):
                print(line, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    """3 s, 4 min 30 s or 2 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


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
    """True → bars on a terminal, lines elsewhere; False → silence; an object → itself.

    Raises:
        InputError: neither a truth value nor an object with `stage`.
    """
    if not isinstance(progress, bool):
        if not hasattr(progress, "stage"):
            raise InputError(f"progress={progress!r}; pass True, False or an object with `stage`")
        return progress
    if not progress:
        return Silent()
    from rich.console import Console

    console = Console(stderr=True)
    return Bars() if console.is_terminal or console.is_jupyter else Lines()
