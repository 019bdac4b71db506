"""Seconds by stage."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Record how long the block takes, in seconds, under the name of a stage."""
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
    log.info("%s took %.2f s", stage, seconds[stage])
