"""What a server counts, for Prometheus."""

import os
from types import SimpleNamespace

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


def create():
    """The metrics of one application, in a registry of its own.

    Of several processes, which share the folder PROMETHEUS_MULTIPROC_DIR, any one answers for
    all. Values of labels are routes, statuses and the model's own names, so that no client can
    make up new ones.

    Returns:
        A namespace with the metrics, and `text`, a function that gives them as bytes.
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

    disable_created_metrics()  # when each series began: nothing reads it
    registry = CollectorRegistry()
    metrics = SimpleNamespace(
        requests=Counter(
            "requests_total", "Requests answered", ("route", "status"), registry=registry
        ),
        seconds=Histogram(
            "request_seconds",
            "Time from a read request to its answer",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        ),
        images=Counter("images_total", "Images received", ("outcome",), registry=registry),
        predictions=Counter(
            "predictions_total", "Images by their likeliest class", ("label",), registry=registry
        ),
        batch=Histogram(
            "batch_images",
            "Images that went through the model together",
            buckets=[2**power for power in range(11)],
            registry=registry,
        ),
        queue=Gauge(
            "queue_images", "Images that wait", registry=registry, multiprocess_mode="livesum"
        ),
        model=Gauge(
            "model_info",
            "Processes that answer with this model",
            ("model", "runtime", "precision"),
            registry=registry,
            multiprocess_mode="livesum",
        ),
    )
    shared = registry
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        shared = CollectorRegistry()
        multiprocess.MultiProcessCollector(shared)
    metrics.text = lambda: generate_latest(shared)
    return metrics
