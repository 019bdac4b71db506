"""Independent tasks side by side: one process per processor, one thread per process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from gmvaluator.progress import Progress


def side_by_side(tasks: Sequence[Callable[[], None]], stage: str, progress: Progress) -> None:
    """Run all tasks in several processes, and report their number as they finish.

    A small network gains little from a second thread. A task writes its result to a file. If a task
    fails, or if this process is interrupted or killed, the other tasks end too, and finished files
    stay.

    Args:
        tasks: callables that can be pickled.
        stage: name of the stage in the progress.
        progress: receives the progress.
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
            for future in running:
                future.cancel()
            raise


def _end_with_parent() -> None:
    """In a worker: end when the parent process has ended, even if it was killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
