"""Several processes that serve, each with a model of its own, and one that looks after them."""

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback

from common.console import say
from common.errors import InputError, RunError

PATIENCE = 40  # seconds after which a process that does not end is killed
FIRST_PAUSE, LONGEST_PAUSE = 1, 30  # seconds before a process that died is replaced
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM)


def supervise(count, listener, work, announce):
    """Runs `count` processes that accept connections from the same socket.

    A process that dies is replaced, after a pause that doubles each time. SIGTERM and SIGHUP are
    passed on. They count together in a folder of their own (PROMETHEUS_MULTIPROC_DIR).

    Args:
        count: number of processes.
        listener: a socket that listens.
        work: function of one process, which takes a function to call, with a dict, when it is
            ready.
        announce: function called with the first one's dict when all have been started.

    Raises:
        RunError: the first process did not become ready.
    """
    folder = tempfile.mkdtemp(prefix="metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    # Waited for in one place, so that none comes at a bad time.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    try:
        _supervise(count, listener, work, announce)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in SIGNALS:  # one that waits, or still comes, would end what ended well
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        shutil.rmtree(folder, ignore_errors=True)


def _supervise(count, listener, work, announce):
    from prometheus_client.multiprocess import mark_process_dead

    lifeline = os.pipe()  # nothing is written; that it ends tells of this process's end
    running, due = {}, dict.fromkeys(range(1, count), 0.0)  # pid -> number, number -> when
    pauses, began = dict.fromkeys(range(count), FIRST_PAUSE), {}

    def start(number, ready=None):
        running[_fork(number, count, work, lifeline, ready)] = number
        began[number] = time.monotonic()

    reading, ready = os.pipe()
    start(0, ready)
    os.close(ready)
    about = json.loads(os.read(reading, 1 << 16) or b'{"error": "failed", "status": 1}')
    os.close(reading)
    if "error" in about:
        raise (InputError if about["status"] == InputError.status else RunError)(about["error"])
    killed_at = None
    while running or killed_at is None:
        now = time.monotonic()
        for number in [number for number, when in due.items() if when <= now]:
            del due[number]
            start(number)
        if about and len(running) == count:
            announce(about)
            about = None
        received = signal.sigwait(SIGNALS)
        if received in (signal.SIGTERM, signal.SIGINT) and killed_at is None:
            killed_at = time.monotonic() + PATIENCE
            due.clear()
            listener.close()
        if received in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            _send(running, signal.SIGHUP if received == signal.SIGHUP else signal.SIGTERM)
        if killed_at and time.monotonic() > killed_at:
            _send(running, signal.SIGKILL)
        while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended[0], os.waitstatus_to_exitcode(ended[1])
            number = running.pop(pid)
            mark_process_dead(pid)
            if killed_at is None:
                if time.monotonic() - began[number] > 2 * LONGEST_PAUSE:
                    pauses[number] = FIRST_PAUSE
                say(
                    f"process {pid} ended with status {status}; another takes its place in "
                    f"{pauses[number]} s"
                )
                due[number] = time.monotonic() + pauses[number]
                pauses[number] = min(2 * pauses[number], LONGEST_PAUSE)


def _send(running, number):
    for pid in running:
        os.kill(pid, number)


def _fork(number, count, work, lifeline, ready):
    """Starts a process; gives its id.

    `ready` is None or the descriptor that takes, as JSON, what `work` tells or why it cannot.
    """
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        os.close(lifeline[1])
        threading.Thread(target=_end_with, args=(lifeline[0],), daemon=True).start()
        if hasattr(os, "sched_setaffinity"):  # what computes takes as many threads as cores
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, cores[number::count] or {cores[number % len(cores)]})

        def tell(about):
            nonlocal ready
            if ready is not None:
                os.write(ready, json.dumps(about).encode())
                os.close(ready)
                ready = None

        try:
            work(tell)
            status = 0
        except (InputError, RunError) as error:
            status = error.status
            if ready is None:
                say(str(error))
            tell({"error": str(error), "status": status})
    except SystemExit as error:
        status = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def _end_with(lifeline):
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)
