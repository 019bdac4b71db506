"""Processes that begin with what this process has imported: they start at once."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path


def forked(work: Callable[[], object], output: Path | None = None) -> ForkProcess:
    """A child process that does `work`, and a process in its own right to interrupt and kill.

    Args:
        work: what the child does; `SystemExit` sets its exit code.
        output: file that takes the child's standard output and error; None: they are dropped.
    """

    def child() -> None:
        target = os.open(output or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(target, stream)
        # pytest has put streams of its own in their places
        sys.stdout = sys.stderr = os.fdopen(target, "w", buffering=1, encoding="utf-8")
        work()

    process = multiprocessing.get_context("fork").Process(target=child, daemon=False)
    process.start()
    return process
