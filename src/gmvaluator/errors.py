"""The exceptions that gmvaluator raises on purpose.

A message says, in this order, what was given, what is wanted and what to do. The command
line prints it as one line and exits with the class's `exit_code`. Where Python and the command line
do a thing by different words, `either` has the words of the reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_at_command_line = False


def either(python: str, command_line: str) -> str:
    """What a message tells its reader to write: `overwrite=True` in Python, or `--overwrite`."""
    return command_line if _at_command_line else python


def pass_overwrite() -> str:
    """`either`, for the option that every verb and function that writes a result has."""
    return either("pass overwrite=True", "pass --overwrite")


@contextmanager
def for_the_command_line() -> Iterator[None]:
    """Messages made meanwhile, in any thread, are for a reader at the command line."""
    global _at_command_line
    before, _at_command_line = _at_command_line, True
    try:
        yield
    finally:
        _at_command_line = before


class GMValuatorError(Exception):
    """Base of every error raised on purpose; catch this one to catch them all."""

    exit_code = 1


class InputError(GMValuatorError, ValueError):
    """The data or arguments cannot be used as given."""

    exit_code = 2


class SettingError(InputError, AttributeError):
    """A setting of a valuator is assigned; settings are passed when a valuator is made."""


class MovedError(InputError):
    """The images of a run or index are no longer where they were when it was made."""


class ImageError(InputError):
    """One image cannot be decoded; sets turn it into a `Skip` instead of failing."""


class MissingPackageError(GMValuatorError, ImportError):
    """An optional package that the chosen setting needs is not installed."""

    exit_code = 3


class MissingWeightsError(GMValuatorError):
    """Network weights are neither on disk nor reachable."""

    exit_code = 3


class ServiceError(GMValuatorError):
    """A service of `gmvaluator serve` cannot be reached, is busy, or fails."""


class CacheWarning(UserWarning):
    """The cache is damaged, or cannot be read or written; the run goes on, with the same results.

    Damaged content is computed again; content that cannot be written is not kept for later runs.
    """


class AddedWarning(UserWarning):
    """A set lists images that were not there when a run or index was made; they are left out."""


class PlotWarning(UserWarning):
    """A plot of a result cannot be drawn; its numbers and the other plots are written."""


class RunError(GMValuatorError):
    """A saved run or index cannot be read, does not match, or cannot be written."""

    exit_code = 4
