"""How many of the processor's cores this process may use."""

import os


def usable():
    """Number of cores, 1 or more: those it is pinned to, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
