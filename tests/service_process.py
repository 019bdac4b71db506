"""A service in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.error import URLError
from urllib.request import urlopen

ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")


@dataclass
class Process:
    """A running service."""

    process: subprocess.Popen[str]
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self, seconds: float = 60) -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            try:
                with urlopen(f"{self.address}/readyz", timeout=5):
                    return
            except (URLError, ConnectionError, TimeoutError):
                assert self.process.poll() is None, "the service has ended"
                time.sleep(0.05)
        raise AssertionError("the service is not ready")


def start(*arguments: object, code: str = "") -> Process:
    """Start `gmvaluator serve ARGUMENTS` at a free port.

    Args:
        code: Python to run before.
    """
    words = ["gmvaluator", "serve", *map(str, arguments), "--port", "0"]
    program = f"{code}\nimport sys; sys.argv = {words!r}; from gmvaluator.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stderr=subprocess.PIPE,
        text=True,
        env={"OMP_NUM_THREADS": "1"} | os.environ,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    found = ADDRESS.match(line)
    if found is None:
        rest = process.communicate()[1]
        raise AssertionError(f"the service does not listen: {line}{rest}")
    return Process(process, int(found[1]))


@contextmanager
def running(*arguments: object, code: str = "") -> Iterator[Process]:
    """A service that is ready, until the block ends."""
    service = start(*arguments, code=code)
    try:
        service.wait_until_ready()
        yield service
    finally:
        end(service)


def end(service: Process) -> int:
    """End a service as Ctrl-C does; gives its exit code."""
    if service.process.poll() is None:
        service.process.terminate()
        try:
            service.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            service.process.kill()
    service.process.communicate()
    return service.process.returncode


def form(contents: Sequence[bytes], boundary: str = "b") -> bytes:
    """Pictures as the body of a form."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="{n}.png"\r\n'
        f"\r\n".encode()
        + content
        + b"\r\n"
        for n, content in enumerate(contents)
    ]
    return b"".join(parts) + f"--{boundary}--\r\n".encode()
