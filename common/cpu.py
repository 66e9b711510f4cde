"""How many of the processor's cores this process may use."""

import os


def usable_cores():
    """The number of cores that this process may use.

    Returns:
        int, 1 or more; only the cores that the process is pinned to, where the system says so.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
