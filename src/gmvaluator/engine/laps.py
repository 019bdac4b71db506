"""Seconds by stage."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TypeVar

Result = TypeVar("Result")


class Laps:
    """A clock that stages are read off: each lap lasts from the lap before.

    Args:
        earlier: seconds of stages that are done.
    """

    def __init__(self, earlier: Mapping[str, float] | None = None) -> None:
        self.seconds = dict(earlier or {})
        self._start = time.perf_counter()

    def lap(self, stage: str, result: Result) -> Result:
        """Count the time since the last lap for a stage; returns the stage's result."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._start
        self._start = now
        return result
