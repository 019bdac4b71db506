"""What threads and forked processes share: locks, filters of warnings, the threads of OpenMP.

A forked child has one thread, the one that forked. Locks of this package that other threads held
are free in the child. Locks within torch are not: a fork waits until no thread builds a network
(`BUILDING`). torch and faiss compute in one thread in the child: libgomp, the OpenMP of their
wheels, would wait for ever for threads that the child does not have.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import warnings
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast


class Lock:
    """A reentrant lock, used by `with`. It is free in a forked child and after unpickling."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Lock], tuple[()]]:
        return Lock, ()

    def acquire(self, timeout: float) -> bool:
        """Whether the lock was free within so many seconds; it is then held."""
        return self._lock.acquire(timeout=timeout)

    def free_in_child(self) -> None:
        """Forget the thread that held the lock at the fork, unless that thread forked."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock = threading.RLock()


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()
BUILDING = Lock()
"""Held while a network is built or compiled: one at a time in a process, and none at a fork."""
FORK_WAITS_SECONDS = 30
"""How long a fork waits for `BUILDING` at most."""
_forking = threading.local()
_filters_lock = Lock()
_filter_users: Counter[tuple[Any, ...]] = Counter()
_forked = False


@contextmanager
def ignored(category: type[Warning], module: str | None = None) -> Iterator[None]:
    """Drop warnings of a category for a while, in all threads.

    `warnings.catch_warnings` restores the filters of whichever thread ends last, so it breaks
    the user's filters among threads. One entry, counted under a lock, leaves them as they were. The
    list is changed directly, since `filterwarnings` makes Python forget which warnings it has
    shown.

    Args:
        category: of the warnings.
        module: regular expression that the name of the warning module begins with. Default: any.
    """
    entry = ("ignore", None, category, re.compile(module) if module else None, 0)
    with _filters_lock:
        _filter_users[entry] += 1
        filters = cast("list[Any]", warnings.filters)
        if filters[:1] != [entry]:
            filters.insert(0, entry)
    try:
        yield
    finally:
        with _filters_lock:
            _filter_users[entry] -= 1
            filters = cast("list[Any]", warnings.filters)
            while not _filter_users[entry] and entry in filters:
                filters.remove(entry)


def in_forked_child() -> bool:
    """Whether this process was forked, so that torch can have one thread only."""
    return _forked


def _before_fork() -> None:
    _forking.holds = BUILDING.acquire(FORK_WAITS_SECONDS)


def _after_fork() -> None:
    if _forking.holds:
        BUILDING.__exit__()


def _in_child() -> None:
    global _forked
    _forked = True
    for lock in list(_locks):
        lock.free_in_child()
    for package, limit in (("torch", "set_num_threads"), ("faiss", "omp_set_num_threads")):
        # absent unless the parent had imported the package
        set_threads = getattr(sys.modules.get(package), limit, None)
        if set_threads is not None:
            set_threads(1)
    _after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
