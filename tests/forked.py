"""Run something in a forked child of this process, and kill the child if it hangs."""

from __future__ import annotations

import os
import pickle
import select
import signal
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def in_child(job: Callable[[], Result], seconds: float = 20) -> Result:
    """What `job` returns in a forked child; `TimeoutError` if it takes longer."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, pickle.dumps(job()))
        finally:
            os._exit(0)
    os.close(writing)
    try:
        if not select.select([reading], [], [], seconds)[0]:
            os.kill(child, signal.SIGKILL)
            raise TimeoutError(f"the child did not end within {seconds} s")
        result: Result = pickle.loads(os.read(reading, 1 << 16))
        return result
    finally:
        os.close(reading)
        os.waitpid(child, 0)
