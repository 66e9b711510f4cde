"""A server of a benchmark: started, waited for, ended."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request

from benchmarks.inference import ROOT


@contextlib.contextmanager
def running(words, port, log=subprocess.DEVNULL):
    """A context with the process of a server that is ready, ended with it.

    Args:
        words: of its command.
        port: that it is told to listen on.
        log: where its output goes.
    """
    process = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_ready(port, process)
        yield process
    finally:
        end(process)


def end(process):
    """Ends a server that was started here, and the processes that it has started.

    LitServe's worker outlives SIGTERM and its parent, and takes a whole core from who comes next.
    """
    with contextlib.suppress(ProcessLookupError):  # where it has ended by itself
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with contextlib.suppress(ProcessLookupError):  # where nothing of it is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def wait_ready(port, process, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"{process.args}: ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"{process.args}: not ready within {seconds} s")
