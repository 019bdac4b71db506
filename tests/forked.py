"""Child processes that begin with imported packages, so that they start at once."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import select
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")


def forked(
    work: Callable[..., object], *arguments: object, output: Path | None = None
) -> BaseProcess:
    """A child of this process that does `work`, to be interrupted and killed.

    The child sees what is patched here. Torch's autograd may refuse to work in it: see `started`.

    Args:
        work: what the child does; `SystemExit` sets its exit code.
        arguments: of `work`.
        output: file that takes the child's standard output and error; None: they are dropped.
    """
    return _start(multiprocessing.get_context("fork"), work, arguments, output)


def started(
    work: Callable[..., object], *arguments: object, output: Path | None = None
) -> BaseProcess:
    """As `forked`, of a server that has the package imported and has computed nothing.

    Args:
        work: a function of a module.
        arguments: can be pickled.
        output: see `forked`.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["torch", "gmvaluator", "gmvaluator.generators.training"])
    return _start(server, work, arguments, output)


def _start(
    context: Any, work: Callable[..., object], arguments: tuple[object, ...], output: Path | None
) -> BaseProcess:
    process: BaseProcess = context.Process(target=_redirected, args=(output, work, arguments))
    process.start()
    return process


def _redirected(
    output: Path | None, work: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    target = os.open(output or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(target, stream)
    # pytest has put streams of its own in their places
    sys.stdout = sys.stderr = os.fdopen(target, "w", buffering=1, encoding="utf-8")
    work(*arguments)


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
