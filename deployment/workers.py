"""Several processes that serve, each with its own copy of the model, and their supervisor.

For Linux alone: the processes are forks that share a socket.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback

from common.errors import InputError, RunError
from deployment.log import log

# Seconds after which a process that does not end is killed: more than it gives its requests
# (`server.SHUTDOWN`), less than systemd and Compose give all (35).
PATIENCE = 33
FIRST_PAUSE, LONGEST_PAUSE = 1, 30  # seconds before a process that died is replaced
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Supervisor:
    """Runs processes that accept connections from the same socket.

    A process that dies is replaced, after a pause that doubles each time. SIGTERM, SIGINT and
    SIGHUP are passed on. The processes share their metrics through a folder
    (PROMETHEUS_MULTIPROC_DIR).

    Args:
        count: int, number of processes.
        listeners: list of sockets that listen.
        work: function that each process runs. It takes a function to call when the process is
            ready, with a dict that JSON can hold.
        announce: function called once, with the first process's dict, when all are started.
    """

    def __init__(self, count, listeners, work, announce):
        self._count, self._listeners = count, listeners
        self._work, self._announce = work, announce
        self._running = {}  # process id -> index of the process
        self._due = dict.fromkeys(range(1, count), 0.0)  # index -> time to start it
        self._pauses = dict.fromkeys(range(count), FIRST_PAUSE)
        self._started_at = {}
        self._about = None  # the first process's dict until it is announced
        self._report_end = None  # of the pipe on which the first process says that it is ready
        self._kill_at = None  # set when the processes were told to end

    def run(self):
        """Starts the processes and looks after them until all have ended.

        Raises:
            InputError, RunError: the first process did not become ready.
        """
        metrics_folder = tempfile.mkdtemp(prefix="metrics-")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics_folder
        # Signals are waited for in one place, so that none interrupts anything else.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self._supervise()
        finally:
            # A signal that is pending or still comes would end a process that ended well.
            for signal_number in SIGNALS:
                signal.signal(signal_number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            shutil.rmtree(metrics_folder, ignore_errors=True)

    def _supervise(self):
        # After PROMETHEUS_MULTIPROC_DIR is set, which it reads on import, and before any fork.
        from prometheus_client.multiprocess import mark_process_dead

        self._lifeline = os.pipe()  # never written to; it closes when this process ends
        self._start_first()
        while self._running or self._kill_at is None:
            if self._report_end is None:
                self._start_due()
            elif select.select([self._report_end], [], [], 0)[0]:
                self._about = self._read_report()
            if self._about and len(self._running) == self._count:
                self._announce(self._about)
                self._about = None
            # Signals are looked for while the first process loads its model, too.
            signal_info = signal.sigtimedwait(SIGNALS, 1 if self._report_end is None else 0.05)
            self._pass_on(signal_info.si_signo if signal_info else None)
            self._reap(mark_process_dead)

    def _start_first(self):
        """Starts process 0, which reports on a pipe that it is ready."""
        self._report_end, writing_end = os.pipe()
        self._start(0, writing_end)
        os.close(writing_end)

    def _read_report(self):
        """The dict that process 0 reports; it is not started again where it has failed."""
        report = json.loads(os.read(self._report_end, 1 << 16) or b"null")
        os.close(self._report_end)
        self._report_end = None
        if report is None and self._kill_at is not None:  # told to end before it was ready
            return None
        report = report or {"error": "the first process ended before it was ready", "status": 1}
        if "error" in report:
            error_class = InputError if report["status"] == InputError.status else RunError
            raise error_class(report["error"])
        return report

    def _start_due(self):
        now = time.monotonic()
        due_now = [index for index, start_at in self._due.items() if start_at <= now]
        for index in due_now:
            del self._due[index]
            self._start(index)

    def _start(self, index, report_end=None):
        process_id = self._fork(index, report_end)
        self._running[process_id] = index
        self._started_at[index] = time.monotonic()

    def _pass_on(self, received):
        """Passes a signal on to all processes, and kills those that do not end in time."""
        if received in ENDING_SIGNALS and self._kill_at is None:
            self._kill_at = time.monotonic() + PATIENCE
            self._due.clear()
            for listener in self._listeners:
                listener.close()
        if received in ENDING_SIGNALS:
            self._send(signal.SIGTERM)
        elif received == signal.SIGHUP:
            self._send(signal.SIGHUP)
        if self._kill_at and time.monotonic() > self._kill_at:
            self._send(signal.SIGKILL)

    def _send(self, signal_number):
        for process_id in self._running:
            os.kill(process_id, signal_number)

    def _reap(self, mark_process_dead):
        """Takes note of the processes that have ended."""
        while self._running:
            process_id, wait_status = os.waitpid(-1, os.WNOHANG)
            if not process_id:
                break
            index = self._running.pop(process_id)
            mark_process_dead(process_id)
            if self._kill_at is None and (index or self._report_end is None):
                self._replace_later(index, process_id, os.waitstatus_to_exitcode(wait_status))

    def _replace_later(self, index, process_id, exit_status):
        now = time.monotonic()
        if now - self._started_at[index] > 2 * LONGEST_PAUSE:
            self._pauses[index] = FIRST_PAUSE
        pause = self._pauses[index]
        log(f"process {process_id} ended with status {exit_status}; it is replaced in {pause} s")
        self._due[index] = now + pause
        self._pauses[index] = min(2 * pause, LONGEST_PAUSE)

    def _fork(self, index, report_end):
        """Starts a process; returns its id.

        `report_end` is the writing end of a pipe for its report as JSON, or None.
        """
        process_id = os.fork()
        if process_id:
            return process_id
        exit_status = 1
        try:
            self._prepare_process(index)
            exit_status = self._work_and_report(report_end)
        except SystemExit as error:
            exit_status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            log(traceback.format_exc())
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(exit_status)

    def _prepare_process(self, index):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        os.close(self._lifeline[1])
        lifeline_end = self._lifeline[0]
        threading.Thread(target=_end_with_supervisor, args=(lifeline_end,), daemon=True).start()
        cores = sorted(os.sched_getaffinity(0))  # runtimes start as many threads as they see cores
        own_cores = cores[index :: self._count] or {cores[index % len(cores)]}
        os.sched_setaffinity(0, own_cores)

    def _work_and_report(self, report_end):
        """Runs `work` to its end; returns the process's exit status."""

        def report(about):
            nonlocal report_end
            if report_end is not None:
                os.write(report_end, json.dumps(about).encode())
                os.close(report_end)
                report_end = None

        try:
            self._work(report)
        except (InputError, RunError) as error:
            if report_end is None:
                log(str(error))
            report({"error": str(error), "status": error.status})
            return error.status
        return 0


def _end_with_supervisor(lifeline_end):
    os.read(lifeline_end, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    # What is counted goes on in files that are open; nobody is left to remove them later.
    shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
