"""Independent work side by side: one process a processor, one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from gmvaluator.progress import Progress


def side_by_side(tasks: Sequence[Callable[[], None]], stage: str, progress: Progress) -> None:
    """Run all tasks, each in a process of its own kind, and tell how many are done.

    Small networks gain little from a second thread. A task keeps its result in a file; when one
    fails or this process is interrupted or killed, the others end too, and what is in files stays.

    Args:
        tasks: callables that can be pickled.
        stage: what the progress calls it.
    """
    if not tasks:
        return
    workers = min(len(tasks), len(os.sched_getaffinity(0)))
    context = multiprocessing.get_context("spawn")
    with (
        progress.stage(stage, len(tasks)) as advance,
        ProcessPoolExecutor(workers, context, _end_with_parent) as pool,
    ):
        running = [pool.submit(task) for task in tasks]
        try:
            for done in as_completed(running):
                done.result()
                advance(1)
        except BaseException:
            for each in running:
                each.cancel()
            raise


def _end_with_parent() -> None:
    """In a worker: stop when the process that asked for it is gone, even if it was killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
