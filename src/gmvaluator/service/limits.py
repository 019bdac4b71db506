"""The limits of a service: sizes, numbers, times and rates."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one request, one client and all of them together may take.

    Attributes:
        match_bytes, job_bytes: largest body of a request to match or to value, in bytes.
        match_files, job_files: largest number of pictures in such a request.
        match_seconds, job_seconds: time in which the body must have come.
        header_seconds: time in which the head of a request must have come.
        waiting: pictures that may wait to be matched, of all requests together.
        together: pictures that are matched at once.
        jobs_waiting: jobs that may wait or run.
        jobs_bytes: bytes that all jobs may take on the disk.
        attempts: times that a job is begun, where the process ends meanwhile.
        rate, burst: requests that one client may send, a second and at once.
        connections: open connections.
    """

    match_bytes: int = 32 * MIB
    job_bytes: int = 512 * MIB
    match_files: int = 32
    job_files: int = 10_000
    match_seconds: float = 20.0
    job_seconds: float = 600.0
    header_seconds: float = 10.0
    waiting: int = 128
    together: int = 32
    jobs_waiting: int = 16
    jobs_bytes: int = 20 * 1024 * MIB
    attempts: int = 3
    rate: float = 100.0
    burst: int = 200
    connections: int = 512
