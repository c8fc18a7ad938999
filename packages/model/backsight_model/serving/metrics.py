"""What the service counts, for Prometheus."""

import os
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder in which several workers count together; set before this is imported."""

REQUESTS: Final = Counter("backsight_requests", "Requests by route and status.", ["route", "status"])
SECONDS: Final = Histogram(
    "backsight_request_seconds",
    "How long an answer took.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0),
)
REFUSED: Final = Counter("backsight_refused", "Forecasts refused, by the kind of error.", ["kind"])
BAR_AGE: Final = Gauge(
    "backsight_bar_age_seconds",
    "Time since the close of the newest bar that a forecast was made from.",
    ["symbol"],
    multiprocess_mode="mostrecent",
)
BROKEN: Final = Gauge(
    "backsight_promotion_unreadable",
    "1 where the newest promoted bundle cannot be read, and the one before is still in use.",
    multiprocess_mode="max",
)


def text() -> bytes:
    """Return all of it in Prometheus' text format, summed over the workers."""
    if SHARED not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
