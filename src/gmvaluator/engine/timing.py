"""Seconds by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Record how long the block takes, in seconds, under the name of a stage."""
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
