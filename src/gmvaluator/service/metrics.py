"""Counts of a service, as Prometheus reads them."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The counts of one service; each service has its own registry."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "gmvaluator_requests",
            "Requests by address, method and status.",
            ("address", "method", "status"),
            registry=registry,
        )
        self.seconds = Histogram(
            "gmvaluator_request_seconds",
            "Seconds from the head of a request to the end of its answer.",
            ("address",),
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            registry=registry,
        )
        self.matched = Counter("gmvaluator_matched", "Pictures matched.", registry=registry)
        self.together = Histogram(
            "gmvaluator_matched_together",
            "Pictures matched at once.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=registry,
        )
        self.waiting = Gauge(
            "gmvaluator_waiting", "Pictures that wait to be matched.", registry=registry
        )
        self.jobs = Gauge("gmvaluator_jobs", "Jobs by state.", ("state",), registry=registry)

    def text(self) -> bytes:
        """All counts."""
        return generate_latest(self._registry)
