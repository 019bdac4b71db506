"""Run something in a forked child of this process, and kill the child if it hangs."""

from __future__ import annotations

import os
import pickle
import select
import signal
import traceback
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def in_child(job: Callable[[], Result], seconds: float = 20) -> Result:
    """What `job` returns in a forked child; AssertionError if the child fails, hangs or dies."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer: tuple[str, object] = ("", job())
        except BaseException:
            answer = (traceback.format_exc(), None)
        os.write(writing, pickle.dumps(answer))
        os._exit(0)
    os.close(writing)
    hangs = not select.select([reading], [], [], seconds)[0]
    if hangs:
        os.kill(child, signal.SIGKILL)
    answered = b"" if hangs else os.read(reading, 1 << 16)
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert answered, f"the child {'hangs' if hangs else f'died with status {status}'}"
    trouble, result = pickle.loads(answered)
    assert not trouble, trouble
    returned: Result = result
    return returned
