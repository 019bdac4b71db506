"""Compiled networks: each compiled once a process, and anew in a forked child.

Converting and compiling takes seconds. torch also keeps every module that it ever traced, some
40 MB each. So encoders of the same network share one compiled network, by its key. A network lives
while an encoder uses it; the last `KEPT` live on for encoders to come.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import weakref
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gmvaluator.threads import BUILDING, Lock

KEPT = 4
Infer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Compiled:
    """A compiled network; threads that run it take turns.

    A second batch at the same time would gain nothing: one batch uses all processors.
    """

    def __init__(self, infer: Infer) -> None:
        self._infer = infer
        self._lock = Lock()
        self._process = os.getpid()

    @property
    def usable(self) -> bool:
        """Whether this process compiled it: the threads of a network do not survive a fork."""
        return self._process == os.getpid()

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._lock:
            return self._infer(pixels)


_living: weakref.WeakValueDictionary[str, Compiled] = weakref.WeakValueDictionary()
_recent: deque[Compiled] = deque(maxlen=KEPT)


def compile_once(key: str, compile_now: Callable[[], Infer]) -> Compiled:
    """The compiled network of a key; `compile_now` runs if this process has none.

    One network is compiled at a time: neither torch nor OpenVINO can trace in two threads.
    """
    with BUILDING:
        network = _living.get(key)
        if network is None:
            network = _living[key] = Compiled(compile_now())
        elif network in _recent:
            _recent.remove(network)
        _recent.append(network)
        return network


def _never_destroy() -> None:
    """Keep all networks: in a forked child, destroying one waits for threads of the parent."""
    for network in list(_living.values()):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(network))


def _in_child() -> None:
    global _living
    _never_destroy()
    _living = weakref.WeakValueDictionary()
    _recent.clear()
    # networks of the child are built on libraries that lost their threads
    atexit.register(_never_destroy)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_in_child)
