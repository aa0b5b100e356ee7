"""
Counts and times of HTTP responses by the web processes of this machine.

Counted in files that the processes of one ``manage.py serve`` share (prometheus_client's multiprocess mode, chosen by
the settings), so that any of them can answer ``/metrics`` for all.
"""

import os
from collections.abc import Iterator
from typing import Final

from django.http import HttpRequest
from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.multiprocess import MultiProcessCollector

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS: Final = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

own = CollectorRegistry()
requests = Counter("shopwire_http_requests", "Requests answered.", ["method", "route", "status"], registry=own)
seconds = Histogram(
    "shopwire_http_request_seconds", "Time to answer.", ["method", "route"], buckets=BUCKETS, registry=own
)


def count(request: HttpRequest, status: int, duration: float) -> None:
    """Count a response that took ``duration`` seconds. Labels are routes, never a client's input."""
    method = request.method if request.method in METHODS else "other"
    match = request.resolver_match
    route = match.route if match else "none"
    requests.labels(method, route, str(status)).inc()
    seconds.labels(method, route).observe(duration)


def collect() -> Iterator[Metric]:
    """Yield the counts of all web processes that share this process's files; without files, only its own."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        yield from own.collect()
        return
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    yield from shared.collect()
