"""What the server counts and measures, for Prometheus."""

import os
from types import SimpleNamespace

REQUEST_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)  # buckets
BATCH_IMAGES = tuple(2**power for power in range(11))  # buckets


def create():
    """Makes the metrics of one application, in a registry of its own.

    Where several processes share the folder PROMETHEUS_MULTIPROC_DIR, each reports the
    metrics of all. Label values are routes, statuses and the model's own names, so that no client
    can create new ones.

    Returns:
        A namespace of counters, histograms and gauges, and `text`, a function that returns all
        of them in Prometheus's text format, as bytes.

    Example:
        >>> metrics = create()
        >>> metrics.images.labels("answered").inc()
        >>> b'images_total{outcome="answered"} 1.0' in metrics.text()
        True
    """
    from prometheus_client import (
        CollectorRegistry,
        Counter,
        Gauge,
        Histogram,
        disable_created_metrics,
        generate_latest,
        multiprocess,
    )

    disable_created_metrics()  # the time at which a series began: nothing reads it
    registry = CollectorRegistry()
    metrics = SimpleNamespace(
        requests=Counter(
            "requests_total", "Requests answered", ("route", "status"), registry=registry
        ),
        seconds=Histogram(
            "request_seconds",
            "Time from a read request to its answer",
            ("route",),
            buckets=REQUEST_SECONDS,
            registry=registry,
        ),
        images=Counter("images_total", "Images received", ("outcome",), registry=registry),
        predictions=Counter(
            "predictions_total", "Images by their likeliest class", ("label",), registry=registry
        ),
        batch=Histogram(
            "batch_images",
            "Images that went through the model together",
            buckets=BATCH_IMAGES,
            registry=registry,
        ),
        queue=Gauge(
            "queue_images", "Images that wait", registry=registry, multiprocess_mode="livesum"
        ),
        drift=Gauge(
            "drift_distance",
            "Kolmogorov-Smirnov distance of the last 1,000 images to those calibrated on",
            ("of",),
            registry=registry,
            multiprocess_mode="livemax",
        ),
        model=Gauge(
            "model_info",
            "Processes that answer with this model",
            ("model", "runtime", "precision"),
            registry=registry,
            multiprocess_mode="livesum",
        ),
    )
    reported_registry = registry
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        reported_registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(reported_registry)
    metrics.text = lambda: generate_latest(reported_registry)
    return metrics
